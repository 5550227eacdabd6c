"""Makes a plain ResNet checkpoint the start of a BA²M network.

IN is a checkpoint of torchvision, MMPretrain or MMDetection, OUT.pth a new
file with its backbone, for

    model.backbone.init_cfg = dict(
        type='Pretrained', checkpoint='OUT.pth', prefix='backbone.')

of the config. BA²M's own weights start anew, with no effect on predictions
until it is trained.
"""

import argparse
import pickle
import sys

from mmengine.config import Config

import mmba2m  # noqa: F401  (registers what the config names)
from mmba2m.checkpoints.files import load_checkpoint
from mmba2m.checkpoints.weights import (
    check_new_file,
    checkpoint_name,
    to_bytes,
    write_new_file,
)
from mmba2m.checkpoints.start import to_ba2m_start


def parse_args(argv=None):
    parser = argparse.ArgumentParser(
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument('checkpoint', metavar='IN')
    parser.add_argument('out', metavar='OUT.pth', type=checkpoint_name)
    parser.add_argument(
        '--config', required=True, help='config of the BA2M network'
    )
    return parser.parse_args(argv)


def convert(args):
    check_new_file(args.out)
    checkpoint = load_checkpoint(args.checkpoint)
    cfg = Config.fromfile(args.config)
    try:
        start, report = to_ba2m_start(checkpoint, cfg)
    except ValueError as error:
        raise ValueError(
            f'{args.checkpoint} for {args.config}: {error}'
        ) from error
    write_new_file(to_bytes(start), args.out)
    return [*report, f'wrote {args.out}']


def main(argv=None):
    args = parse_args(argv)
    try:
        report = convert(args)
    except (ValueError, OSError, pickle.UnpicklingError) as error:
        sys.exit(f'resnet_to_ba2m: {error}')
    print('\n'.join(report))


if __name__ == '__main__':
    main()
