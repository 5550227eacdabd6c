"""Backbones with BA²M, one file per host."""

from importlib import import_module

from mmba2m import HOSTS

for host in HOSTS:
    import_module(f'{__name__}.{host}_resnet')
