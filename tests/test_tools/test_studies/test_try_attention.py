"""The table of attention modules for a config of one's own."""

import json
import math
import sys

import pytest
from mmengine.config import Config
from tool_runs import ROOT

pytest.importorskip('mmpretrain')

#: what a run does here instead of training: SE is better by 2, ECA by chance
CHILD = """
import json, pathlib, sys
option = dict(zip(sys.argv[1::2], sys.argv[2::2]))
variant, seed = option['--variant'], int(option['--seed'])
gain = dict(plain=0, plain_again=(-1) ** seed, SE=2 + seed / 10)
with open(option['EXPECTED']) as file:
    record = json.load(file)[variant]
value = 50 + seed + gain.get(variant, (-2) ** seed)
record['metrics'] = {'accuracy/top1': value}
more = variant == 'SE'
record['cost'] = dict(
    parameters=100 + 10 * more, multiply_adds=1e6, iteration_seconds=1 + more
)
folder = pathlib.Path(option['--results'], 'study', variant)
folder.mkdir(parents=True, exist_ok=True)
(folder / f'seed{seed}.json').write_text(json.dumps(record))
"""
PLAIN = ROOT / 'configs/studies/resnet18_small_cifar10.py'


@pytest.fixture
def tool(study_tools):
    return study_tools['try_attention']


def test_options_fit_the_backbone(tool):
    """Of two stages frozen and norms frozen: no module of no use."""
    cfg = Config.fromfile(
        ROOT / 'configs/studies/faster-rcnn_r50_thin_bccd.py'
    )
    cfg.model.backbone.type = 'ResNet'
    slot = 'model.backbone.attention'
    expected = {
        'model.backbone.type': 'mmba2m.AttentionBackbone',
        'model.backbone.base': 'ResNet',
        f'{slot}.type': 'CBAM',
        f'{slot}.stages': [False, True, True, True],
        f'{slot}.norm_cfg.type': 'mmba2m.RunningBN',
    }
    assert tool.make_variant(cfg, 'CBAM')['options'] == expected
    assert [*tool.make_variant(cfg, 'BA2M')['options']] == [*expected][:3]
    cfg.model.backbone.update(norm_eval=False, frozen_stages=-1)
    assert [*tool.make_variant(cfg, 'CBAM')['options']] == [*expected][:3]


@pytest.mark.parametrize(
    ('evaluator', 'name', 'expected'),
    [
        (dict(type='CocoMetric'), None, 'coco/bbox_mAP'),
        ([dict(type='mmba2m.VOCMetric')], None, 'pascal_voc/mAP'),
        (dict(type='Accuracy'), 'accuracy/top5', 'accuracy/top5'),
    ],
)
def test_metric_is_the_evaluators_or_the_named_one(
    tool, evaluator, name, expected
):
    cfg = Config(dict(val_evaluator=evaluator))
    assert [*tool.find_metric(cfg, name)] == [expected]


def test_what_does_not_fit_is_refused(tool, tmp_path):
    for change, message in (
        ({'model.backbone.attention.type': 'SE'}, 'has attention already'),
        ({'val_evaluator.type': 'Own'}, r"evaluators \['Own'\]: name one"),
    ):
        args = [str(PLAIN), '--work-dir', str(tmp_path / 'out')]
        options = [f'{key}={value}' for key, value in change.items()]
        with pytest.raises(ValueError, match=message):
            parsed = tool.parse_args([*args, '--cfg-options', *options])
            cfg = Config.fromfile(PLAIN)
            cfg.merge_from_dict(parsed.cfg_options)
            tool.make_study(parsed, cfg, tmp_path / 'config.py')
    parsed = tool.parse_args([str(PLAIN), '--modules', 'SE', 'Nothing'])
    with pytest.raises(ValueError, match='Nothing does not fit: there is no'):
        tool.make_study(parsed, Config.fromfile(PLAIN), tmp_path / 'config.py')


def test_plan_and_shorter_schedule(study_tools):
    module = study_tools['plan']
    # 4 variants of 1 h, two at a time: 10 h, 8 h, 6 h for 5, 4, 3 seeds
    assert module.plan(1, 4, 2, 10) == (5, 1)
    assert module.plan(1, 4, 2, 9.9) == (4, 1)
    assert module.plan(1, 4, 2, 3) == (3, 0.5)
    with pytest.raises(ValueError, match=r'take 1\.5 hours: name fewer'):
        module.plan(1, 4, 2, 1)
    warm_up = dict(type='LinearLR', by_epoch=False, end=50)
    steps = dict(type='MultiStepLR', begin=0, end=12, milestones=[8, 11])
    cosine = dict(type='CosineAnnealingLR', T_max=12, by_epoch=True)
    loop = dict(max_epochs=12, val_interval=4)
    cfg = Config(
        dict(train_cfg=loop, param_scheduler=[warm_up, steps, cosine])
    )
    module.shorten(cfg, 0.25)
    assert cfg.train_cfg == dict(max_epochs=3, val_interval=3)
    assert cfg.param_scheduler[0] == warm_up
    assert cfg.param_scheduler[1] == dict(steps, end=3, milestones=[2, 3])
    assert cfg.param_scheduler[2] == dict(cosine, T_max=3)
    # of Student's t with 2 degrees of freedom
    assert module.visible_effect(3) == pytest.approx(
        4.3027 / math.sqrt(3), 1e-4
    )


def test_time_of_a_run(study_tools, toy, monkeypatch):
    module = study_tools['plan']
    for name, value in toy.env.items():
        monkeypatch.setenv(name, value)
    cfg = Config.fromfile(toy.draw().config)
    before = cfg.pretty_text

    def take(loader, call):
        call(next(iter(loader)))  # it works
        return {3: 2.0, 1: 5.0}[len(loader)]

    monkeypatch.setattr(module, '_time', take)
    # 3 epochs of 3 batches, each with a validation of one batch
    assert module.time_run(cfg, toy.folder / 'time') == 3 * (3 * 2 + 5)
    assert cfg.pretty_text == before


def test_table_and_sentences(tool, study_tools, tmp_path, monkeypatch, capsys):
    out, expected = tmp_path / 'out', tmp_path / 'expected.json'
    monkeypatch.setattr(tool, 'check_data', lambda *_: None)
    command = [sys.executable, '-c', CHILD, 'EXPECTED', str(expected), 'STUDY']
    monkeypatch.setattr(study_tools['run'], 'COMMAND', command)
    write = tool.write_study

    def write_study(*args):
        write(*args)
        study = study_tools['study'].load_study(out / 'study.yml')
        describe = study_tools['study'].describe_training
        trainings = {k: describe(study, v) for k, v in study.variants.items()}
        expected.write_text(json.dumps(trainings))

    monkeypatch.setattr(tool, 'write_study', write_study)
    args = [str(PLAIN), '--modules', 'SE', 'ECA', '--work-dir', str(out)]
    assert tool.main(args) == 0
    text = capsys.readouterr().out
    table = (out / 'table.md').read_text()
    assert table in text and (out / 'figure.png').is_file()
    # mean 2.1, deviation 0.1: half of the interval is 4.303 · 0.1 / √3
    assert '| SE | 3 | 53.10 ± 1.10 | +2.10 (+1.85 to +2.35) | +10 ' in table
    assert table.count('2.00 × |') == 1
    assert 'SE: better than plain by +2.10 (+1.85 to +2.35), but not' in table
    assert 'ECA: no difference can be seen, ' in table
    # differences of plain again: 1, −1, 1
    assert 'Chance alone makes differences of ±1.15 between' in table

    assert tool.main([*args, '--seeds', '4']) == 0  # goes on
    assert '| SE | 4 |' in (out / 'table.md').read_text()
    rows = [tool.report.Row('SE', None, None, {'m': {0: 1.0, 1: 2.0, 2: 2.0}})]
    rows[0].reference = {'m': {0: 0.5, 1: 1.0, 2: 1.0}}
    again = tool.report.Row('again', None, None, rows[0].reference)
    text = tool.conclude(rows[0], again, 'm')
    assert 'nothing can be said, as plain again is plain' in text
    del rows[0].values['m'][2]
    assert 'fewer than three' in tool.conclude(rows[0], again, 'm')

    with pytest.raises(ValueError, match='has changed since'):
        tool.main([*args, '--cfg-options', 'train_cfg.max_epochs=3'])
