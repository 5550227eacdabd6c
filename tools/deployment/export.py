"""Exports a network to ONNX or TorchScript, and checks what it wrote.

Of a classifier the scores, after softmax; of a detector the feature maps of
its backbone and neck. What is exported takes normalised images; how to make
them is written beside it, in a JSON. A file that does not compute what the
network computes is not written.
"""

import argparse
import importlib.util
import json
import pickle
import sys
from copy import deepcopy
from pathlib import Path

import torch

from mmba2m.checkpoints.files import use_safe_loading
from mmba2m.checkpoints.weights import check_new_file, write_new_file
from mmba2m.inspect.exporting import (
    FORMATS,
    INPUT,
    OPSET,
    Features,
    Scores,
    compare,
    name_outputs,
    remove_idle_ba2m,
)
from mmba2m.inspect.inference import Detector, load_predictor


def parse_args(argv=None):
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument(
        'model', help='config file, or a checkpoint that holds its config'
    )
    parser.add_argument(
        'checkpoint', nargs='?', help='checkpoint, where MODEL is a config'
    )
    parser.add_argument('--out', required=True, type=Path, metavar='FILE')
    parser.add_argument('--format', choices=FORMATS, default='onnx')
    parser.add_argument(
        '--shape',
        type=int,
        nargs=2,
        metavar=('H', 'W'),
        help='height and width of the input, by default those of --image',
    )
    parser.add_argument(
        '--image',
        help='an image to compare on, too, prepared as the config says',
    )
    parser.add_argument(
        '--dynamic',
        nargs='+',
        choices=['batch', 'size'],
        default=[],
        help='take other numbers of images, other heights and widths',
    )
    parser.add_argument(
        '--opset',
        type=int,
        default=OPSET,
        help=f'version of the ONNX operators, {OPSET} by default',
    )
    args = parser.parse_args(argv)
    if not args.shape and not args.image:
        parser.error('--shape or --image must say how large the input is')
    if args.shape and min(args.shape) < 1:
        parser.error(f'--shape must be positive, got {args.shape}')
    return args


def make_inputs(args, image):
    """Inputs to compare on: random ones and the image.

    The first is the one to capture.
    """
    height, width = args.shape or image.shape[-2:]
    if image is not None and image.shape[-2:] != (height, width):
        size = 'x'.join(map(str, image.shape[-2:]))
        if 'size' not in args.dynamic:
            raise ValueError(
                f'{args.image} is {size} after the test pipeline, and the '
                f'input {height}x{width}: leave out --shape, or take '
                '--dynamic size'
            )
    shapes = [(1, 3, height, width)]
    if 'batch' in args.dynamic:
        # unequal samples, and no number that was captured
        shapes = [(2, 3, height, width), (3, 3, height, width), *shapes]
    if 'size' in args.dynamic:
        shapes += [
            (1, 3, height + 32, width + 64),
            (1, 3, max(height // 64, 1) * 32, max(width // 64, 1) * 32),
        ]
    generator = torch.Generator().manual_seed(0)
    inputs = [torch.randn(shape, generator=generator) for shape in shapes]
    return inputs if image is None else [*inputs, image]


def to_list(tensor):
    # as they were written, not as float32 rounds them
    return [float(f'{value:.7g}') for value in tensor.flatten().tolist()]


def describe(predictor, x, outputs, args, ba2m):
    """What a user of the exported file has to know."""
    preprocessor = predictor.model.data_preprocessor
    to_rgb = getattr(
        preprocessor,
        'to_rgb',
        getattr(preprocessor, '_channel_conversion', False),
    )
    normalized = hasattr(preprocessor, 'mean')
    shape = [*x.shape]
    if 'batch' in args.dynamic:
        shape[0] = 'batch'
    if 'size' in args.dynamic:
        shape[2:] = 'height', 'width'
    pipeline = predictor.cfg.test_dataloader.dataset.pipeline
    return dict(
        format=args.format,
        opset=args.opset if args.format == 'onnx' else None,
        network=type(predictor.model).__name__,
        ba2m=dict(zip(('modules', 'removed'), ba2m, strict=True)),
        input=dict(
            name=INPUT,
            shape=shape,
            dtype='float32',
            channels='RGB' if to_rgb else 'BGR',
            mean=to_list(preprocessor.mean) if normalized else None,
            std=to_list(preprocessor.std) if normalized else None,
            pad_size_divisor=preprocessor.pad_size_divisor,
            pad_value=preprocessor.pad_value,
            pipeline=[
                dict(step)
                for step in pipeline
                if 'Load' not in step['type'] and 'Pack' not in step['type']
            ],
        ),
        outputs=outputs,
        classes=predictor.classes,
    )


def export(args):
    description = args.out.with_name(f'{args.out.name}.json')
    for path in (args.out, description):
        check_new_file(path)
    if args.format == 'onnx' and not importlib.util.find_spec('onnxruntime'):
        raise ValueError(
            'onnxruntime is missing, which checks the file: '
            'pip install mmba2m[export]'
        )
    use_safe_loading()
    predictor = load_predictor(args.model, args.checkpoint, device='cpu')
    kind = Features if isinstance(predictor, Detector) else Scores
    network = kind(predictor.model)
    captured = deepcopy(network)
    ba2m = remove_idle_ba2m(captured)
    image = None
    if args.image:
        image = predictor.prepare([args.image])['inputs']
    inputs = make_inputs(args, image)

    write, load = FORMATS[args.format]
    options = dict(opset=args.opset) if args.format == 'onnx' else {}
    content = write(captured, inputs[0], args.dynamic, **options)
    run = load(content)
    report = [f'BA2M: {ba2m[0]} modules in it, {ba2m[1]} taken out']
    for i, x in enumerate(inputs):
        what = (
            args.image
            if image is not None and i == len(inputs) - 1
            else 'random'
        )
        difference = compare(network, run, x)
        report.append(f'{what} {tuple(x.shape)}: differs by {difference:.1e}')

    with torch.no_grad():
        outputs = name_outputs(network(inputs[0]))
    text = json.dumps(
        describe(predictor, inputs[0], outputs, args, ba2m), indent=1
    )
    write_new_file(content, args.out)
    write_new_file(text.encode(), description)
    return [
        *report,
        f'wrote {args.out} ({len(content) / 2**20:.1f} MiB) and {description}',
    ]


def main(argv=None):
    args = parse_args(argv)
    try:
        report = export(args)
    except (ValueError, OSError, pickle.UnpicklingError) as error:
        sys.exit(f'export: {error}')
    print('\n'.join(report))


if __name__ == '__main__':
    main()
