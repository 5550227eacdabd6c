"""Predicts on images or videos, draws what is found, and lists it in JSON.

Detectors and classifiers alike. In --out-dir, vis/ has the drawn images and
videos, under their names relative to the input, and predictions.json what is
on them.
"""

import argparse
import glob
import json
import os
import pickle
import sys
import tempfile
import urllib.request
from collections import Counter
from contextlib import contextmanager
from pathlib import Path
from urllib.parse import unquote, urlparse

import cv2
import mmcv
import numpy as np

from mmba2m.checkpoints.files import atomic_write, use_safe_loading
from mmba2m.inspect.inference import load_predictor

IMAGES = ('.bmp', '.jpeg', '.jpg', '.png', '.tif', '.tiff', '.webp')
VIDEOS = ('.avi', '.m4v', '.mkv', '.mov', '.mp4', '.mpeg', '.mpg', '.webm')


def parse_args(argv=None):
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument(
        'input', help='image, video, folder, glob pattern (quoted) or URL'
    )
    parser.add_argument(
        'model', help='config file, or a checkpoint that holds its config'
    )
    parser.add_argument(
        'checkpoint', nargs='?', help='checkpoint, where MODEL is a config'
    )
    parser.add_argument(
        '--out-dir', default='outputs', type=Path, help='outputs by default'
    )
    parser.add_argument('--device', help='by default a GPU if there is one')
    parser.add_argument(
        '--score-thr',
        type=float,
        default=0.3,
        help='least score of a detection, 0.3 by default',
    )
    parser.add_argument(
        '--batch-size',
        type=positive,
        default=1,
        help='images at once, 1 by default; only images of one size go '
        'together, so that none changes what is found on another',
    )
    parser.add_argument(
        '--palette',
        default='none',
        choices=['coco', 'voc', 'citys', 'random', 'none'],
        help='colours of boxes, by default those of the config',
    )
    return parser.parse_args(argv)


def positive(text):
    if int(text) < 1:
        raise argparse.ArgumentTypeError(f'{text} must be positive')
    return int(text)


@contextmanager
def local_input(source):
    """Yields the name of a local file or pattern, downloading a URL."""
    url = urlparse(source)
    if url.scheme not in ('http', 'https'):
        yield source
        return
    with tempfile.TemporaryDirectory() as folder:
        name = Path(unquote(url.path)).name or 'image'
        path = Path(folder, name)
        try:
            with urllib.request.urlopen(source, timeout=60) as response:
                path.write_bytes(response.read())
        except (OSError, ValueError) as error:
            raise OSError(f'{source}: {error}') from error
        yield str(path)


def find_files(source, drawn):
    """Finds images and videos.

    Args:
        source (str): A file, a folder, which is searched below, or a pattern.
        drawn (Path): Folder that is left out, that of the results.

    Returns:
        tuple[Path, list[Path]]: What names are relative to, and the files.

    Raises:
        FileNotFoundError: If there are none.
    """
    path = Path(source)
    if path.is_file():
        files, root = [path], path.parent
    elif path.is_dir():
        files, root = sorted(path.rglob('*')), path
    else:
        files = sorted(map(Path, glob.glob(source, recursive=True)))
        folders = {str(file.parent) for file in files}
        root = Path(os.path.commonpath(folders)) if folders else path
    if not path.is_file():
        files = [file for file in files if is_known(file)]
    drawn = drawn.resolve()
    left = [file for file in files if drawn not in file.resolve().parents]
    if not left:
        reason = f', but those of {drawn}' if files else ''
        raise FileNotFoundError(
            f'{source}: no such file, or no image or video there{reason}'
        )
    return root, left


def is_known(path):
    return path.is_file() and path.suffix.lower() in IMAGES + VIDEOS


def read_image(path):
    """Reads an image as BGR, or None if it is none."""
    try:
        return mmcv.imread(path)
    except (OSError, cv2.error):
        return None


def batch(items, size):
    """Groups neighbours whose images have one size.

    Args:
        items (Iterable[tuple]): Image last.
        size (int): Items at most.

    Yields:
        list[tuple]: Items.
    """
    group = []
    for item in items:
        full = len(group) == size
        if group and (full or group[0][-1].shape != item[-1].shape):
            yield group
            group = []
        group.append(item)
    if group:
        yield group


class Demo:
    """Runs a predictor over files, and collects what it finds."""

    def __init__(self, predictor, out_dir, score_thr, batch_size):
        self.predictor = predictor
        self.folder = out_dir / 'vis'
        self.score_thr = score_thr
        self.batch_size = batch_size
        self.results = []
        self.unreadable = []

    def run(self, root, files):
        """Runs over files; their names become relative to ``root``."""
        videos = [file for file in files if file.suffix.lower() in VIDEOS]
        images = [file for file in files if file not in videos]
        self._run_images(root, images)
        for video in videos:
            self._run_video(video, video.relative_to(root).as_posix())

    def _run_images(self, root, files):
        for group in batch(self._read(root, files), self.batch_size):
            # paths, so that the config's own loader reads them
            paths = [str(path) for path, _, _ in group]
            samples = self.predictor.predict(paths, self.score_thr)
            for (_, name, image), sample in zip(group, samples, strict=True):
                found = self.predictor.to_dicts(sample)
                height, width = image.shape[:2]
                self.results.append(
                    dict(
                        image=name,
                        width=width,
                        height=height,
                        predictions=found,
                    )
                )
                drawn = self.predictor.draw(image, sample)
                mmcv.imwrite(
                    drawn, str(self._name_drawn(name, IMAGES, '.png'))
                )
                print(f'{name}: {describe(found)}')

    def _read(self, root, files):
        for file in files:
            image = read_image(file)
            if image is None:
                self.unreadable.append(file.relative_to(root).as_posix())
                continue
            yield file, file.relative_to(root).as_posix(), image

    def _run_video(self, file, name):
        video = mmcv.VideoReader(str(file))
        if not video.opened or video.width == 0:
            self.unreadable.append(name)
            return
        fps = video.fps or 25
        out = self._name_drawn(name, ('.mp4',), '.mp4')
        out.parent.mkdir(parents=True, exist_ok=True)
        frames, writer = [], None
        for group in batch(enumerate(video), self.batch_size):
            images = [image for _, image in group]
            samples = self.predictor.predict(images, self.score_thr)
            for (index, image), sample in zip(group, samples, strict=True):
                frames.append(
                    dict(
                        frame=index,
                        predictions=self.predictor.to_dicts(sample),
                    )
                )
                drawn = np.ascontiguousarray(
                    self.predictor.draw(image, sample)
                )
                writer = writer or open_video(out, fps, drawn)
                writer.write(drawn)
        if writer is None:
            self.unreadable.append(name)
            return
        writer.release()
        height, width = image.shape[:2]
        self.results.append(
            dict(
                video=name, width=width, height=height, fps=fps, frames=frames
            )
        )
        print(f'{name}: {len(frames)} frames')

    def _name_drawn(self, name, suffixes, other):
        # a format that cannot be written gets another suffix
        if Path(name).suffix.lower() not in suffixes:
            name += other
        return self.folder / name


def open_video(path, fps, frame):
    height, width = frame.shape[:2]
    writer = cv2.VideoWriter(
        str(path), cv2.VideoWriter_fourcc(*'mp4v'), fps, (width, height)
    )
    if not writer.isOpened():
        raise OSError(f'{path}: this OpenCV cannot write MP4 videos')
    return writer


def describe(found):
    """One line on an image: what was found, or the likeliest class."""
    names = [one['class'] or f'class {one["label"]}' for one in found]
    if found and 'box' not in found[0]:
        return f'{names[0]} {found[0]["score"]:.3f}'
    counts = Counter(names).most_common()
    return ', '.join(f'{n} {name}' for name, n in counts) or 'nothing'


def demo(args):
    with local_input(args.input) as source:
        root, files = find_files(source, args.out_dir / 'vis')
        use_safe_loading()
        predictor = load_predictor(
            args.model, args.checkpoint, args.device, args.palette
        )
        run = Demo(predictor, args.out_dir, args.score_thr, args.batch_size)
        run.run(root, files)
    content = dict(
        input=args.input,
        model=args.model,
        checkpoint=args.checkpoint or args.model,
        score_thr=args.score_thr,
        classes=predictor.classes,
        results=run.results,
        unreadable=run.unreadable,
    )
    args.out_dir.mkdir(parents=True, exist_ok=True)
    out = args.out_dir / 'predictions.json'
    with atomic_write(out) as stream:
        stream.write(json.dumps(content, indent=1).encode())
    print(f'wrote {out}')
    if run.unreadable:
        raise ValueError(
            f'{len(run.unreadable)} of {len(files)} could not be read as '
            f'image or video: {", ".join(run.unreadable)}'
        )


def main(argv=None):
    try:
        demo(parse_args(argv))
    except (ValueError, OSError, pickle.UnpicklingError) as error:
        sys.exit(f'image_demo: {error}')


if __name__ == '__main__':
    main()
