"""Backbones with attention modules, by host."""

from importlib import import_module

from mmba2m import HOSTS

from .attention_backbone import AttentionBackbone

FILES = dict(
    mmdet=['mmdet_resnet'],
    mmpretrain=[
        'mmpretrain_resnet',
        'mmpretrain_preresnet',
        'mmpretrain_lightweight',
    ],
)
for host, names in FILES.items():
    for name in names if host in HOSTS else ():
        import_module(f'{__name__}.{name}')

__all__ = ['AttentionBackbone']
