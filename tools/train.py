"""Trains a detector or classifier, as its config says."""

import os
import sys

if 'OMP_WAIT_POLICY' not in os.environ:  # before torch loads
    os.environ.setdefault('GOMP_SPINCOUNT', '1000')

from mmengine.registry import RUNNERS
from torch.distributed.elastic.multiprocessing.errors import record

from mmba2m.checkpoints.resume import list_checkpoints
from mmba2m.engine.cli import check_checkpoint, create_parser, load_config


def parse_args():
    parser = create_parser(__doc__)
    parser.add_argument(
        '--amp', action='store_true', help='automatic mixed precision'
    )
    parser.add_argument(
        '--auto-scale-lr',
        action='store_true',
        help='scale the learning rate by the batch size over all GPUs',
    )
    parser.add_argument(
        '--resume',
        nargs='?',
        const='auto',
        metavar='auto|PATH',
        help='go on from a checkpoint; without a path, from the newest in '
        'the work dir, if there is one',
    )
    return parser.parse_args()


def merge_args(cfg, args):
    if args.amp:
        cfg.optim_wrapper.type = 'AmpOptimWrapper'
        cfg.optim_wrapper.setdefault('loss_scale', 'dynamic')
    if args.auto_scale_lr:
        if 'base_batch_size' not in cfg.get('auto_scale_lr', {}):
            raise ValueError(
                f'--auto-scale-lr: {args.config} has no '
                'auto_scale_lr.base_batch_size'
            )
        cfg.auto_scale_lr.enable = True
    if args.resume not in (None, 'auto'):
        cfg.resume = True
        cfg.load_from = args.resume
    elif args.resume or (cfg.get('resume') and not cfg.get('load_from')):
        # the first start of a run that is always started so has none
        cfg.resume = bool(list_checkpoints(cfg.work_dir))
        if cfg.resume:
            cfg.load_from = None
    if cfg.get('load_from'):
        check_checkpoint(cfg.load_from)
    return cfg


@record
def main():
    args = parse_args()
    try:
        cfg = merge_args(load_config(args), args)
    except (OSError, ValueError) as error:
        sys.exit(f'train: {error}')
    RUNNERS.build(cfg).train()


if __name__ == '__main__':
    main()
