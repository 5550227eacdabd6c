"""Shows which operators the time of attention modules goes into.

Each module of a network runs alone under PyTorch's profiler, on a map of the
shape that it gets in the network. The profiler itself slows small operators
down: take times from benchmark_backbone.py, and shares from here.
"""

import argparse
import warnings

import torch
from mmengine.config import DictAction

from mmba2m.checkpoints.benchmark.environment import describe_environment
from mmba2m.checkpoints.benchmark.networks import (
    SETTINGS,
    build_network,
    label_network,
)
from mmba2m.checkpoints.benchmark.profiling import (
    format_profile,
    profile_step,
    record_inputs,
)
from mmba2m.checkpoints.benchmark.report import KINDS
from mmba2m.checkpoints.benchmark.steps import PRECISIONS, Subject

WARM_UP = 3


def parse_args():
    parser = argparse.ArgumentParser(
        description=__doc__,
        formatter_class=argparse.ArgumentDefaultsHelpFormatter,
    )
    parser.add_argument(
        '--setting',
        choices=list(SETTINGS),
        default='imagenet',
        help='as in benchmark_backbone.py',
    )
    parser.add_argument(
        '--network', default='ba2m', help='as in benchmark_backbone.py'
    )
    parser.add_argument('--measure', choices=list(KINDS), default='train')
    parser.add_argument(
        '--batch', type=int, help='images, instead of the setting'
    )
    parser.add_argument(
        '--backbone-options',
        nargs='+',
        action=DictAction,
        default={},
        metavar='KEY=VALUE',
        help='arguments of the backbone',
    )
    parser.add_argument(
        '--device',
        default='cuda' if torch.cuda.is_available() else 'cpu',
        help='where it is computed',
    )
    parser.add_argument('--precision', choices=PRECISIONS, default='fp32')
    parser.add_argument('--channels-last', action='store_true')
    parser.add_argument('--threads', type=int, help='threads on the CPU')
    parser.add_argument(
        '--rounds', type=int, default=20, help='of which the median is taken'
    )
    parser.add_argument(
        '--rows', type=int, default=10, help='operators of each module'
    )
    return parser.parse_args()


def main():
    args = parse_args()
    warnings.filterwarnings('ignore', message='BA2M: a batch norm')
    torch.manual_seed(0)
    if args.threads:
        torch.set_num_threads(args.threads)
    device = torch.device(args.device)
    setting = SETTINGS[args.setting]
    batch = args.batch or (
        setting['train_batch'][device.type]
        if args.measure == 'train'
        else setting['inference_batches'][0]
    )

    def prepare(module):
        return Subject(module, device, args.precision, args.channels_last)

    whole = prepare(
        build_network(args.network, setting, args.backbone_options)
    )
    whole.network.eval()
    images = whole.images((batch, 3, *setting['size']))
    environment = describe_environment(device)
    print(
        f'{label_network(args.network)}, {KINDS[args.measure]}, {batch} × '
        f'{"×".join(map(str, setting["size"]))}, {args.precision} '
        f'({", ".join(f"{k} {v}" for k, v in environment.items())}).'
    )
    inputs = record_inputs(whole.network, images)
    for name, (module, shape) in inputs.items():
        subject = prepare(module)
        maps = subject.images(shape)
        if args.measure == 'train':
            step = subject.train_step(maps.requires_grad_())
        else:
            step = subject.inference_step(maps)
        for _ in range(WARM_UP):
            step()
        operators = profile_step(step, device, args.rounds)
        print(f'\n{name}, {"×".join(map(str, shape))}:\n')
        print(format_profile(operators, args.rows))


if __name__ == '__main__':
    main()
