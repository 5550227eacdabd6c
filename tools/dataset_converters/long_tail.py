"""Lists images of a folder data set (one folder a class) with a long tail.

Class c of C, in the order of their names, keeps n·imbalance^(-c/(C-1)) images,
drawn at random; n is the number of images of the smallest class. The list is
an annotation file of MMPretrain's CustomDataset; no image is copied.
"""

import argparse
import os
import random
import sys
from pathlib import Path

from mmpretrain.datasets import CustomDataset

from mmba2m.checkpoints.files import atomic_write


def parse_args():
    parser = argparse.ArgumentParser(
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    add = parser.add_argument
    add('root', type=Path, help='folder of the classes, e.g. data/x/train')
    add('out', type=Path, help='file to write, e.g. data/x/long_tail.txt')
    text = 'images of the first class over those of the last, 100 by default'
    add('--imbalance', type=float, default=100, help=text)
    add('--seed', type=int, default=0, help='of the draw, 0 by default')
    return parser.parse_args()


def draw(root: Path, imbalance: float, seed: int) -> dict[str, list[str]]:
    """Draws images of each class.

    Returns:
        Paths below ``root`` by class, in the order of the labels.

    Raises:
        ValueError: If there are no two classes, one would be empty, or the
            imbalance is below 1.
    """
    if not root.is_dir():
        raise ValueError(f'{root} is no folder')
    if not 1 <= imbalance < float('inf'):
        raise ValueError(f'the imbalance must be at least 1, got {imbalance}')
    names = sorted(path.name for path in root.iterdir() if path.is_dir())
    if len(names) < 2:
        raise ValueError(f'{root} has {len(names)} folders: one for a class')
    found: dict[str, list[str]] = {name: [] for name in names}
    # what it would train with, without the list
    dataset = CustomDataset(data_root=str(root), lazy_init=True)
    for info in dataset.load_data_list():
        path = os.path.relpath(info['img_path'], root)
        found[names[info['gt_label']]].append(path)
    largest = min(map(len, found.values()))
    if largest < imbalance:
        name = min(names, key=lambda name: len(found[name]))
        raise ValueError(
            f'{root / name} has {largest} images, with imbalance '
            f'{imbalance:g} the last class would have none'
        )
    rng = random.Random(seed)
    kept = {}
    for label, (name, paths) in enumerate(found.items()):
        share = imbalance ** (-label / (len(names) - 1))
        count = int(largest * share + 1e-6)  # 0.1 may be 0.0999…
        kept[name] = sorted(rng.sample(sorted(paths), count))
    return kept


def main():
    args = parse_args()
    try:
        kept = draw(args.root, args.imbalance, args.seed)
        with atomic_write(args.out) as stream:
            for label, paths in enumerate(kept.values()):
                stream.writelines(f'{p} {label}\n'.encode() for p in paths)
    except (ValueError, OSError, RuntimeError) as error:
        sys.exit(f'long_tail: {error}')
    counts = [len(paths) for paths in kept.values()]
    print(f'{args.out}: {sum(counts)} images, by class {counts}')


if __name__ == '__main__':
    main()
