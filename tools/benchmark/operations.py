"""Counts the operations of attention modules that launch work.

On a GPU each is at least a kernel, and launching them is what a small module
costs there. Views launch none, nor does memory without values.
"""

import argparse

import torch
from mmcv.cnn import fuse_conv_bn
from mmengine.registry import MODELS
from torch import nn
from torch.utils._python_dispatch import TorchDispatchMode

import mmba2m  # noqa: F401  (registers the modules)

NOTHING = 'empty', 'new_empty', '_unsafe_view', 'promote_types'


class Operations(TorchDispatchMode):
    """Collects the names of the operations that launch work."""

    def __init__(self):
        super().__init__()
        self.names = []

    def __torch_dispatch__(self, func, types, args=(), kwargs=None):
        aliases = [value.alias_info for value in func._schema.returns]
        view = any(alias and not alias.is_write for alias in aliases)
        if not view and not func.__name__.startswith(NOTHING):
            self.names.append(func.__name__)
        return func(*args, **(kwargs or {}))


def count(module: nn.Module, x: torch.Tensor) -> tuple[int, int, int]:
    """Counts of a forward and backward pass, of inference, and folded.

    Args:
        module: Changed by ``fuse_conv_bn`` afterwards.
        x: Shape (N, C, H, W); at inference it is the first image.
    """
    x = x.detach().requires_grad_()
    with Operations() as training:
        y = module.train()(x)
        y.backward(x.detach())
    counts = [len(training.names)]
    for change in (nn.Module.eval, fuse_conv_bn):
        change(module)
        with torch.no_grad(), Operations() as inference:
            module(x[:1])
        counts.append(len(inference.names))
    return tuple(counts)


def main():
    parser = argparse.ArgumentParser(description=__doc__)
    names = ['BA2M', 'SE', 'CBAM', 'GC']
    parser.add_argument('--modules', nargs='+', default=names)
    print('module | training step | inference | norms folded')
    for name in parser.parse_args().modules:
        module = MODELS.build(dict(type=f'mmba2m.{name}', in_channels=256))
        print(name, *count(module, torch.randn(4, 256, 56, 56)), sep=' | ')


if __name__ == '__main__':
    main()
