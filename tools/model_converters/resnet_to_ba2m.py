"""Makes a plain ResNet checkpoint the start of a BA²M network.

IN is a checkpoint of torchvision, MMPretrain or MMDetection, OUT.pth a new
file with its backbone, for

    model.backbone.init_cfg = dict(
        type='Pretrained', checkpoint='OUT.pth', prefix='backbone.')

of the config. BA²M's own weights start anew, with no effect on predictions
until it is trained.
"""

from common import create_parser, run

import mmba2m  # noqa: F401  (registers what the config names)
from mmba2m.checkpoints.files import (
    check_new_file,
    load_checkpoint,
    to_bytes,
    write_new_file,
)
from mmba2m.checkpoints.start import to_ba2m_start
from mmba2m.config_files import read_config


def parse_args():
    parser = create_parser(__doc__, 'IN')
    parser.add_argument(
        '--config', required=True, help='config of the BA2M network'
    )
    return parser.parse_args()


def resnet_to_ba2m(args):
    check_new_file(args.out)
    checkpoint = load_checkpoint(args.checkpoint)
    cfg = read_config(args.config)
    try:
        start, report = to_ba2m_start(checkpoint, cfg)
    except ValueError as error:
        raise ValueError(
            f'{args.checkpoint} for {args.config}: {error}'
        ) from error
    write_new_file(to_bytes(start), args.out)
    return [*report, f'wrote {args.out}']


if __name__ == '__main__':
    run(resnet_to_ba2m, parse_args())
