"""The studies of configs/studies, and the form of study files."""

from collections import defaultdict
from copy import deepcopy
from functools import cache
from pathlib import Path

import pytest
import yaml
from mmengine.config import Config

ROOT = Path(__file__).parents[3]
STUDIES = sorted((ROOT / 'configs/studies').glob('*.yml'))
read = cache(Config.fromfile)


def read_option(cfg, key):
    for name in key.split('.'):
        cfg = cfg[int(name) if isinstance(cfg, list) else name]
    return list(cfg) if isinstance(cfg, tuple) else cfg


@pytest.mark.parametrize('path', STUDIES, ids=lambda path: path.stem)
def test_options_reach_configs_with_equal_schedules(path, study_tools):
    study = study_tools['study'].load_study(path)
    assert study.start is None or (ROOT / study.start).is_file()
    schedules, expected_lr = defaultdict(list), None
    for variant in study.variants.values():
        if not variant.config:  # trained elsewhere
            continue
        for name in (*variant.evaluations, None):
            options = dict(variant.options)
            if name is not None:
                options.update(study.evaluations[name]['options'])
            cfg = deepcopy(read(ROOT / variant.config))
            cfg.merge_from_dict(options)
            for key, value in options.items():
                found = read_option(cfg, key)
                assert found == value and type(found) is type(value), key
        if study.name == 'cifar10_batch_size':
            batch = cfg.train_dataloader.pop('batch_size')
            expected_lr = 0.1 * batch / 128
        if study.name == 'cifar10_ba2m_settings':
            rules = cfg.optim_wrapper.pop('paramwise_cfg', {})
            assert set(rules.get('custom_keys', {})) <= {'ba2m'}
        if study.name.endswith('_resnet50_gpu'):
            decay = cfg.optim_wrapper.optimizer.pop('weight_decay')
            assert decay == (1e-4 if '1e-4' in variant.name else 5e-4)
        lr = cfg.optim_wrapper.optimizer.pop('lr')
        expected_lr = expected_lr or lr
        change = 1 + 1e-5 * variant.name.endswith('_again')
        assert lr == pytest.approx(expected_lr * change, rel=1e-12)
        names = 'train_dataloader', 'val_dataloader', 'train_cfg'
        names += 'optim_wrapper', 'param_scheduler'
        # detectors of one stage take longer than those of two
        schedules[cfg.model.type].append([cfg[name] for name in names])
    for schedule, *others in schedules.values():
        assert others and all(other == schedule for other in others)


def test_records_of_another_study_are_of_the_same_training(study_tools):
    load = study_tools['study'].load_study
    describe = study_tools['study'].describe_training
    for path in STUDIES:
        study = load(path)
        for name, variant in study.variants.items():
            if variant.records_of:
                other = load(path.parent / f'{variant.records_of}.yml')
                described = describe(other, other.variants[name])
                assert describe(study, variant) == described, (path, name)


def test_order_is_seed_by_seed(study_tools, toy):
    variants = dict(plain=None, late=dict(seeds=[1, 3]), ba2m=None)
    path = toy.write(seeds=[0, 1], variants=variants)
    runs = study_tools['study'].load_study(path).list_runs()
    assert [(variant.name, seed) for variant, seed in runs] == [
        *[('plain', 0), ('ba2m', 0)],
        *[('plain', 1), ('late', 1), ('ba2m', 1), ('late', 3)],
    ]


def test_a_study_inherits_from_its_base(study_tools, toy):
    toy.write('base', seeds=[0, 1])
    heir = dict(_base_='base.yml', title='Heir', seeds=[2], options={'a.b': 1})
    heir['variants'] = dict(ba2m=dict(label='other'), new=None)
    path = toy.folder / 'heir.yml'
    path.write_text(yaml.safe_dump(heir))
    study = study_tools['study'].load_study(path)
    assert (study.name, study.title, study.seeds) == ('heir', 'Heir', [2])
    assert [*study.variants] == ['plain', 'ba2m', 'new']
    variant = study.variants['ba2m']
    assert (variant.label, variant.seeds) == ('other', [2])
    own = toy.study['variants']['ba2m']
    assert variant.options == {'a.b': 1, **own['options']}
    assert variant.evaluations == own['evaluations']
    assert study.metrics[0].label == 'accuracy, %'


def test_records_of_another_study_are_read_and_not_run(study_tools, toy):
    module = study_tools['study']
    path = toy.write(variants=dict(plain=dict(records_of='first'), own=None))
    study = module.load_study(path)
    assert [variant.name for variant, _ in study.list_runs()] == ['own']
    record = toy.folder / 'first/plain/seed0.json'
    record.parent.mkdir(parents=True)
    record.write_text('{"seed": 0}')
    assert module.read_records(toy.folder, study) == {
        'plain': {0: {'seed': 0}},
        'own': {},
    }


@pytest.mark.parametrize(
    'changes, message',
    [
        (dict(reference='none'), "'plain' has none, which the study does not"),
        (dict(evaluations={}), "'ba2m' has off, which the study does not"),
        (dict(config=None), "'plain' has no config"),
        (dict(seed=3), "unexpected keyword argument 'seed'"),
        (dict(variants=dict(plain=dict(option=3))), "argument 'option'"),
        ('title: no variants', 'missing.*metrics'),
        ('', ''),
        ('a: [', 'while parsing'),
        ('title: !!python/object/apply:os.getcwd []', 'could not determine'),
    ],
)
def test_wrong_study_is_refused_with_its_name(
    toy, study_tools, changes, message
):
    if isinstance(changes, dict):
        path = toy.write('odd', **changes)
    else:
        path = toy.folder / 'odd.yml'
        path.write_text(changes)
    with pytest.raises(ValueError, match=rf'odd\.yml: .*{message}'):
        study_tools['study'].load_study(path)
