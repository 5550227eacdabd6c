"""The studies of configs/studies."""

import argparse
from copy import deepcopy
from functools import cache
from pathlib import Path

import pytest
import yaml
from mmengine.config import Config, DictAction

ROOT = Path(__file__).parents[3]
STUDIES = sorted((ROOT / 'configs/studies').glob('*.yml'))


@pytest.fixture(scope='module')
def load_cfg(study_tools):
    """Loads the config of a variant, with options as the runner gives them."""
    read = cache(Config.fromfile)

    def load(variant, options):
        parser = argparse.ArgumentParser()
        parser.add_argument('--cfg-options', nargs='+', action=DictAction)
        texts = study_tools['run'].format_options(options)
        args = parser.parse_args(['--cfg-options', 'a=1', *texts])
        cfg = deepcopy(read(ROOT / variant.config))
        cfg.merge_from_dict(args.cfg_options)
        return cfg

    return load


def read_option(cfg, key):
    for name in key.split('.'):
        cfg = cfg[int(name) if isinstance(cfg, list) else name]
    return list(cfg) if isinstance(cfg, tuple) else cfg


@pytest.mark.parametrize('path', STUDIES, ids=lambda path: path.stem)
def test_options_reach_configs_with_equal_schedules(
    path, study_tools, load_cfg
):
    study = study_tools['study'].load_study(path)
    assert study.start is None or (ROOT / study.start).is_file()
    schedules, expected_lr = [], None
    for variant in study.variants.values():
        if variant.config is None:  # trained elsewhere
            continue
        for name in (*variant.evaluations, None):
            options = dict(variant.options)
            if name is not None:
                options.update(study.evaluations[name]['options'])
            cfg = load_cfg(variant, options)
            for key, value in options.items():
                found = read_option(cfg, key)
                assert found == value and type(found) is type(value), key
        if study.name == 'cifar10_batch_size':
            batch = cfg.train_dataloader.pop('batch_size')
            expected_lr = 0.1 * batch / 128
        if study.name == 'cifar10_ba2m_settings':
            rules = cfg.optim_wrapper.pop('paramwise_cfg', {})
            assert set(rules.get('custom_keys', {})) <= {'ba2m'}
        lr = cfg.optim_wrapper.optimizer.pop('lr')
        expected_lr = expected_lr or lr
        change = 1 + 1e-5 * (variant.name == 'plain_again')
        assert lr == pytest.approx(expected_lr * change, rel=1e-12)
        schedules.append(
            (
                cfg.train_dataloader,
                cfg.val_dataloader,
                cfg.train_cfg,
                cfg.optim_wrapper,
                cfg.param_scheduler,
            )
        )
    assert len(schedules) > 1
    assert all(schedule == schedules[0] for schedule in schedules)


@pytest.mark.parametrize('path', STUDIES, ids=lambda path: path.stem)
def test_records_of_another_study_are_of_the_same_training(path, study_tools):
    module = study_tools['study']
    study = module.load_study(path)
    for variant in study.variants.values():
        if variant.records_of:
            other = module.load_study(
                path.parent / f'{variant.records_of}.yml'
            )
            described = module.describe_training(
                other, other.variants[variant.name]
            )
            assert module.describe_training(study, variant) == described


def test_order_is_seed_by_seed_within_a_group(study_tools, toy):
    path = toy.write(
        seeds=[0, 1],
        variants=dict(
            plain=None, ba2m=None, late=dict(seeds=[1, 3]), other=None
        ),
        order=[['plain', 'ba2m'], ['late', 'other']],
    )
    runs = study_tools['study'].load_study(path).list_runs()
    assert [(variant.name, seed) for variant, seed in runs] == [
        *[('plain', 0), ('ba2m', 0), ('plain', 1), ('ba2m', 1)],
        *[('other', 0), ('late', 1), ('other', 1), ('late', 3)],
    ]


def test_a_study_inherits_from_its_base(study_tools, toy):
    base = toy.write('base', seeds=[0, 1])
    path = base.with_name('heir.yml')
    path.write_text('_base_: base.yml\ntitle: Heir\nseeds: [2]\n')
    load = study_tools['study'].load_study
    expected = load(base)
    study = load(path)
    assert (study.name, study.title, study.seeds) == ('heir', 'Heir', [2])
    assert study.variants['plain'].seeds == [2]
    assert study.variants.keys() == expected.variants.keys()
    assert study.metrics == expected.metrics


def test_records_of_another_study_are_read_and_not_run(study_tools, toy):
    module = study_tools['study']
    path = toy.write(variants=dict(plain=dict(records_of='first'), own=None))
    study = module.load_study(path)
    assert [variant.name for variant, _ in study.list_runs()] == ['own']
    record = toy.results / 'first/plain/seed0.json'
    record.parent.mkdir(parents=True)
    record.write_text('{"seed": 0}')
    assert module.read_records(toy.results, study) == {
        'plain': {0: {'seed': 0}},
        'own': {},
    }


@pytest.mark.parametrize(
    'changes, message',
    [
        (dict(reference='none'), "the reference 'none' of 'plain' is none of"),
        (dict(evaluations={}), "'ba2m' has evaluations .'off'. that"),
        (dict(config=None), "'plain' has no config"),
        (dict(order=[['plain']]), 'order has .*plain.* but the variants'),
        (dict(seed=3), "unexpected keyword argument 'seed'"),
        (dict(variants=dict(plain=dict(option=3))), "argument 'option'"),
    ],
)
def test_wrong_study_is_refused_with_its_name(
    toy, study_tools, changes, message
):
    path = toy.write('odd', **changes)
    with pytest.raises(ValueError, match=f'odd.yml: .*{message}'):
        study_tools['study'].load_study(path)


def test_file_without_a_study_is_refused(study_tools, tmp_path):
    path = tmp_path / 'odd.yml'
    path.write_text(yaml.safe_dump(dict(title='no variants')))
    with pytest.raises(ValueError, match=r'odd\.yml: .*missing.*metrics'):
        study_tools['study'].load_study(path)
    path.write_text('')
    with pytest.raises(ValueError, match=r'odd\.yml'):
        study_tools['study'].load_study(path)
