"""Tiles images of a folder into one picture.

For what ``tools/test.py --show-dir`` draws: ground truth on the left of each
image, detections on the right.
"""

import argparse
from pathlib import Path

import matplotlib

matplotlib.use('Agg')
import matplotlib.image as mpimg
import matplotlib.pyplot as plt

SUFFIXES = ('.jpg', '.jpeg', '.png')


def parse_args():
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument('folder', help='folder with images, searched below')
    parser.add_argument(
        '--out', required=True, help='PNG, JPG or PDF to write'
    )
    parser.add_argument(
        '--num', type=int, default=12, help='images at most, 12 by default'
    )
    parser.add_argument(
        '--columns', type=int, default=3, help='images a row, 3 by default'
    )
    parser.add_argument('--title', default='ground truth | detections')
    return parser.parse_args()


def tile(folder, out, num=12, columns=3, title=''):
    """Tiles the first images of a folder, in the order of their names.

    Args:
        folder (str): Searched for images, subfolders included.
        out (str): File to write.
        num (int): Images at most. Defaults to 12.
        columns (int): Images a row. Defaults to 3.
        title (str): Above the picture. Defaults to none.
    """
    files = sorted(
        file
        for file in Path(folder).rglob('*')
        if file.suffix.lower() in SUFFIXES
    )[:num]
    if not files:
        raise FileNotFoundError(f'{folder} has no image')
    images = [mpimg.imread(file) for file in files]
    columns = min(columns, len(files))
    rows = -(-len(files) // columns)
    height, width = images[0].shape[:2]
    tile_width = 12 / columns
    figure, axes = plt.subplots(
        rows,
        columns,
        squeeze=False,
        figsize=(12, rows * tile_width * height / width + 0.4),
        layout='constrained',
    )
    for axis in axes.flat:
        axis.axis('off')
    for axis, image in zip(axes.flat, images, strict=False):
        axis.imshow(image)
    figure.suptitle(title)
    Path(out).parent.mkdir(parents=True, exist_ok=True)
    figure.savefig(out, dpi=120)
    plt.close(figure)


def main():
    args = parse_args()
    tile(args.folder, args.out, args.num, args.columns, args.title)
    print(f'grid: {args.out}')


if __name__ == '__main__':
    main()
