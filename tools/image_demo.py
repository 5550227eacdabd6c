"""Predicts on images, draws what is found, and lists it in JSON.

Detectors and classifiers alike. In --out-dir, vis/ has the drawn images,
under their names relative to the input, and predictions.json what is on them.
"""

import argparse
import glob
import json
import os
from collections import Counter
from itertools import groupby, islice
from pathlib import Path, PurePosixPath
from urllib.parse import unquote, urlparse

if 'OMP_WAIT_POLICY' not in os.environ:  # before torch loads
    os.environ.setdefault('GOMP_SPINCOUNT', '1000')

import mmcv

from mmba2m.checkpoints.files import atomic_write
from mmba2m.engine.cli import run_main
from mmba2m.inspect import load_network, read_trained
from mmba2m.inspect.inference import Predictor

IMAGES = ('.bmp', '.jpeg', '.jpg', '.png', '.tif', '.tiff', '.webp')
VIDEOS = ('.avi', '.m4v', '.mkv', '.mov', '.mp4', '.mpeg', '.mpg', '.webm')
KNOWN = IMAGES + VIDEOS


def parse_args():
    parser = argparse.ArgumentParser(description=__doc__)
    add = parser.add_argument
    add('input', help='image, folder, glob pattern (quoted), URL or video')
    add('model', help='config file, or a checkpoint that holds its config')
    text = 'checkpoint, where MODEL is a config'
    add('checkpoint', nargs='?', help=text)
    text = 'outputs by default'
    add('--out-dir', default='outputs', type=Path, help=text)
    add('--device', help='by default a GPU if there is one')
    text = 'least score of a detection, 0.3 by default'
    add('--score-thr', type=float, default=0.3, help=text)
    text = 'images at once, 1 by default; only images of one size go '
    text += 'together, so that none changes what is found on another'
    add('--batch-size', type=int, default=1, help=text)
    args = parser.parse_args()
    if args.batch_size < 1:
        parser.error('--batch-size must be positive')
    return args


def find_inputs(source: str, results: Path) -> dict[str, str]:
    """Finds images and videos.

    Args:
        source: A file, a URL, a folder, which is searched below, or a
            pattern.
        results: Folder that is left out.

    Returns:
        Paths or URLs by their names relative to the input.

    Raises:
        FileNotFoundError: If there are none.
    """
    if source.startswith(('http://', 'https://')):
        name = PurePosixPath(unquote(urlparse(source).path)).name
        return {name or 'image': source}
    files, root = [Path(source)], Path(source)
    if not root.is_file():
        pattern = f'{glob.escape(source)}/**' if root.is_dir() else source
        files = [*map(Path, sorted(glob.glob(pattern, recursive=True)))]
        if not files:
            raise FileNotFoundError(f'{source}: no such file')
        files = [path for path in files if path.suffix.lower() in KNOWN]
    results = results.resolve()
    files = [path for path in files if results not in path.resolve().parents]
    if not files:
        raise FileNotFoundError(
            f'{source}: no image or video there but those of {results}'
        )
    if not root.is_dir():
        root = os.path.commonpath([path.parent for path in files])
    return {path.relative_to(root).as_posix(): str(path) for path in files}


class Demo:
    """Runs a predictor over images, and writes down what it finds."""

    def __init__(self, predictor, args):
        self.predictor = predictor
        self.args = args
        self.results, self.unreadable = [], {}

    def run(self, inputs):
        """Runs over what :func:`find_inputs` found."""
        self.args.out_dir.mkdir(parents=True, exist_ok=True)
        try:
            images = self.read(inputs)
            # neighbours whose images have one size
            for _, group in groupby(images, key=lambda item: item[1].shape):
                while chunk := list(islice(group, self.args.batch_size)):
                    self.predict(chunk)
        finally:  # also where it is interrupted
            content = dict(classes=self.predictor.classes)
            content.update(results=self.results, unreadable=self.unreadable)
            out = self.args.out_dir / 'predictions.json'
            with atomic_write(out) as stream:
                stream.write(json.dumps(content, indent=1).encode())
            print(f'wrote {out}')

    def read(self, inputs):
        """Yields names and images; a video is one image for each frame."""
        for name, path in inputs.items():
            try:
                if Path(name).suffix.lower() not in VIDEOS:
                    yield name, self.predictor.read(path)
                    continue
                frames = mmcv.VideoReader(path)
                if next(iter(frames), None) is None:
                    raise ValueError(f'{path} is no video')
                for i, frame in enumerate(frames):
                    yield f'{name}/{i:06}.jpg', frame
            except Exception as error:  # whatever a decoder raises
                self.refuse(name, error)

    def predict(self, group):
        """Predicts on a batch, or on each alone where one of it is bad."""
        names, images = zip(*group, strict=True)
        try:
            found = self.predictor.predict([*images], self.args.score_thr)
        except Exception as error:
            if len(group) == 1:
                self.refuse(names[0], error)
            else:
                for one in group:
                    self.predict([one])
            return
        for name, image, one in zip(names, images, found, strict=True):
            predictions, drawn = one
            result = dict(image=name, width=image.shape[1])
            result.update(height=image.shape[0], predictions=predictions)
            self.results.append(result)
            suffix = '' if Path(name).suffix.lower() in IMAGES else '.png'
            out = self.args.out_dir / 'vis' / f'{name}{suffix}'
            mmcv.imwrite(drawn, str(out))
            print(f'{name}: {describe(predictions)}')

    def refuse(self, name, error):
        """Lists what could not be read or predicted on, with the reason."""
        reason = f'{type(error).__name__}: {error}'.splitlines()[0]
        self.unreadable[name] = reason
        print(f'{name}: {reason}')


def describe(predictions):
    """One line on an image: what was found, or the likeliest class."""
    names = [one['class'] or f'class {one["label"]}' for one in predictions]
    if predictions and 'box' not in predictions[0]:
        return f'{names[0]} {predictions[0]["score"]:.3f}'
    counts = Counter(names).most_common()
    return ', '.join(f'{n} {name}' for name, n in counts) or 'nothing'


def main():
    args = parse_args()
    inputs = find_inputs(args.input, args.out_dir / 'vis')
    cfg, checkpoint = read_trained(args.model, args.checkpoint)
    path = args.checkpoint or args.model
    network = load_network(cfg, checkpoint, args.device, path)
    demo = Demo(Predictor(cfg, network), args)
    demo.run(inputs)
    if demo.unreadable:
        text = f'{len(demo.unreadable)} could not be read or predicted on: '
        raise ValueError(text + ', '.join(demo.unreadable))


if __name__ == '__main__':
    run_main(main)
