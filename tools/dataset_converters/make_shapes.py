"""Makes the embedded data set of shapes in COCO's and the folder format."""

import argparse
import os
import sys

if __name__ == '__main__':  # before mmba2m is imported
    os.environ['MMBA2M_WITHOUT_HOSTS'] = '1'

from mmba2m.datasets import make_shapes


def parse_args():
    parser = argparse.ArgumentParser(
        description=__doc__,
        formatter_class=argparse.ArgumentDefaultsHelpFormatter,
    )
    add = parser.add_argument
    add('out_dir', help='folder to make, e.g. data/shapes')
    add('--num-train', type=int, default=600, help='training images')
    add('--num-val', type=int, default=150, help='validation images')
    add('--size', type=int, default=128, help='side of an image in pixels')
    add('--seed', type=int, default=0, help='seed of all images')
    return parser.parse_args()


def main():
    try:
        folder = make_shapes(**vars(parse_args()))
    except (ValueError, OSError) as error:
        sys.exit(f'make_shapes: {error}')
    print(f'shapes: {folder}')


if __name__ == '__main__':
    main()
