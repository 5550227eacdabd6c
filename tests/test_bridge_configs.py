"""BA-Net as its authors ran it: recipe, and parameters by their code."""

import copy

import pytest
from mmengine.hub import get_config

from mmba2m.inspect.complexity import build_on_meta, count_parameters

pytest.importorskip('mmpretrain')

PLAIN = 'resnet/resnet50_4xb256-300e_in1k.py'
BRIDGED = {
    256: ('resnet50', 'efficientnet-b0'),
    128: ('convnext-tiny', 'swin-tiny', 'regnety-4.0gf'),
}
PATHS = {
    name: f'attention/bav2-{name}_4xb{batch}-300e_in1k.py'
    for batch, names in BRIDGED.items()
    for name in names
}


@pytest.mark.parametrize('path', [PLAIN, *PATHS.values()])
def test_recipe_is_that_of_main_py(path, load_config):
    cfg = load_config(path)
    batch = 256 if '4xb256' in path else 128
    assert cfg.train_dataloader.batch_size == batch
    assert cfg.train_dataloader.drop_last
    assert cfg.auto_scale_lr.base_batch_size == 4 * batch
    wrapper = cfg.optim_wrapper
    expected = dict(lr=1e-3, weight_decay=0.05, eps=1e-8, betas=(0.9, 0.999))
    assert wrapper.optimizer.type == 'AdamW'
    assert dict(wrapper.optimizer).items() >= expected.items()
    assert wrapper.clip_grad == dict(max_norm=5.0)
    kinds = ('norm', 'bias', 'flat')
    assert all(wrapper.paramwise_cfg[f'{k}_decay_mult'] == 0 for k in kinds)
    assert cfg.train_cfg.max_epochs == 300
    warm_up, cosine = cfg.param_scheduler
    assert (warm_up.start_factor, warm_up.end) == (1e-3, 20)
    assert (cosine.type, cosine.eta_min) == ('CosineAnnealingLR', 1e-5)
    steps = {s.type: s for s in cfg.train_dataloader.dataset.pipeline}
    assert steps['RandomErasing'].erase_prob == 0.25
    augment = steps['RandAugment']
    assert (augment.magnitude_level, augment.magnitude_std) == (9, 0.5)
    assert steps['RandomResizedCrop'].interpolation == 'bicubic'
    assert cfg.model.head.loss.label_smooth_val == 0.1
    alphas = {a.type: a.alpha for a in cfg.model.train_cfg.augments}
    assert alphas == dict(Mixup=0.8, CutMix=1.0)
    for loader in ('train', 'val', 'test'):
        loader = cfg[f'{loader}_dataloader']
        assert loader.collate_fn == dict(type='default_collate')
        assert loader.dataset.data_root == 'data/imagenet'


def test_the_bridge_alone_sets_the_networks_apart(load_config):
    hosts = {
        'convnext-tiny': 'convnext/convnext-tiny_32xb128_in1k',
        'swin-tiny': 'swin_transformer/swin-tiny_16xb64_in1k',
        'efficientnet-b0': 'efficientnet/efficientnet-b0_8xb32_in1k',
    }
    for name, host in hosts.items():
        host = get_config(f'mmpretrain::{host}.py')
        ours = copy.deepcopy(load_config(PATHS[name]))
        ours.model.backbone.attention = None
        states = [build_on_meta(cfg).state_dict() for cfg in (ours, host)]
        shapes = [{k: v.shape for k, v in s.items()} for s in states]
        assert shapes[0] == shapes[1], name


def bridge(convs, m, version=2):
    """Parameters of the module in the authors' files, convs of a block."""
    n, last = len(convs), convs[-1]
    norms_and_selection = 2 * m + n + 1 if version == 2 else 2 * m * n
    return m * sum(convs) + norms_and_selection + m * last


TINY = [96] * 3 + [192] * 3 + [384] * 9 + [768] * 3
SWIN = [96] * 2 + [192] * 2 + [384] * 6 + [768] * 2
REGNET = [128] * 2 + [192] * 6 + [512] * 12 + [1088] * 2
# of EfficientNet's blocks that expand: input × 6, and that of their SE
EFFICIENT = [16] + [24] * 2 + [40] * 2 + [80] * 3 + [112] * 3 + [192] * 4
SE = sum(2 * 6 * c * (c // 4) + c // 4 + 6 * c for c in EFFICIENT)
COUNTS = {
    # the plain networks as timm has them, which the authors take
    'resnet50': 28_702_664,
    'convnext-tiny': 28_589_128
    + sum(bridge([c, 4 * c, c], c // 16) for c in TINY),
    'swin-tiny': 28_288_354
    + sum(bridge([c, 4 * c, c], c // 16) for c in SWIN),
    'efficientnet-b0': 5_288_548
    - SE
    + sum(bridge([6 * c, 6 * c], c) for c in EFFICIENT),
    'regnety-4.0gf': 20_646_656
    - sum(
        2 * c * (before // 4) + before // 4 + c
        for before, c in zip([32, *REGNET[:-1]], REGNET, strict=True)
    )
    + sum(bridge([c, c], c // 16) for c in REGNET),
}


@pytest.mark.parametrize('name', PATHS)
def test_parameters(name, build_network):
    assert count_parameters(build_network(PATHS[name])) == COUNTS[name]


def test_version_1_in_efficientnet_has_what_the_authors_code_has(load_config):
    cfg = copy.deepcopy(load_config(PATHS['efficientnet-b0']))
    cfg.model.backbone.attention.version = 1
    assert count_parameters(build_on_meta(cfg)) == 8_418_640
