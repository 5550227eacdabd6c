"""Prints how BA²M tells images apart, and what its weights follow.

For each module, of test images: mean and standard deviation of their SARs,
and the weights over all of them. SARs of 0 or 1 throughout are saturated:
then the weights are 1, and nothing is learned. It happens where nothing
normalises the branches, see docs/results.md.

With --relations, for classifiers, what the weights follow; they rank the
images of a batch as their SARs do (Eq. 12):

- class: the share of the SARs' variance that lies between classes (η²), from
  0, where the classes have the same mean, to 1, where a class has one SAR;
- loss, complexity, contrast: Spearman's rank correlation of the SAR with the
  cross-entropy loss of the image, with the number of bytes that zlib needs for
  its pixels, and with their standard deviation.
"""

import argparse
import zlib
from collections import defaultdict
from collections.abc import Sequence

import numpy as np
import torch
import torch.nn.functional as F
from mmengine.config import DictAction
from mmengine.dataset import pseudo_collate
from scipy.special import softmax
from scipy.stats import spearmanr
from torch import nn

from mmba2m.inspect import (
    build_dataset,
    collect_attention,
    load_network,
    read_trained,
)

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
        SARs by module, and with ``relations``, of a classifier, 'class' and
        all of `ORDERED`, each of shape (len(indices),).
    """
    sars, traits = defaultdict(list), defaultdict(list)
    for start in range(0, len(indices), batch_size):
        batch = [dataset[int(i)] for i in indices[start : start + batch_size]]
        data = model.data_preprocessor(pseudo_collate(batch), False)
        found = collect_attention(model, data['inputs'], over_batch=False)
        for name, one in found.items():
            sars[name] += one.sar.tolist()
        if not relations:
            continue
        labels = torch.cat([s.gt_label for s in data['data_samples']])
        logits = model(data['inputs'], mode='tensor').float()
        losses = F.cross_entropy(logits, labels, reduction='none')
        traits['class'] += labels.tolist()
        traits['loss'] += losses.tolist()
        for sample in batch:  # (H, W, C), as pixels lie in an image file
            pixels = sample['inputs'].permute(1, 2, 0).to(torch.uint8).numpy()
            size = len(zlib.compress(pixels.tobytes(), 9))
            traits['complexity'].append(size)
            traits['contrast'].append(pixels.std())
    return tuple(
        {name: np.array(values) for name, values in table.items()}
        for table in (sars, traits)
    )


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
    cfg.merge_from_dict(args.cfg_options or {})
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
    sars, traits = collect(
        model, dataset, indices, args.batch_size, args.relations
    )
    columns = ['module', 'SAR, mean', 'SAR, std', 'weights over all']
    if args.relations:
        columns += ['class, η²', *(f'{name}, ρ' for name in ORDERED)]
    table = [columns, ['---'] * len(columns)]
    for module, sar in sars.items():
        weights = len(sar) * softmax(sar)
        cells = [module, f'{sar.mean():.3f}', f'{sar.std():.4f}']
        cells.append(f'{weights.min():.3f} to {weights.max():.3f}')
        if args.relations:
            cells.append(f'{share_between(sar, traits["class"]):.2f}')
            cells += [f'{spearmanr(sar, traits[x])[0]:.2f}' for x in ORDERED]
        table.append(cells)
    print(f'\n{len(indices)} test images\n')
    print('\n'.join(f'| {" | ".join(cells)} |' for cells in table))


if __name__ == '__main__':
    main()
