"""Turns an annealed BA²M checkpoint into one for the host's stock config.

OUT.pth gets the weights, and OUT.py the config to use them with, which needs
no mmba2m. Both are new files.
"""

from common import create_parser, run

import mmba2m  # noqa: F401  (registers what the config names)
from mmba2m.checkpoints.embedded_config import read_embedded_config
from mmba2m.checkpoints.files import (
    check_new_file,
    load_checkpoint,
    to_bytes,
    use_safe_loading,
    write_new_file,
)
from mmba2m.checkpoints.strip import strip_checkpoint
from mmba2m.config_files import read_config


def parse_args():
    parser = create_parser(__doc__)
    parser.add_argument(
        '--config',
        help='config of the checkpoint, by default the one kept in it',
    )
    parser.add_argument(
        '--force',
        action='store_true',
        help='also where BA2M was not annealed: predictions change',
    )
    return parser.parse_args()


def strip_ba2m(args):
    config = args.out.with_suffix('.py')
    for path in (args.out, config):
        check_new_file(path)
    use_safe_loading()  # networks may load others while they are built
    checkpoint = load_checkpoint(args.checkpoint)
    try:
        if args.config is not None:
            cfg = read_config(args.config)
        else:
            cfg = read_embedded_config(checkpoint)
        stripped, _, report = strip_checkpoint(checkpoint, cfg, args.force)
    except ValueError as error:
        raise ValueError(f'{args.checkpoint}: {error}') from error
    write_new_file(stripped['meta']['cfg'].encode(), config)
    write_new_file(to_bytes(stripped), args.out)
    return [*report, f'wrote {args.out} and {config}']


if __name__ == '__main__':
    run(strip_ba2m, parse_args())
