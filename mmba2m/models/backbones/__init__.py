"""Backbones with BA²M, by host."""

from importlib import import_module

from mmba2m import HOSTS

FILES = dict(
    mmdet=['mmdet_resnet'],
    mmpretrain=[
        'mmpretrain_resnet',
        'mmpretrain_preresnet',
        'mmpretrain_lightweight',
    ],
)
for host in HOSTS:
    for name in FILES[host]:
        import_module(f'{__name__}.{name}')
