"""Checkpoints of untrained networks with all in them, and images."""

from pathlib import Path

import cv2
import numpy as np
import torch
from mmengine.config import Config
from mmengine.registry import MODELS
from torch.nn.modules.batchnorm import _BatchNorm

from mmba2m.models.attentions.ba2m import BA2M

ROOT = Path(__file__).parents[2]
CONFIGS = dict(
    mmdet='configs/demo/faster-rcnn_ba2m-r18_fpn_shapes.py',
    mmpretrain='configs/demo/ba2m-resnet18_shapes.py',
)
IMAGES = ['a.png', 'b.png', 'c.png', 'd.png', 'more/a.png']
CLASSES = ('circle', 'square', 'triangle', 'star', 'cross')


def load_config(host, **options):
    """The config of a demo, with options like ``--cfg-options``."""
    cfg = Config.fromfile(ROOT / CONFIGS[host])
    cfg.merge_from_dict(options)
    return cfg


def save_random(cfg, path, strength=1.0, **meta):
    """Saves a network whose every weight is random."""
    with MODELS.switch_scope_and_registry(cfg.default_scope) as registry:
        model = registry.build(cfg.model)
    generator = torch.Generator().manual_seed(1)
    for module in model.modules():
        if isinstance(module, _BatchNorm):
            module.running_mean.normal_(0, 0.2, generator=generator)
            module.running_var.uniform_(0.5, 1.5, generator=generator)
        if isinstance(module, BA2M):
            module.running_normalizer.fill_(1.4)
            module.strength.fill_(strength)
    if cfg.default_scope == 'mmpretrain':
        # scores that tell images apart
        model.head.fc.weight.data.mul_(5)
    meta |= dict(cfg=cfg.pretty_text, dataset_meta=dict(classes=CLASSES))
    torch.save(dict(meta=meta, state_dict=model.state_dict()), path)
    return path


def draw_image(seed, height=64, width=96):
    rng = np.random.default_rng(seed)
    image = rng.integers(0, 256, (height, width, 3), np.uint8)
    return cv2.GaussianBlur(image, (0, 0), 3) * 2
