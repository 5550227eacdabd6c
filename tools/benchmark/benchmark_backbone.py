"""Measures what attention costs: backbones side by side, in turns.

A training step, inference and peak memory of each network, and their ratios
to the first one, which are paired within each round. Writes a Markdown table,
a chart and a JSON file, from which both are made again with --report.
"""

import argparse
import inspect
import json
import math
import os
import time
import warnings
from collections.abc import Callable, Iterator
from pathlib import Path

if 'OMP_WAIT_POLICY' not in os.environ:  # before torch loads
    os.environ.setdefault('GOMP_SPINCOUNT', '1000')

import torch
import yaml
from measuring import compare_times, measure_peak, time_in_turn
from mmcv.cnn import fuse_conv_bn
from mmengine.config import DictAction
from mmengine.registry import MODELS
from results import draw_runs, format_runs
from torch import nn

from mmba2m.config_files import read_config
from mmba2m.inspect.complexity import count_parameters
from mmba2m.inspect.environment import describe_environment
from mmba2m.models.backbones.slots import find_attention

#: the plain backbone, height and width, images of a training step and of
#: inference, and options of the modules that take them
SETTINGS = dict(
    imagenet=dict(
        backbone=dict(_scope_='mmpretrain', type='ResNet', depth=50),
        size=(224, 224),
        train_batches=[8],
        inference_batches=[1, 32],
    ),
    # everything is trained, which is the most that attention can cost
    detection=dict(
        backbone=dict(
            _scope_='mmdet', type='ResNet', depth=50, norm_eval=False
        ),
        size=(800, 1333),
        train_batches=[2],
        inference_batches=[1],
    ),
    cifar=dict(
        backbone=dict(
            _scope_='mmpretrain',
            type='ResNet_CIFAR',
            depth=18,
            base_channels=16,
            stem_channels=16,
        ),
        size=(32, 32),
        train_batches=[128],
        inference_batches=[1, 32],
        options=dict(reduction=4),  # the paper's for basic blocks
    ),
)
#: short steps run several times, that the clock sees more than itself
MIN_SAMPLE_SECONDS = 0.05


def parse_args():
    kind = argparse.ArgumentDefaultsHelpFormatter
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=kind)
    add = parser.add_argument
    add('--setting', choices=SETTINGS, default='imagenet')
    text = 'plain, an attention module, with options as in BA2M,inference='
    text += 'identity, or a config file; ratios are to the first'
    names = ['plain', 'BA2M', 'SE', 'CBAM', 'GC']
    add('--networks', nargs='+', metavar='NAME', default=names, help=text)
    kwargs = dict(nargs='+', action=DictAction, default={})
    add('--backbone-options', metavar='KEY=VALUE', help='of all', **kwargs)
    add('--size', nargs=2, type=int, metavar=('HEIGHT', 'WIDTH'))
    kwargs = dict(nargs='*', type=int, metavar='N')
    kwargs['help'] = 'images at once, instead of the setting; none: skipped'
    add('--train-batches', **kwargs)
    add('--inference-batches', **kwargs)
    device = 'cuda' if torch.cuda.is_available() else 'cpu'
    add('--device', type=torch.device, default=device)
    add('--precision', choices=('fp32', 'bf16', 'autocast'), default='fp32')
    add('--channels-last', action='store_true')
    add('--compile', action='store_true', help='with torch.compile')
    text = 'at inference, with batch norms folded by fuse_conv_bn'
    add('--fuse', action='store_true', help=text)
    text = 'end when half of all 95 %% intervals is below this part of a ratio'
    add('--tolerance', type=float, default=0.01, help=text)
    text = 'end each measure after this time'
    add('--max-seconds', type=float, default=120, help=text)
    add('--out-dir', type=Path, default='work_dirs/benchmark_backbone')
    text = 'measure nothing: table and chart of files written before'
    add('--report', nargs='+', type=Path, metavar='JSON', help=text)
    args = parser.parse_args()
    for key in ('size', 'train_batches', 'inference_batches'):
        if getattr(args, key) is None:
            setattr(args, key, SETTINGS[args.setting][key])
    return args


def build_network(name: str, setting: dict, options: dict) -> nn.Module:
    """Builds a backbone of ``--networks``, with PyTorch's initial weights.

    Args:
        name: As of ``--networks``.
        setting: One of :data:`SETTINGS`.
        options: Arguments of the backbone that override its own.
    """
    if name.endswith('.py'):
        cfg = read_config(name)
        backbone = dict(cfg.model.backbone, init_cfg=None)
        backbone.setdefault('_scope_', cfg.get('default_scope'))
        return MODELS.build({**backbone, **options})
    backbone = {**setting['backbone'], **options}
    if name != 'plain':
        kind, *pairs = name.split(',')
        taken = inspect.signature(find_attention(kind)).parameters
        own = setting.get('options', {})
        attention = {key: own[key] for key in own if key in taken}
        for key, value in (pair.split('=') for pair in pairs):
            attention[key] = yaml.safe_load(value)
        backbone['type'] = f'Attention{backbone["type"]}'
        backbone['attention'] = dict(attention, type=kind)
    return MODELS.build(backbone)


def make_step(
    network: nn.Module,
    images: torch.Tensor,
    train: bool,
    autocast: bool = False,
    compiled: bool = False,
    fused: bool = False,
) -> Callable[[], None]:
    """Prepares a training step, or a forward pass in ``eval()``.

    A training step is forward pass, backward pass, and the gradients dropped.
    The loss is the sum of the means of the maps that the backbone puts out,
    so each gets a dense gradient, as from a head or neck.

    Args:
        network: A backbone.
        images: Shape (N, 3, H, W), on its device.
        train: Whether it is a training step.
        autocast: Whether to bfloat16. Defaults to False.
        compiled: Whether by ``torch.compile``. Defaults to False.
        fused: Whether the network's norms are folded, for inference, from now
            on. Defaults to False.
    """
    run = torch.compile(network) if compiled else network
    kind = images.device.type

    def step():
        with (
            torch.set_grad_enabled(train),
            torch.autocast(kind, torch.bfloat16, enabled=autocast),
        ):
            outs = run(images)
        if train:
            sum(out.mean(dtype=torch.float32) for out in outs).backward()
            network.zero_grad(set_to_none=True)

    network.train()
    if not train:  # running statistics as after training, BA²M's Z too
        with torch.no_grad():
            network(images[[0, -1]])
        network.eval()
        if fused:
            fuse_conv_bn(network)
    return step


def measure(
    args: argparse.Namespace,
    networks: dict[str, nn.Module],
    images: torch.Tensor,
    train: bool,
) -> list[dict]:
    """Measures time and memory of one kind of step.

    Returns:
        For each network its name, parameters, the seconds of each round,
        their ratio to the first with its interval, and the bytes of weights,
        buffers and images with the peak of the step.
    """
    rows, steps, counts = [], [], []
    for name, network in networks.items():
        autocast = args.precision == 'autocast'
        how = autocast, args.compile, args.fuse
        step = make_step(network, images, train, *how)
        step()  # compiles, allocates
        held = [*network.parameters(), *network.buffers(), images]
        start = time.perf_counter()
        peak = measure_peak(step, args.device) + sum(t.nbytes for t in held)
        seconds = time.perf_counter() - start
        counts.append(math.ceil(MIN_SAMPLE_SECONDS / seconds))
        steps.append(step)
        parameters = count_parameters(network)
        rows.append(dict(name=name, parameters=parameters, peak_bytes=peak))
    limits = args.tolerance, args.max_seconds
    times = time_in_turn(steps, counts, args.device, *limits)
    for row, seconds in zip(rows, times, strict=True):
        row.update(seconds=seconds, ratio=compare_times(seconds, times[0]))
    return rows


def measure_all(args: argparse.Namespace) -> Iterator[dict]:
    """Measures as the command line says.

    Yields:
        For JSON: how it was measured, and every number; once after each
        measure, with all before.
    """
    setting = SETTINGS[args.setting]
    dtype = torch.bfloat16 if args.precision == 'bf16' else torch.float32
    form = [torch.contiguous_format, torch.channels_last][args.channels_last]
    how = dict(device=args.device, dtype=dtype, memory_format=form)
    networks = {}
    for name in args.networks:
        network = build_network(name, setting, args.backbone_options)
        label = Path(name).stem if name.endswith('.py') else name
        while label in networks:  # the same again: what chance makes
            label += "'"
        networks[label] = network.to(**how)
    options = {**setting['backbone'], **args.backbone_options}
    del options['_scope_']
    words = [options.pop('type'), *(f'{k}={v}' for k, v in options.items())]
    words += [args.precision] + ['channels_last'] * args.channels_last
    words += ['torch.compile'] * args.compile
    words += ['norms folded at inference'] * args.fuse
    environment = describe_environment()
    run = dict(
        network=', '.join(words),
        environment=', '.join(f'{k} {v}' for k, v in environment.items()),
        device=environment['gpu' if args.device.type == 'cuda' else 'cpu'],
        measures=[],
    )
    todo = [('training step', batch) for batch in args.train_batches]
    todo += [('inference', batch) for batch in args.inference_batches]
    for kind, batch in todo:
        title = f'{kind}, {batch} × {"×".join(map(str, args.size))}'
        print(title)
        images = torch.randn(batch, 3, *args.size).to(**how)
        rows = measure(args, networks, images, kind == 'training step')
        run['measures'].append(dict(title=title, rows=rows))
        yield run


def main():
    args = parse_args()
    args.out_dir.mkdir(parents=True, exist_ok=True)
    # not of interest where nothing is trained
    warnings.filterwarnings('ignore', message='BA2M: a batch norm')
    torch.manual_seed(0)
    torch.backends.cudnn.benchmark = True
    runs = [json.loads(p.read_text('utf-8')) for p in args.report or []]
    for run in [] if runs else measure_all(args):
        text = json.dumps(run, indent=1, ensure_ascii=False)
        (args.out_dir / 'benchmark.json').write_text(text, 'utf-8')
        runs = [run]
    table = format_runs(runs)
    (args.out_dir / 'benchmark.md').write_text(f'{table}\n', 'utf-8')
    draw_runs(runs, args.out_dir / 'benchmark.png')
    print(f'\n{table}\n\nwritten to {args.out_dir}')


if __name__ == '__main__':
    main()
