"""Exports a network to ONNX, and checks what it wrote.

Of a classifier the scores, after softmax; of a detector the feature maps of
its backbone and neck. What is exported takes normalised images; how to make
them is written beside it, in a JSON. A file that does not compute what the
network computes is not written.
"""

import argparse
import inspect
import json
import os
import sys
import warnings
from contextlib import redirect_stdout
from copy import deepcopy
from io import BytesIO, StringIO
from itertools import product
from pathlib import Path

if 'OMP_WAIT_POLICY' not in os.environ:  # before torch loads
    os.environ.setdefault('GOMP_SPINCOUNT', '1000')

import numpy as np
import torch
from torch import nn

from mmba2m.checkpoints.files import check_new_file, write_new_file
from mmba2m.engine.cli import run_main
from mmba2m.inspect import load_network, read_trained
from mmba2m.inspect.load import find_host
from mmba2m.models.attentions.ba2m import BA2M

try:
    import onnxruntime
except ImportError:
    sys.exit(
        'export: onnxruntime is missing, which checks the file: '
        'pip install mmba2m[export]'
    )

#: the newest that torch 2.1 writes; attention needs 14 at least
OPSET = 17
INPUT = 'input'
#: by how much outputs may differ, of their largest value if that is over 1
TOLERANCE = 1e-4


def parse_args():
    parser = argparse.ArgumentParser(description=__doc__)
    add = parser.add_argument
    add('model', help='config file, or a checkpoint that holds its config')
    text = 'checkpoint, where MODEL is a config'
    add('checkpoint', nargs='?', help=text)
    add('--out', required=True, type=Path, metavar='FILE')
    kwargs = dict(type=int, nargs=2, metavar=('H', 'W'), required=True)
    add('--shape', help='height and width of the input', **kwargs)
    kwargs = dict(nargs='+', choices=['batch', 'size'], default=[])
    text = 'take other numbers of images, other heights and widths'
    add('--dynamic', help=text, **kwargs)
    return parser.parse_args()


class Exported(nn.Module):
    """What is exported: (N, 3, H, W) → feature maps or ((N, classes),)."""

    def __init__(self, model, detects):
        super().__init__()
        self.model = model
        self.detects = detects

    def forward(self, x):
        """Computes what is exported."""
        if self.detects:
            return tuple(self.model.extract_feat(x))
        return (self.model(x, mode='tensor').softmax(1),)

    @torch.no_grad()
    def predict(self, x):
        """The same, with scores as the host predicts them."""
        if self.detects:
            return self(x)
        samples = self.model(x, mode='predict')
        return (torch.stack([sample.pred_score for sample in samples]),)


def remove_idle_ba2m(network: nn.Module) -> tuple[int, int]:
    """Takes BA²M out, in place, where it is annealed or 'identity'.

    Says how many modules stay, and how many are gone.
    """
    stay = gone = 0
    for name, module in list(network.named_modules()):
        if not isinstance(module, BA2M):
            continue
        if module.inference == 'identity' or module.strength.item() == 0:
            parent, _, leaf = name.rpartition('.')
            setattr(network.get_submodule(parent), leaf, nn.Identity())
            gone += 1
            continue
        if module.inference == 'batch':
            raise ValueError(
                f"{name} has inference='batch', where outputs depend on the "
                "whole batch: set inference='population' in the config"
            )
        stay += 1
    return stay, gone


def to_onnx(network: Exported, x: torch.Tensor, dynamic: list[str]) -> bytes:
    """Exports to ONNX, by the exporter that both stacks have.

    Args:
        network: In ``eval()``.
        x: An input, shape (N, 3, H, W).
        dynamic: As ``--dynamic``.
    """
    with torch.no_grad():
        outputs = network(x)
    names = [f'feature_{i}' for i in range(len(outputs))]
    names = names if network.detects else ['scores']
    axes = {}
    for name, tensor in zip((INPUT, *names), (x, *outputs), strict=True):
        axes[name] = {0: 'batch'} if 'batch' in dynamic else {}
        if 'size' in dynamic and tensor.dim() == 4:
            axes[name] |= {2: f'{name}_height', 3: f'{name}_width'}
    kwargs = dict(input_names=[INPUT], output_names=names)
    kwargs.update(dynamic_axes=axes, opset_version=OPSET)
    if 'dynamo' in inspect.signature(torch.onnx.export).parameters:
        kwargs['dynamo'] = False  # the other one needs onnxscript
    stream = BytesIO()
    try:
        # what tracing warns of is checked by comparing; where it fails,
        # PyTorch prints the whole graph
        with warnings.catch_warnings(), redirect_stdout(StringIO()):
            warnings.simplefilter('ignore')
            torch.onnx.export(network, (x,), stream, **kwargs)
    except (RuntimeError, torch.onnx.errors.OnnxExporterError) as error:
        reason = str(error).split(' [Caused by')[0].splitlines()[0]
        raise ValueError(f'PyTorch cannot export it: {reason}') from error
    return stream.getvalue()


def compare(
    network: Exported, session: onnxruntime.InferenceSession, x: torch.Tensor
) -> float:
    """Finds the largest difference of any output on an input.

    Raises:
        ValueError: If it is over :data:`TOLERANCE`, or does not run at all.
    """
    what = f'on an input of {tuple(x.shape)}'
    expected = network.predict(x)
    try:
        outputs = session.run(None, {INPUT: x.numpy()})
        differences = [
            float(np.abs(output - target.numpy()).max())
            for output, target in zip(outputs, expected, strict=True)
        ]
    except Exception as error:  # runtimes raise types of their own
        reason = str(error).strip().splitlines()[-1]
        raise ValueError(
            f'what was exported fails {what}: {reason}'
        ) from error
    for output, difference, target in zip(
        session.get_outputs(), differences, expected, strict=True
    ):
        if not difference <= TOLERANCE * max(1, target.abs().max()):
            raise ValueError(
                f'what was exported differs {what}: {output.name} by '
                f'{difference:.2g}'
            )
    return max(differences)


def make_inputs(height, width, dynamic):
    """Random inputs to compare on; the first is the one to capture."""
    # unequal samples, and no number that was captured
    numbers = (2, 3, 1) if 'batch' in dynamic else (1,)
    sizes = [(height, width)]
    if 'size' in dynamic:
        small = (max(side // 64, 1) * 32 for side in (height, width))
        sizes += [(height + 32, width + 64), tuple(small)]
    generator = torch.Generator().manual_seed(0)
    return [
        torch.randn(number, 3, *size, generator=generator)
        for size, number in product(sizes, numbers)
    ]


def describe(cfg, network, session):
    """What a user of the exported file has to know."""
    preprocessor = cfg.model.get(
        'data_preprocessor', cfg.get('data_preprocessor') or {}
    )
    to_rgb = preprocessor.get('bgr_to_rgb', preprocessor.get('to_rgb'))
    shape = session.get_inputs()[0].shape
    taken = dict(name=INPUT, shape=shape, dtype='float32')
    taken['channels'] = 'RGB' if to_rgb else 'BGR'
    taken.update(mean=preprocessor.get('mean'), std=preprocessor.get('std'))
    taken['pad_size_divisor'] = preprocessor.get('pad_size_divisor', 1)
    taken['pad_value'] = preprocessor.get('pad_value', 0)
    dataset = (cfg.get('test_dataloader') or {}).get('dataset', {})
    taken['pipeline'] = [
        dict(step)
        for step in dataset.get('pipeline', ())
        if 'Load' not in step['type'] and 'Pack' not in step['type']
    ]
    outputs = [output.name for output in session.get_outputs()]
    classes = network.model.dataset_meta.get('classes')
    return dict(input=taken, outputs=outputs, classes=classes)


def main():
    args = parse_args()
    description = args.out.with_name(f'{args.out.name}.json')
    for path in (args.out, description):
        check_new_file(path)
    cfg, checkpoint = read_trained(args.model, args.checkpoint)
    path = args.checkpoint or args.model
    model = load_network(cfg, checkpoint, 'cpu', path)
    inputs = make_inputs(*args.shape, args.dynamic)
    network = Exported(model, detects=find_host(cfg) == 'mmdet')
    captured = deepcopy(network)
    stay, gone = remove_idle_ba2m(captured)
    print(f'BA2M: {stay} modules in it, {gone} taken out')
    content = to_onnx(captured, inputs[0], args.dynamic)
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = torch.get_num_threads()
    session = onnxruntime.InferenceSession(
        content, options, providers=['CPUExecutionProvider']
    )
    for x in inputs:
        difference = compare(network, session, x)
        print(f'random {tuple(x.shape)}: differs by {difference:.1e}')

    text = json.dumps(describe(cfg, network, session), indent=1)
    write_new_file(content, args.out)
    write_new_file(text.encode(), description)
    size = len(content) / 2**20
    print(f'wrote {args.out} ({size:.1f} MiB) and {description}')


if __name__ == '__main__':
    run_main(main)
