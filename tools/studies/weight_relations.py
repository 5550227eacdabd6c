"""Prints what the weights of BA²M follow, for each module of a classifier.

Weights rank the images of a batch as their SARs do (Eq. 12). Of test images:

- class: the share of the SARs' variance that lies between classes (η²), from
  0, where the classes have the same mean, to 1, where a class has one SAR;
- loss, complexity, contrast: Spearman's rank correlation of the SAR with the
  cross-entropy loss of the image, with the number of bytes that zlib needs for
  its pixels, and with their standard deviation.
"""

import argparse
import zlib

import numpy as np
import torch
import torch.nn.functional as F
from mmengine.config import Config, DictAction
from mmengine.dataset import pseudo_collate
from scipy.stats import spearmanr

from mmba2m.inspect import build_dataset, collect_attention, load_network

ORDERED = ('loss', 'complexity', 'contrast')


def parse_args(argv=None):
    parser = argparse.ArgumentParser(
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument('config', help='config file of a classifier')
    parser.add_argument('checkpoint', help='checkpoint file')
    parser.add_argument(
        '--num', type=int, default=2000, help='test images, 2000 by default'
    )
    parser.add_argument(
        '--seed', type=int, default=0, help='of their choice, 0 by default'
    )
    parser.add_argument(
        '--batch-size', type=int, default=128, help='128 by default'
    )
    parser.add_argument(
        '--cfg-options', nargs='+', action=DictAction, metavar='KEY=VALUE'
    )
    return parser.parse_args(argv)


def describe_image(image):
    """Measures an image.

    Args:
        image (Tensor): Pixels from 0 to 255, shape (C, H, W).

    Returns:
        dict[str, float]: 'complexity' in bytes, and 'contrast'.
    """
    pixels = image.permute(1, 2, 0).to(torch.uint8).contiguous().numpy()
    return dict(
        complexity=len(zlib.compress(pixels.tobytes(), 9)),
        contrast=pixels.std(),
    )


@torch.no_grad()
def collect(model, dataset, indices, batch_size):
    """Collects SARs, and what they may follow.

    Args:
        model (nn.Module): A classifier with BA²M, in ``eval()``.
        dataset (Dataset): Its test set.
        indices (Sequence[int]): Of the images.
        batch_size (int): Images at once.

    Returns:
        tuple[dict[str, ndarray], dict[str, ndarray]]: SARs by module, and
        'class', 'loss', 'complexity' and 'contrast', each of shape
        (len(indices),).
    """
    sars, traits = {}, {}
    for start in range(0, len(indices), batch_size):
        batch = [dataset[int(i)] for i in indices[start : start + batch_size]]
        images = [describe_image(sample['inputs']) for sample in batch]
        data = model.data_preprocessor(pseudo_collate(batch), False)
        for name, one in collect_attention(
            model, data['inputs'], over_batch=False
        ).items():
            sars.setdefault(name, []).append(one.sar.double().numpy())
        labels = torch.cat([s.gt_label for s in data['data_samples']])
        logits = model(data['inputs'], mode='tensor').float()
        found = dict(
            {key: [one[key] for one in images] for key in images[0]},
            loss=F.cross_entropy(logits, labels, reduction='none').tolist(),
        )
        found['class'] = labels.tolist()
        for key, values in found.items():
            traits.setdefault(key, []).extend(values)
    return (
        {name: np.concatenate(parts) for name, parts in sars.items()},
        {name: np.array(values) for name, values in traits.items()},
    )


def share_between(values, groups):
    """The share of the variance of values that lies between groups (η²).

    Args:
        values (ndarray): Shape (N,).
        groups (ndarray): The group of each, shape (N,).

    Returns:
        float: From 0 to 1; NaN where all values are the same.
    """
    means = np.empty(len(values))
    for group in np.unique(groups):
        means[groups == group] = values[groups == group].mean()
    total = values.var()
    return means.var() / total if total else float('nan')


def main(argv=None):
    args = parse_args(argv)
    cfg = Config.fromfile(args.config)
    if args.cfg_options:
        cfg.merge_from_dict(args.cfg_options)
    if cfg.get('default_scope') != 'mmpretrain':
        raise ValueError(
            f'{args.config} is no config of MMPretrain: only in classifiers '
            'does an image have one class and one loss'
        )
    dataset = build_dataset(cfg)
    model = load_network(cfg, args.checkpoint)
    random = np.random.RandomState(args.seed)
    indices = random.permutation(len(dataset))[: args.num]
    sars, traits = collect(model, dataset, indices, args.batch_size)
    columns = ['module', 'SAR, std', 'class, η²']
    columns += [f'{name}, ρ' for name in ORDERED]
    print(f'\n{len(indices)} test images\n')
    print(f'| {" | ".join(columns)} |')
    print(f'|{" --- |" * len(columns)}')
    for module, sar in sars.items():
        numbers = [f'{sar.std():.4f}']
        numbers.append(f'{share_between(sar, traits["class"]):.2f}')
        numbers += [
            f'{spearmanr(sar, traits[name]).statistic:.2f}' for name in ORDERED
        ]
        print(f'| {module} | {" | ".join(numbers)} |')


if __name__ == '__main__':
    main()
