"""Prints how BA²M tells images apart, and what its weights follow.

For each module, of test images: mean and standard deviation of their SARs,
and the weights over all of them. SARs of 0 or 1 throughout are saturated:
then the weights are 1, and nothing is learned. It happens where nothing
normalises the branches, see docs/results.md.

And of the log norm of the image's features, before and behind the module, the
standard deviation and the correlation r with log w: −1 before it says that the
network undoes the weight, and behind it less is left of the deviation then.

With --relations, for classifiers, what the weights follow; they rank the
images of a batch as their SARs do (Eq. 12):

- class: the share of the SARs' variance that lies between classes (η²), from
  0, where the classes have the same mean, to 1, where a class has one SAR;
- loss, complexity, contrast: Spearman's rank correlation of the SAR with the
  cross-entropy loss of the image, with the number of bytes that zlib needs for
  its pixels, and with their standard deviation;

and the accuracy, with the weights as they are and with those of a batch
shuffled among its images.
"""

import argparse
import zlib
from collections import defaultdict
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager

import numpy as np
import readings  # noqa: F401 (registers what study files name)
import torch
import torch.nn.functional as F
from mmengine.config import DictAction
from mmengine.dataset import pseudo_collate
from scipy.special import softmax
from scipy.stats import spearmanr
from torch import nn

from mmba2m.config_files import merge_options
from mmba2m.engine.cli import run_main
from mmba2m.inspect import (
    build_dataset,
    collect_attention,
    load_network,
    read_trained,
)
from mmba2m.models.attentions import BA2M

ORDERED = ('loss', 'complexity', 'contrast')


def parse_args(argv: list[str] | None = None) -> argparse.Namespace:
    kind = argparse.RawDescriptionHelpFormatter
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=kind)
    add = parser.add_argument
    add('config', help='config file')
    add('checkpoint', help='checkpoint file')
    add('--num', type=int, default=32, help='test images, 32 by default')
    add('--seed', type=int, help='of their choice; by default the first ones')
    add('--relations', action='store_true', help='what the weights follow')
    add('--batch-size', type=int, default=128, help='128 by default')
    kwargs = dict(nargs='+', action=DictAction, metavar='KEY=VALUE')
    add('--cfg-options', **kwargs)
    return parser.parse_args(argv)


@torch.no_grad()
def collect(
    model: nn.Module,
    dataset: Sequence,
    indices: Sequence[int],
    batch_size: int,
    relations: bool = False,
) -> tuple[dict[str, np.ndarray], dict[str, np.ndarray]]:
    """Collects SARs of images of the test set, and what they may follow.

    Returns:
        By module SARs, log weights and log norms of the features before it,
        of shape (3, len(indices)). With ``relations``, of a classifier,
        'class', all of `ORDERED`, and whether the image is classified right,
        'right', and with shuffled weights, 'right, shuffled', each of shape
        (len(indices),).
    """
    found, traits = defaultdict(list), defaultdict(list)
    for start in range(0, len(indices), batch_size):
        batch = [dataset[int(i)] for i in indices[start : start + batch_size]]
        data = model.data_preprocessor(pseudo_collate(batch), False)
        inputs = data['inputs']
        for name, one in collect_attention(model, inputs, False).items():
            columns = one.sar, one.weights.log(), one.norm.log()
            found[name].append(torch.stack(columns).numpy())
        if not relations:
            continue
        labels = torch.cat([s.gt_label for s in data['data_samples']])
        logits = model(inputs, mode='tensor').float()
        losses = F.cross_entropy(logits, labels, reduction='none')
        traits['class'] += labels.tolist()
        traits['loss'] += losses.tolist()
        traits['right'] += (logits.argmax(1) == labels).tolist()
        with shuffle_weights(model):
            logits = model(inputs, mode='tensor')
        traits['right, shuffled'] += (logits.argmax(1) == labels).tolist()
        for sample in batch:  # (H, W, C), as pixels lie in an image file
            pixels = sample['inputs'].permute(1, 2, 0).to(torch.uint8).numpy()
            size = len(zlib.compress(pixels.tobytes(), 9))
            traits['complexity'].append(size)
            traits['contrast'].append(pixels.std())
    modules = {name: np.hstack(parts) for name, parts in found.items()}
    return modules, {name: np.array(v) for name, v in traits.items()}


@contextmanager
def shuffle_weights(model: nn.Module) -> Iterator[None]:
    """Lets BA²M give each sample the weight of another one of its batch."""
    with ExitStack() as stack:
        for module in model.modules():
            if isinstance(module, BA2M):
                weigh = module.weigh
                module.weigh = lambda sar, weigh=weigh: weigh(
                    sar[torch.randperm(len(sar))]
                )
                stack.callback(delattr, module, 'weigh')
        yield


def share_between(values: np.ndarray, groups: np.ndarray) -> float:
    """The share of the variance of (N,) values between (N,) groups (η²).

    It is from 0 to 1; NaN where all values are the same.
    """
    means = np.empty(len(values))
    for group in np.unique(groups):
        means[groups == group] = values[groups == group].mean()
    total = values.var()
    return means.var() / total if total else float('nan')


def main(argv: list[str] | None = None) -> None:
    args = parse_args(argv)
    cfg, checkpoint = read_trained(args.config, args.checkpoint)
    merge_options(cfg, args.cfg_options)
    if args.relations and cfg.get('default_scope') != 'mmpretrain':
        raise ValueError(
            f'{args.config} is no config of MMPretrain: only in classifiers '
            'does an image have one class and one loss'
        )
    dataset = build_dataset(cfg)
    model = load_network(cfg, checkpoint, path=args.checkpoint)
    indices = np.arange(len(dataset))
    if args.seed is not None:
        indices = np.random.RandomState(args.seed).permutation(indices)
    indices = indices[: args.num]
    torch.manual_seed(0)  # of the shuffled weights
    modules, traits = collect(
        model, dataset, indices, args.batch_size, args.relations
    )
    columns = ['module', 'SAR, mean', 'SAR, std', 'weights over all']
    columns += ['log norm before, std', 'r', 'behind, std', 'r']
    if args.relations:
        columns += ['class, η²', *(f'{name}, ρ' for name in ORDERED)]
    table = [columns, ['---'] * len(columns)]
    for module, (sar, weight, norm) in modules.items():
        weights = len(sar) * softmax(sar)
        cells = [module, f'{sar.mean():.3f}', f'{sar.std():.4f}']
        cells.append(f'{weights.min():.3f} to {weights.max():.3f}')
        for log_norm in (norm, norm + weight):
            cells.append(f'{log_norm.std():.3f}')
            cells.append(f'{np.corrcoef(weight, log_norm)[0, 1]:.2f}')
        if args.relations:
            cells.append(f'{share_between(sar, traits["class"]):.2f}')
            cells += [f'{spearmanr(sar, traits[x])[0]:.2f}' for x in ORDERED]
        table.append(cells)
    print(f'\n{len(indices)} test images\n')
    print('\n'.join(f'| {" | ".join(cells)} |' for cells in table))
    if args.relations:
        own, other = (
            100 * traits[name].mean() for name in ('right', 'right, shuffled')
        )
        print(
            f'\ntop-1 accuracy {own:.2f} %, with shuffled ones {other:.2f} %'
        )


if __name__ == '__main__':
    run_main(main)
