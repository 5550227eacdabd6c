"""Makes the embedded data set of shapes in COCO, VOC and folder format."""

import argparse
import sys

from mmba2m.datasets.shapes_files import FORMATS, make_shapes


def parse_args(argv=None):
    parser = argparse.ArgumentParser(
        description=__doc__,
        formatter_class=argparse.ArgumentDefaultsHelpFormatter,
    )
    add = parser.add_argument
    add('out_dir', help='folder to make, e.g. data/shapes')
    add('--num-train', type=int, default=600, help='training images')
    add('--num-val', type=int, default=150, help='validation images')
    add('--size', type=int, default=128, help='side of an image in pixels')
    add('--crop-size', type=int, default=64, help='side of a crop in pixels')
    add('--seed', type=int, default=0, help='seed of all images')
    add('--formats', nargs='+', choices=FORMATS, default=FORMATS, help='which')
    add('--overwrite', action='store_true', help='replace an older data set')
    return parser.parse_args(argv)


def show_progress(done, total):
    live = sys.stdout.isatty()
    if done == total or done % (10 if live else 250) == 0:
        end = '\r' if live and done < total else '\n'
        print(f'shapes: {done}/{total} images', end=end, flush=True)


def main(argv=None):
    args = vars(parse_args(argv))
    try:
        folder = make_shapes(**args, progress=show_progress)
    except (ValueError, OSError) as error:
        sys.exit(f'make_shapes: {error}')
    print(f'shapes: {folder}')


if __name__ == '__main__':
    main()
