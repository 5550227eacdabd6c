"""docs/faq.md: each message is brought about, and is what the page says."""

import json
import re
import runpy
import traceback
import warnings
from importlib import import_module
from types import SimpleNamespace

import pytest
import torch
from code_blocks import ROOT, read_blocks
from mmengine.config import Config
from mmengine.logging import HistoryBuffer
from mmengine.optim import MultiStepLR
from torch import nn

from mmba2m import HOSTS
from mmba2m.engine.hooks import TerminateOnNaNHook, TrainingChecksHook
from mmba2m.models.attentions.ba2m import BA2M
from mmba2m.checkpoints import stack
from mmba2m.checkpoints.checks import check_checkpoint, check_pretrained
from mmba2m.checkpoints.files import load_checkpoint
from mmba2m.data_checks import check_data

BLOCKS = [b for b in read_blocks('docs/faq.md') if b.language == 'text']
#: messages of stacks that are not installed here
ELSEWHERE = (
    "ModuleNotFoundError: No module named 'mmcv._ext'",
    'AssertionError: MMCV==2.2.0',
    'A module that was compiled using NumPy 1.x',
)
PRODUCERS = {}


def says(start):
    """Registers what brings about the message that starts so."""

    def register(function):
        PRODUCERS[start] = function
        return function

    return register


@pytest.fixture
def case(tmp_path, monkeypatch):
    for layer in (nn.modules.conv._ConvNd, nn.Linear):
        monkeypatch.setattr(layer, 'reset_parameters', lambda self: None)
    monkeypatch.chdir(tmp_path)
    return SimpleNamespace(path=tmp_path, patch=monkeypatch)


@pytest.mark.parametrize('block', BLOCKS, ids=str)
def test_message(block, case):
    if block.text.startswith(ELSEWHERE):
        return
    (start,) = (s for s in PRODUCERS if block.text.startswith(s))
    messages = []
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter('always')
        try:
            messages.append(PRODUCERS[start](case) or '')
        except Exception as error:
            messages += traceback.format_exception_only(error)
    messages += [f'{w.category.__name__}: {w.message}' for w in caught]
    parts = block.text.strip().split('…')
    pattern = '.*'.join(map(re.escape, parts))
    assert any(
        re.fullmatch(pattern, message.strip(), re.S) for message in messages
    ), messages


def test_all_messages_are_brought_about():
    starts = (*PRODUCERS, *ELSEWHERE)
    for start in starts:
        assert sum(block.text.startswith(start) for block in BLOCKS) == 1
    assert len(BLOCKS) == len(starts)


# Installing


@says("KeyError: 'BA2MResNet is not in")
def _(case):
    models = import_module('mmdet.registry').MODELS
    case.patch.delitem(models.module_dict, 'BA2MResNet')
    models.build(dict(type='BA2MResNet', depth=18))


@says('ImportError: mmba2m: mmdet needs')
def _(case):
    case.patch.setattr(stack, 'find_spec', lambda name: None)
    case.patch.setattr(stack, 'HOSTS', ('mmdet',))
    stack.check_stack()


@says('ImportError: mmba2m: torch')
def _(case):
    case.patch.setattr(stack.metadata, 'version', lambda name: '1.13.1')
    stack.check_stack()


@says('_pickle.UnpicklingError: Weights only')
def _(case):
    torch.save(dict(loss=HistoryBuffer()), case.path / 'epoch_1.pth')
    torch.load(case.path / 'epoch_1.pth', weights_only=True)


@says('_pickle.UnpicklingError: … was not loaded')
def _(case):
    torch.save(dict(code=print), case.path / 'epoch_1.pth')
    load_checkpoint(case.path / 'epoch_1.pth')


# Configs


@says('AssertionError: mmengine does not support')
def _(case):
    path = case.path / 'config.py'
    path.write_text("_base_ = 'mmba2m::faster_rcnn/anything.py'")
    Config.fromfile(path)


def build_resnet(**kwargs):
    models = import_module(f'{HOSTS[0]}.registry').MODELS
    return models.build(dict(type='BA2MResNet', **kwargs))


@says('ValueError: layer1: BA2M needs')
def _(case):
    narrow = dict(depth=18, base_channels=32, stem_channels=32)
    build_resnet(**narrow, ba2m_cfg=dict(reduction=64))


@says('ValueError: backbone: init_cfg')
def _(case):
    model = nn.Module()
    model.backbone = build_resnet(depth=50)
    model.backbone.init_cfg = dict(type='Pretrained', checkpoint='cls.pth')
    keys = [f'backbone.{key}' for key in model.backbone.state_dict()]
    torch.save(dict.fromkeys(keys, torch.zeros(1)), 'cls.pth')
    check_pretrained(model)


@says('ValueError: … is a checkpoint of another')
def _(case):
    torch.save(dict(weight=torch.zeros(1, 2)), 'epoch_1.pth')
    check_checkpoint(nn.Linear(2, 1), 'epoch_1.pth', strict=True)


def test_config_of_a_checkpoint(tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    (block,) = (b for b in read_blocks('docs/faq.md') if b.mark)
    torch.save(
        dict(meta=dict(cfg='model = None'), state_dict={}),
        tmp_path / 'epoch_24.pth',
    )
    code = re.search(r'python -c "(.*)"', block.text)[1]
    exec(code, {})
    assert capsys.readouterr().out == 'model = None\n'


# Data


def check_parts(case, classes):
    content = dict(
        images=[],
        annotations=[],
        categories=[
            dict(id=i, name=name)
            for i, name in enumerate(('bolt', 'nut', 'washer'))
        ],
    )
    (case.path / 'train.json').write_text(json.dumps(content))
    dataset = dict(
        type='CocoDataset',
        data_root=str(case.path),
        ann_file='train.json',
        metainfo=dict(classes=classes),
    )
    cfg = dict(default_scope='mmdet', train_dataloader=dict(dataset=dataset))
    check_data(Config(cfg), ['train_dataloader'])


@says("ValueError: train_dataloader: class 'nuts'")
def _(case):
    check_parts(case, ('bolt', 'nuts', 'washer'))


@says("ValueError: train_dataloader: classes='bolt'")
def _(case):
    check_parts(case, 'bolt')


@says('AssertionError: The `num_classes` (80)')
def _(case):
    mmdet = import_module('mmdet.registry')
    path = 'configs/demo/faster-rcnn_ba2m-r18_fpn_shapes.py'
    model = Config.fromfile(ROOT / path).model
    model.roi_head.bbox_head.num_classes = 80
    dataset = type('CocoDataset', (), {})()
    dataset.metainfo = dict(classes=('bolt', 'nut', 'washer'))
    runner = SimpleNamespace(
        model=mmdet.MODELS.build(model),
        train_dataloader=SimpleNamespace(dataset=dataset),
    )
    hook = mmdet.HOOKS.build(dict(type='NumClassCheckHook'))
    hook.before_train_epoch(runner)


@says('FileNotFoundError: train_dataloader: data_root')
def _(case):
    path = 'configs/faster_rcnn/faster-rcnn_ba2m-r50_fpn_2x_coco.py'
    check_data(Config.fromfile(ROOT / path), ['train_dataloader'])


@says('RuntimeError: … found nothing')
def _(case):
    main = runpy.run_path(str(ROOT / 'tools/test.py'))['main'].__wrapped__

    def nothing(*args, **kwargs):
        return SimpleNamespace(
            checkpoint='epoch_1.pth',
            model=None,
            test=dict,
            test_evaluator=dict(type='CocoMetric'),
        )

    for name in (
        'parse_args',
        'load_config',
        'merge_args',
        'check_data',
        'use_safe_loading',
        'build_runner',
        'check_checkpoint',
    ):
        case.patch.setitem(main.__globals__, name, nothing)
    main()


# Training


@says('UserWarning: BA2M: a batch norm of')
def _(case):
    BA2M(8, 2)(torch.randn(2, 8, 4, 4))


@says('UserWarning: BA2M: batch norms of')
def _(case):
    module = BA2M(8, 2)
    for child in module.modules():
        if isinstance(child, nn.BatchNorm2d):
            child.eval()
    module(torch.randn(4, 8, 4, 4))


def make_runner(said, **kwargs):
    logger = SimpleNamespace(warning=said.append)
    return SimpleNamespace(logger=logger, hooks=[], **kwargs)


@says('A resumed run keeps the schedule')
def _(case):
    def schedule(end):
        optimizer = torch.optim.SGD(nn.Linear(1, 1).parameters(), lr=0.1)
        return MultiStepLR(optimizer, milestones=[end - 4], end=end)

    said = []
    runner = make_runner(
        said, cfg=dict(resume=True), param_schedulers=[schedule(24)]
    )
    checkpoint = dict(param_schedulers=[schedule(12).state_dict()])
    TrainingChecksHook().after_load_checkpoint(runner, checkpoint)
    return said[0]


@says('FloatingPointError: iteration 12')
def _(case):
    runner = SimpleNamespace(iter=11, optim_wrapper=None)
    losses = dict(loss=torch.tensor(torch.nan), loss_bbox=torch.nan)
    batch = dict(data_samples=[dict(img_path='1.jpg')])
    TerminateOnNaNHook().after_train_iter(runner, 0, batch, losses)


@says('The weights that training starts from')
def _(case):
    model = nn.Sequential(BA2M(8, 2))
    model[0].strength.zero_()
    said = []
    TrainingChecksHook().before_train(make_runner(said, model=model))
    return said[0]
