"""A data set of overlapping shapes, drawn from a seed in seconds.

Small, but hard enough that a detector has to learn it: shapes of random size,
rotation, colour and texture hide each other over textured backgrounds. A
scene is known by (seed, split, index) alone, so a longer data set begins with
the shorter one. Needs NumPy and OpenCV, no deep learning framework.
"""

import json
import tempfile
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import cv2
import numpy as np
from numpy.random import Generator

# alphabetical, as folder data sets sort their classes: a label is the same
# number in both formats
CLASSES = ('circle', 'ring', 'square', 'star', 'triangle')
SPLITS = ('train', 'val')
FORMATS = ('coco', 'imagefolder')
MAX_IMAGES = 99_999  # behind them begin the ids of the other split
RANGES = dict(
    num_train=(1, MAX_IMAGES),
    num_val=(1, MAX_IMAGES),
    size=(64, 1024),
    seed=(0, 2**63 - 1),
)
MARKER = 'shapes.json'
VERSION = 2  # to be raised when the same parameters give other files
# a shape is placed only if all keep this part of their area, and these
# pixels, in sight: whatever is drawn is annotated
MIN_VISIBLE, MIN_PIXELS = 0.35, 24
CROP_SIZE, CONTEXT = 64, 1.4  # pixels, and how much wider than the object


def make_shapes(
    out_dir: str | Path,
    num_train: int = 600,
    num_val: int = 150,
    size: int = 128,
    seed: int = 0,
    formats: Sequence[str] = FORMATS,
) -> Path:
    """Generates the data set, whole or not at all, or finds it there.

    - ``coco/``: ``{train,val}2017/`` and ``annotations/``, named as COCO's
      files, with masks as uncompressed RLE and their tight boxes;
    - ``imagefolder/{train,val}/<class>/``: a crop of 64×64 of each object.

    Args:
        out_dir: Folder to make, with its parents.
        num_train: Training images, 1 to 99999. Defaults to 600.
        num_val: Validation images, 1 to 99999. Defaults to 150.
        size: Side of the square images in pixels, 64 to 1024. Defaults to
            128, which gives objects of about 16 to 64 pixels.
        seed: Seed of all images, 0 or more. Defaults to 0.
        formats: What to write, of ``FORMATS``. Defaults to both.

    Returns:
        The folder, absolute.

    Raises:
        ValueError: If an argument is out of range.
        FileExistsError: If the folder holds something else than this data
            set. Nothing is ever replaced.
    """
    given = dict(num_train=num_train, num_val=num_val, size=size, seed=seed)
    for name, (low, high) in RANGES.items():
        if given[name] not in range(low, high + 1):
            raise ValueError(
                f'{name} must be a whole number from {low} to {high}, '
                f'got {given[name]!r}'
            )
    if not formats or not {*formats} <= {*FORMATS}:
        raise ValueError(f'formats must be some of {FORMATS}, got {formats}')
    params: dict = {name: int(value) for name, value in given.items()}
    params |= dict(formats=sorted({*formats}), version=VERSION)
    made = json.dumps(params, indent=2) + '\n'
    out = Path(out_dir).resolve()  # a linked folder keeps its link
    marker = out / MARKER
    if out.exists() and any(out.iterdir()):
        if marker.is_file() and marker.read_text('utf-8') == made:
            return out
        raise FileExistsError(
            f'{out} holds something else than these shapes (see {MARKER}, if '
            'it is there): choose another folder, or remove it'
        )
    out.parent.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory('.part', out.name, out.parent) as folder:
        new = Path(folder, out.name)
        for split in SPLITS:
            _write_split(new, split, params)
        (new / MARKER).write_text(made, 'utf-8')
        new.rename(out)
    return out


def _write_split(root: Path, split: str, params: dict) -> None:
    photos = root / f'coco/{split}2017'
    crops = root / 'imagefolder' / split
    # all classes have a folder, or the labels of a small split were others
    for folder in (photos, *(crops / name for name in CLASSES)):
        if folder.relative_to(root).parts[0] in params['formats']:
            folder.mkdir(parents=True)
    images, annotations = [], []
    for index in range(params[f'num_{split}']):
        scene = make_scene(params['seed'], split, index, params['size'])
        number = SPLITS.index(split) * (MAX_IMAGES + 1) + index + 1
        name, side = f'{number:012d}.jpg', params['size']
        images.append(dict(id=number, file_name=name, height=side, width=side))
        if photos.exists():
            _save(photos / name, scene.image)
        for k, label in enumerate(scene.labels, 1):
            mask = scene.owner == k
            box = cv2.boundingRect(mask.astype(np.uint8))
            annotations.append(
                dict(
                    id=number * 100 + k,
                    image_id=number,
                    category_id=label + 1,
                    bbox=list(box),
                    area=int(mask.sum()),
                    segmentation=_encode_rle(mask),
                    iscrowd=0,
                )
            )
            if crops.exists():
                name = f'{CLASSES[label]}/{number:012d}_{k}.jpg'
                _save(crops / name, _crop(scene.image, box))
    if photos.exists():
        content = dict(images=images, annotations=annotations)
        # MMDetection numbers the labels in the order of this list
        names = [dict(id=i, name=name) for i, name in enumerate(CLASSES, 1)]
        path = root / f'coco/annotations/instances_{split}2017.json'
        path.parent.mkdir(exist_ok=True)
        path.write_text(json.dumps(dict(content, categories=names)))


def _save(path: Path, image: np.ndarray) -> None:
    if not cv2.imwrite(str(path), image, [cv2.IMWRITE_JPEG_QUALITY, 93]):
        raise OSError(f'{path} cannot be written')


def _encode_rle(mask: np.ndarray) -> dict:
    """Encodes a mask by the lengths of runs of 0 and 1, down the columns."""
    flat = mask.ravel(order='F')
    changes = np.flatnonzero(flat[1:] != flat[:-1]) + 1
    ends = [*([0] if flat[0] else []), *changes.tolist(), flat.size]
    counts = np.diff(ends, prepend=0).tolist()
    return dict(size=list(mask.shape), counts=counts)


def _crop(image: np.ndarray, box: Sequence[int]) -> np.ndarray:
    """Cuts a square centred on a box (x, y, w, h), with context."""
    x, y, w, h = box
    side = CONTEXT * max(w, h)
    scale = CROP_SIZE / side
    corner = np.array([x + (w - side) / 2, y + (h - side) / 2])
    # column c of the crop has its centre at (c + 0.5) / scale + corner
    shift = (0.5 - corner) * scale - 0.5
    matrix = np.column_stack([np.eye(2) * scale, shift])
    # grey outside, for a mirrored or smeared shape would be another one
    return cv2.warpAffine(
        image, matrix, (CROP_SIZE, CROP_SIZE), borderValue=(128, 128, 128)
    )


# Drawing


@dataclass
class Scene:
    """An image and what is on it.

    Attributes:
        image: (size, size, 3) uint8, BGR.
        owner: (size, size) uint8, 0 for background and k for the visible
            pixels of the k-th object, counted from 1, the lowest first.
        labels: Of the objects, indices into ``CLASSES``.
        areas: Their pixels, hidden ones and those outside the image included.
    """

    image: np.ndarray
    owner: np.ndarray
    labels: list[int]
    areas: list[int]


def make_scene(seed: int, split: str, index: int, size: int) -> Scene:
    """Draws the scene of that number, from 0, in a split."""
    rng = np.random.default_rng([seed, SPLITS.index(split), index])
    image = _draw_background(rng, size)
    owner: np.ndarray = np.zeros((size, size), np.uint8)
    labels: list[int] = []
    areas: list[int] = []
    centre = complex(size, size) / 2
    wanted = rng.integers(2, 7)
    for _ in range(60):
        label = int(rng.integers(len(CLASSES)))
        low, high = max(size / 8, 12), size / 2
        diameter = low + (high - low) * rng.random() ** 1.5  # rather small
        if labels and rng.random() < 0.4:
            # seek company, or most shapes would be in full view
            place = centre + complex(*rng.normal(0, 0.6 * diameter, 2))
        else:
            place = complex(*rng.uniform(0.05, 0.95, 2) * size)
        alpha, area = _draw_shape(rng, CLASSES[label], place, diameter, size)
        trial = np.where(alpha >= 0.5, np.uint8(len(labels) + 1), owner)
        pixels = np.bincount(trial.ravel(), minlength=len(labels) + 2)[1:]
        least = MIN_VISIBLE * np.array([*areas, area])
        if (pixels < np.maximum(least, MIN_PIXELS)).any():
            continue
        below = image[alpha >= 0.5].mean(0)
        filling = _draw_filling(rng, below, size)
        image += (filling - image) * alpha[..., None]
        owner, centre = trial, place
        labels.append(label)
        areas.append(area)
        if len(labels) == wanted:
            break
    image += rng.normal(0, rng.uniform(2, 7), image.shape)
    return Scene(image.clip(0, 255).astype(np.uint8), owner, labels, areas)


def _draw_shape(
    rng: Generator, name: str, centre: complex, diameter: float, size: int
) -> tuple[np.ndarray, int]:
    """Draws a (size, size) coverage in [0, 1]; returns the whole area, too."""
    corners = dict(triangle=3, square=4, star=10).get(name, 48)
    # with corners they reach further out: areas stay comparable
    radius = np.full(corners, 1 if corners == 48 else 1.2)
    radius[1::2] *= rng.uniform(0.42, 0.52) if name == 'star' else 1
    outline = radius * np.exp(2j * np.pi * np.arange(corners) / corners)
    outline = outline.real + 1j * outline.imag * rng.uniform(0.8, 1)
    outline *= diameter / 2 * np.exp(2j * np.pi * rng.random())
    hole = rng.uniform(0.45, 0.65) * outline
    margin = size // 2
    points = [
        np.rint(((line + centre).view(float).reshape(-1, 2) + margin) * 16)
        for line in ([outline, hole] if name == 'ring' else [outline])
    ]
    plane = np.zeros((size + 2 * margin,) * 2, np.uint8)
    points = [p.astype(np.int32) for p in points]
    cv2.fillPoly(plane, points, 255, cv2.LINE_AA, shift=4)  # in 1/16 pixel
    inside = plane[margin : margin + size, margin : margin + size]
    return inside / 255, int((plane >= 128).sum())


def _draw_background(rng: Generator, size: int) -> np.ndarray:
    ends = rng.uniform(30, 225, (2, 3))
    blend = rng.uniform(0.1, 0.7) * (_ramp(rng, size) + 1) / 2
    image = ends[0] * (1 - blend) + ends[1] * blend
    for cell in (3, 8, 24):
        image += rng.uniform(2, 14) * _noise(rng, size, cell, 3)
    if rng.random() < 0.5:
        image += rng.uniform(4, 18) * _waves(rng, size)
    if rng.random() < 0.4:
        # tiles: straight edges and corners that belong to no object
        tiles = np.sign(_waves(rng, size) * _waves(rng, size))
        image += rng.uniform(3, 10) * tiles
    return image


def _draw_filling(rng: Generator, below: np.ndarray, size: int) -> np.ndarray:
    """Draws a texture whose colour can be told from the one below."""
    colour = below
    while np.linalg.norm(colour - below) < 60:
        colour = rng.uniform(15, 240, 3)
    textures = _waves, _noise, _ramp
    return colour + rng.uniform(5, 20) * textures[rng.integers(3)](rng, size)


def _ramp(rng: Generator, size: int) -> np.ndarray:
    """Draws a gradient of about -1 to 1 in any direction."""
    y, x = np.mgrid[-1 : 1 : size * 1j, -1 : 1 : size * 1j]
    angle = rng.uniform(0, 2 * np.pi)
    return (np.cos(angle) * x + np.sin(angle) * y)[..., None]


def _waves(rng: Generator, size: int) -> np.ndarray:
    """Draws stripes of 5 to 20 pixels, from -1 to 1."""
    waves = np.pi * size / rng.uniform(5, 20) * _ramp(rng, size)
    return np.sin(waves + rng.uniform(0, 2 * np.pi))


def _noise(
    rng: Generator, size: int, cell: int = 3, channels: int = 1
) -> np.ndarray:
    """Draws smooth noise in cells of some pixels, with deviation about 1."""
    coarse = size // cell + 2
    noise = rng.normal(size=(coarse, coarse, channels))
    fine = cv2.resize(noise, (size, size), interpolation=cv2.INTER_CUBIC)
    return fine.reshape(size, size, channels)
