"""Evaluates a checkpoint of a detector or classifier on its test set."""

import argparse
import os
import sys
from copy import deepcopy

if 'OMP_WAIT_POLICY' not in os.environ:  # before torch loads
    os.environ.setdefault('GOMP_SPINCOUNT', '1000')

from mmengine.config import ConfigDict
from mmengine.registry import RUNNERS
from torch.distributed.elastic.multiprocessing.errors import record

from mmba2m.engine.cli import check_checkpoint, create_parser, load_config

# where the hosts differ: the metric that dumps, the settings of the hook that
# draws, the model that averages over flips
HOSTS = dict(
    mmdet=dict(
        dump='DumpDetResults',
        visualization=dict(enable='draw', out_dir='test_out_dir'),
        tta_model=dict(
            type='DetTTAModel',
            tta_cfg=dict(
                nms=dict(type='nms', iou_threshold=0.5), max_per_img=100
            ),
        ),
    ),
    mmpretrain=dict(
        dump='DumpResults',
        visualization=dict(enable='enable', out_dir='out_dir'),
        tta_model=dict(type='AverageClsScoreTTA'),
    ),
)


def parse_args():
    parser = create_parser(__doc__)
    parser.add_argument('checkpoint', help='checkpoint file')
    parser.add_argument(
        '--out', metavar='FILE.pkl', type=pickle_path, help='dump predictions'
    )
    parser.add_argument(
        '--show', action='store_true', help='show predictions in a window'
    )
    parser.add_argument(
        '--show-dir',
        help='folder for images of predictions, in the work dir of this run',
    )
    parser.add_argument(
        '--wait-time',
        type=float,
        default=2,
        help='seconds that --show shows an image, 2 by default',
    )
    parser.add_argument(
        '--tta',
        action='store_true',
        help='test-time augmentation: tta_model and tta_pipeline of the '
        'config, or else flips',
    )
    return parser.parse_args()


def pickle_path(path):
    if not path.endswith(('.pkl', '.pickle')):
        raise argparse.ArgumentTypeError(f'{path} must end in .pkl')
    return path


def merge_args(cfg, args):
    host = HOSTS[cfg.default_scope]
    check_checkpoint(args.checkpoint)
    cfg.load_from = args.checkpoint
    cfg.resume = False  # which the config of a resumed training has
    if args.show or args.show_dir:
        if args.tta and cfg.default_scope == 'mmpretrain':
            raise ValueError('MMPretrain cannot draw --tta, leave out --show')
        names = host['visualization']
        cfg.default_hooks.visualization.update(
            {
                names['enable']: True,
                names['out_dir']: args.show_dir,
                'show': args.show,
                'wait_time': args.wait_time,
            }
        )
    if args.tta:
        cfg = apply_tta(cfg, host['tta_model'])
    if args.out:
        evaluators = cfg.test_evaluator
        if not isinstance(evaluators, list):
            evaluators = [evaluators]
        dump = dict(type=host['dump'], out_file_path=args.out)
        cfg.test_evaluator = [*evaluators, dump]
    return cfg


def apply_tta(cfg, tta_model):
    dataset = cfg.test_dataloader.dataset
    if 'tta_pipeline' not in cfg:
        pack = deepcopy(dataset.pipeline[-1])
        if 'meta_keys' in pack:
            pack.meta_keys = (*pack.meta_keys, 'flip', 'flip_direction')
        # the image as it is comes first: results keep its ground truth
        flips = [dict(type='RandomFlip', prob=prob) for prob in (0.0, 1.0)]
        augment = dict(type='TestTimeAug', transforms=[flips, [pack]])
        cfg.tta_pipeline = [*dataset.pipeline[:-1], augment]
    dataset.pipeline = cfg.tta_pipeline
    cfg.model = ConfigDict(**cfg.get('tta_model', tta_model), module=cfg.model)
    return cfg


@record
def main():
    args = parse_args()
    try:
        cfg = merge_args(load_config(args), args)
    except (OSError, ValueError) as error:
        sys.exit(f'test: {error}')
    RUNNERS.build(cfg).test()


if __name__ == '__main__':
    main()
