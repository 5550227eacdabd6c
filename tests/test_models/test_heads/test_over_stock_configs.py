"""One line over a stock config trains, and strips to the stock network."""

from copy import deepcopy
from importlib import import_module

import pytest
import torch
from batches import make_batch, take_few_regions
from mmengine.hub import get_config
from mmengine.registry import MODELS

from mmba2m import HOSTS
from mmba2m.checkpoints.strip import strip_checkpoint


def build(host, cfg):
    torch.manual_seed(0)
    import_module(f'{host}.models')
    with MODELS.switch_scope_and_registry(host) as registry:
        network = registry.build(deepcopy(cfg))
    network.init_weights()
    return network


@pytest.mark.slow
@pytest.mark.parametrize(
    ('head', 'config'),
    [
        ('BatchFormerClsHead', 'mmpretrain::resnet/resnet18_8xb16_cifar10.py'),
        (
            'BatchFormerClsHead',
            'mmpretrain::resnet/resnet50_8xb32-mixup_in1k.py',
        ),
        (
            'BatchFormerBBoxHead',
            'mmdet::faster_rcnn/faster-rcnn_r50_fpn_ohem_1x_coco.py',
        ),
        (
            'BatchFormerBBoxHead',
            'mmdet::dynamic_rcnn/dynamic-rcnn_r50_fpn_1x_coco.py',
        ),
        (
            'BatchFormerBBoxHead',
            'mmdet::pisa/faster-rcnn_r50_fpn_pisa_1x_coco.py',
        ),
        (
            'BatchFormerBBoxHead',
            'mmdet::cascade_rcnn/cascade-rcnn_r50_fpn_1x_coco.py',
        ),
        (
            'BatchWeightedBBoxHead',
            'mmdet::faster_rcnn/faster-rcnn_r50_fpn_1x_coco.py',
        ),
        (
            'BatchWeightedAnchorHead',
            'mmdet::retinanet/retinanet_r50_fpn_1x_coco.py',
        ),
    ],
)
def test_one_line_trains_and_strips_to_the_stock_network(head, config):
    host, _, _ = config.partition('::')
    if host not in HOSTS:
        pytest.skip(f'of {host}')
    child = 'batch_former' if 'Former' in head else 'batch_weights'
    cfg = get_config(config)
    model = cfg.model
    if 'head' in model:
        model.head.type = f'mmba2m.{head}'
    else:
        owner = model.get('roi_head', model)
        heads = owner.bbox_head
        for each in heads if isinstance(heads, list) else [heads]:
            each.type = f'mmba2m.{head}'
        take_few_regions(model)
        model.test_cfg.get('rcnn', model.test_cfg).score_thr = 0.0
    model.backbone.pop('init_cfg', None)
    if 'data_preprocessor' in cfg:  # as the Runner does
        model.setdefault('data_preprocessor', cfg.data_preprocessor)
    network = build(host, model)
    batch = make_batch(host, network, 64, 64)
    inputs = network.data_preprocessor(batch, True)
    losses = network.train()(**inputs, mode='loss')
    total, log = network.parse_losses(losses)
    total.backward()
    own = [pair for pair in network.named_parameters() if child in pair[0]]
    assert own
    for name, parameter in own:
        assert parameter.grad.isfinite().all(), name
    if child == 'batch_weights':
        assert log['loss_batch_weights'] > 0

    state = dict(state_dict=network.state_dict())
    stripped, stock_cfg, report = strip_checkpoint(state, cfg)
    assert report[0].startswith(f'state_dict: without {child} (')
    assert 'mmba2m' not in stock_cfg.pretty_text
    stock = build(host, stock_cfg.model)
    stock.load_state_dict(stripped['state_dict'])
    found, expected = (
        [
            out.get('pred_instances', out)
            for out in each.eval().test_step(deepcopy(batch))
        ]
        for each in (network, stock)
    )
    keys = ['bboxes', 'scores', 'labels']
    if host == 'mmpretrain':
        keys = ['pred_score']
    for ours, other in zip(found, expected, strict=True):
        for key in keys:
            assert len(ours.get(key))
            assert torch.equal(ours.get(key), other.get(key))
