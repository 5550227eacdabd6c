"""The lines of docs/any_backbone.md over stock configs of both hosts."""

import copy
from functools import partial

import pytest
import torch
from batches import make_batch, take_few_regions
from families import fill_trident
from mmengine.config import Config
from mmengine.logging import MessageHub
from mmengine.model import (
    MMDistributedDataParallel,
    revert_sync_batchnorm,
)
from mmengine.optim import OptimWrapper
from mmengine.registry import MODELS, init_default_scope

from mmba2m import HOSTS
from mmba2m.checkpoints.start import to_ba2m_start
from mmba2m.checkpoints.stock_config import walk
from mmba2m.checkpoints.strip import strip_checkpoint
from mmba2m.models.attentions.ba2m import BA2M

pytestmark = pytest.mark.filterwarnings('ignore')

BACKBONES = [
    'mmdet::regnet/retinanet_regnetx-800MF_fpn_1x_coco.py',
    'mmdet::swin/retinanet_swin-t-p4-w7_fpn_1x_coco.py',
    'mmdet::res2net/faster-rcnn_res2net-101_fpn_2x_coco.py',
    'mmdet::resnest/'
    'faster-rcnn_s50_fpn_syncbn-backbone+head_ms-range-1x_coco.py',
    'mmdet::tridentnet/tridentnet_r50-caffe_1x_coco.py',
    'mmdet::detectors/cascade-rcnn_r50-rfp_1x_coco.py',
    'mmdet::yolox/yolox_tiny_8xb8-300e_coco.py',
    'mmdet::rtmdet/rtmdet_tiny_8xb32-300e_coco.py',
    'mmdet::timm_example/retinanet_timm-tv-resnet50_fpn_1x_coco.py',
    'mmdet::convnext/mask-rcnn_convnext-t-p4-w7_fpn_amp-ms-crop-3x_coco.py',
    'mmpretrain::regnet/regnetx-400mf_8xb128_in1k.py',
    'mmpretrain::convnext/convnext-tiny_32xb128_in1k.py',
    'mmpretrain::swin_transformer/swin-tiny_16xb64_in1k.py',
    'mmpretrain::efficientnet/efficientnet-b0_8xb32_in1k.py',
    'mmpretrain::mobilenet_v2/mobilenet-v2_8xb32_in1k.py',
    'mmpretrain::densenet/densenet121_4xb256_in1k.py',
    'mmpretrain::hornet/hornet-tiny_8xb128_in1k.py',
]
NECKS = [
    'mmdet::hrnet/faster-rcnn_hrnetv2p-w18-1x_coco.py',
    'mmdet::pvt/retinanet_pvt-t_fpn_1x_coco.py',
    'mmdet::detr/detr_r50_8xb2-150e_coco.py',
    'mmdet::yolox/yolox_tiny_8xb8-300e_coco.py',
]
CASES = [('backbone', path) for path in BACKBONES]
CASES += [('neck', path) for path in NECKS]
CASES = [case for case in CASES if case[1].split('::')[0] in HOSTS]


def load(path, part, folder):
    """A stock config, and the same with the lines of the page."""
    name = dict(backbone='AttentionBackbone', neck='AttentionMaps')[part]
    stock = f'_base_ = {path!r}\ndefault_scope = {path.split("::")[0]!r}\n'
    (folder / 'stock.py').write_text(stock)
    cfgs = [Config.fromfile(folder / 'stock.py')]
    base = cfgs[0].model[part].type
    lines = dict(type=f'mmba2m.{name}', base=base, attention=dict(type='BA2M'))
    (folder / 'config.py').write_text(
        f"_base_ = './stock.py'\nmodel = dict({part}=dict(**{lines!r}))\n"
    )
    cfgs.append(Config.fromfile(folder / 'config.py'))
    for cfg in cfgs:
        for _, node in walk(cfg.model):
            # what would be downloaded, without which frozen norms explode
            if 'checkpoint' in (node.get('init_cfg') or ()):
                node.pop('init_cfg')
            node.pop('pretrained', None)
            if 'norm_eval' in node or node.get('type') == 'HRNet':
                node['norm_eval'] = False
        take_few_regions(cfg.model)
        if 'data_preprocessor' in cfg:
            cfg.model.setdefault('data_preprocessor', cfg.data_preprocessor)
    return cfgs


@pytest.mark.slow
@pytest.mark.parametrize(('part', 'path'), CASES)
def test_it_trains_predicts_starts_and_strips(part, path, tmp_path, group):
    stock, cfg = load(path, part, tmp_path)
    init_default_scope(cfg.default_scope)
    MessageHub.get_current_instance().update_info('iter', 0)
    model = revert_sync_batchnorm(MODELS.build(copy.deepcopy(cfg.model)))
    model.init_weights()
    fill_trident(model)
    modules = {n: m for n, m in model.named_modules() if isinstance(m, BA2M)}
    trained = {
        n: m.channel[1].weight
        for n, m in modules.items()
        if m.channel[1].weight.requires_grad
    }
    assert len(trained) >= (1 if part == 'neck' else 3)
    assert all(name.startswith(part) for name in modules)

    # the second step fails if a parameter has had no gradient in the first
    ddp = MMDistributedDataParallel(model, find_unused_parameters=False)
    optim = OptimWrapper(torch.optim.SGD(model.parameters(), lr=1e-6))
    model.train()
    size = (128, 96) if cfg.default_scope == 'mmdet' else (224, 224)
    data = make_batch(cfg.default_scope, model, *size)
    grads = {}
    for name, weight in trained.items():
        weight.register_hook(partial(grads.__setitem__, name))
    for _ in range(2):
        losses = ddp.train_step(copy.deepcopy(data), optim)
        assert all(v.isfinite().all() for v in losses.values()), losses
    assert {*grads} == {*trained}
    assert all(grad.isfinite().all() for grad in grads.values())
    assert any(grad.any() for grad in grads.values())
    model.eval()
    with torch.no_grad():
        assert len(model.test_step(copy.deepcopy(data))) == 2

    for module in modules.values():
        module.strength.zero_()
    checkpoint = dict(state_dict=model.state_dict())
    stripped, plain, _ = strip_checkpoint(checkpoint, cfg)
    assert plain.model[part] == stock.model[part]
    if part == 'backbone':
        start, _ = to_ba2m_start(stripped, cfg)
        own = [k for k in stripped['state_dict'] if k.startswith('backbone.')]
        assert [*start['state_dict']] == own
