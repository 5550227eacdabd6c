"""Scenes of overlapping shapes, drawn from a seed.

A data set small enough to be made in seconds, hard enough that a detector
has to learn it: five kinds of shapes of random size, rotation, colour and
texture hide each other over textured backgrounds. A scene is known by (seed,
split, index) alone, so a longer data set begins with the shorter one.

Needs NumPy and OpenCV, no deep learning framework. Files are written by
:mod:`mmba2m.datasets.shapes_formats`.
"""

from dataclasses import dataclass, replace

import cv2
import numpy as np

from mmba2m.datasets.shapes_textures import draw_background, draw_filling

# Alphabetical, as folder data sets sort their classes: a label is the same
# number in every format.
CLASSES = ('circle', 'ring', 'square', 'star', 'triangle')
SPLITS = ('train', 'val')
# Ids of the second split start here; six digits, as Pascal VOC's.
SPLIT_STRIDE = 100_000
# A placement is rejected when it leaves an object with less of its area, or
# with fewer pixels, in sight: whatever is drawn is annotated.
MIN_VISIBLE = 0.35
MIN_PIXELS = 24
OBJECTS_PER_IMAGE = (2, 6)

_SUPERSAMPLE = 4
_ATTEMPTS = 60


@dataclass
class Shape:
    """One object of a scene.

    Attributes:
        label: Index into ``CLASSES``.
        bbox: Tight box of the visible part as (x, y, width, height), in
            pixels, x and y counted from 0.
        area: Visible pixels.
        visible: Visible part of the whole shape's area, what lies outside
            the image included, in (0, 1].
    """

    label: int
    bbox: tuple[int, int, int, int]
    area: int
    visible: float


@dataclass
class Scene:
    """An image and what is on it.

    Attributes:
        split: One of ``SPLITS``.
        image_id: Unique over both splits, counted from 1.
        image: (size, size, 3) uint8, BGR.
        owner: (size, size) uint8, 0 for background and k for the visible
            pixels of the k-th object, counted from 1.
        shapes: The objects, the lowest first.
    """

    split: str
    image_id: int
    image: np.ndarray
    owner: np.ndarray
    shapes: list[Shape]


@dataclass
class _Patch:
    """A shape's coverage, cut out of the plane, not of the image.

    Attributes:
        label: Index into ``CLASSES``.
        x: Column of the patch's first pixel, may be negative.
        y: Row of the patch's first pixel, may be negative.
        alpha: (side, side) float32 coverage in [0, 1].
    """

    label: int
    x: int
    y: int
    alpha: np.ndarray

    @property
    def full_area(self) -> int:
        """Pixels of the whole shape, those outside the image included."""
        return int((self.alpha >= 0.5).sum())

    def clip(self, size: int) -> tuple[tuple[slice, slice], np.ndarray]:
        """Return where in the image the patch lies, and its alpha there."""
        side = self.alpha.shape[0]
        x0, y0 = max(self.x, 0), max(self.y, 0)
        x1, y1 = min(self.x + side, size), min(self.y + side, size)
        inside = self.alpha[
            y0 - self.y : y1 - self.y, x0 - self.x : x1 - self.x
        ]
        return (slice(y0, y1), slice(x0, x1)), inside


def make_scene(seed: int, split: str, index: int, size: int = 128) -> Scene:
    """Draw a scene.

    Args:
        seed: Seed of the data set, 0 or more.
        split: One of ``SPLITS``.
        index: Number of the image in its split, from 0.
        size: Side of the square image in pixels. Default: 128, which gives
            objects of about 16 to 64 pixels.

    Returns:
        The scene; the same arguments give the same pixels.

    Raises:
        ValueError: If there is no such split, or the index is out of range.
    """
    if split not in SPLITS:
        raise ValueError(f'split must be one of {SPLITS}, got {split!r}')
    if not 0 <= index < SPLIT_STRIDE - 1:
        raise ValueError(
            f'index must be from 0 to {SPLIT_STRIDE - 2}, got {index}'
        )
    split_number = SPLITS.index(split)
    rng = np.random.default_rng([seed, split_number, index])
    patches, owner = _place_shapes(rng, size)
    canvas = draw_background(rng, size)
    for patch in patches:
        _paint(rng, canvas, patch)
    canvas += rng.normal(0, rng.uniform(2, 7), canvas.shape)
    return Scene(
        split=split,
        image_id=split_number * SPLIT_STRIDE + index + 1,
        image=np.clip(canvas, 0, 255).astype(np.uint8),
        owner=owner,
        shapes=[_describe(p, owner == k + 1) for k, p in enumerate(patches)],
    )


def _describe(patch: _Patch, mask: np.ndarray) -> Shape:
    """Measure a shape on its visible pixels, a (size, size) bool mask."""
    ys, xs = np.flatnonzero(mask.any(1)), np.flatnonzero(mask.any(0))
    x, y = int(xs[0]), int(ys[0])
    box = (x, y, int(xs[-1]) - x + 1, int(ys[-1]) - y + 1)
    area = int(mask.sum())
    return Shape(patch.label, box, area, area / patch.full_area)


def _place_shapes(
    rng: np.random.Generator, size: int
) -> tuple[list[_Patch], np.ndarray]:
    """Choose shapes one above the other so that each stays in sight.

    Returns:
        The patches, the lowest first, and the (size, size) uint8 map of the
        pixels each one owns (see :class:`Scene`).
    """
    low, high = OBJECTS_PER_IMAGE
    wanted = int(rng.integers(low, high + 1))
    owner = np.zeros((size, size), np.uint8)
    patches: list[_Patch] = []
    for _ in range(_ATTEMPTS):
        patch = _random_patch(rng, size, patches)
        trial = owner.copy()
        where, alpha = patch.clip(size)
        trial[where][alpha >= 0.5] = len(patches) + 1
        if _all_visible(trial, [*patches, patch]):
            patches.append(patch)
            owner = trial
        if len(patches) == wanted:
            break
    return patches, owner


def _all_visible(owner: np.ndarray, patches: list[_Patch]) -> bool:
    """Whether every patch keeps enough of its pixels on the owner map."""
    pixels = np.bincount(owner.ravel(), minlength=len(patches) + 1)[1:]
    full = np.array([patch.full_area for patch in patches])
    enough = (pixels >= MIN_VISIBLE * full) & (pixels >= MIN_PIXELS)
    return bool(enough.all())


def _random_patch(
    rng: np.random.Generator, size: int, below: list[_Patch]
) -> _Patch:
    """Draw a shape's kind, size, rotation and place."""
    label = int(rng.integers(len(CLASSES)))
    low, high = max(size / 8, 12), size / 2
    diameter = low + (high - low) * rng.random() ** 1.5  # rather small ones
    centre = rng.uniform(0.05, 0.95, 2) * size
    if below and rng.random() < 0.4:
        # Seek company, or most shapes would be in full view.
        other = below[int(rng.integers(len(below)))]
        middle = np.array([other.x, other.y]) + other.alpha.shape[0] / 2
        centre = middle + rng.normal(0, 0.6 * diameter, 2)
        centre = np.clip(centre, 0, size)
    contours = _contours(rng, CLASSES[label])
    angle = rng.uniform(0, 2 * np.pi)
    cos, sin = np.cos(angle), np.sin(angle)
    turn = np.array([[cos, sin], [-sin, cos]])
    squeeze = np.array([1.0, rng.uniform(0.8, 1.0)])
    contours = [c * squeeze @ turn * diameter / 2 for c in contours]
    return _rasterize(label, contours, centre)


def _contours(rng: np.random.Generator, name: str) -> list[np.ndarray]:
    """Return the closed (n, 2) outlines of a shape of diameter about 2.

    Of two outlines the second is a hole. Shapes with corners reach a little
    further out, so that areas stay comparable.
    """
    if name in ('circle', 'ring'):
        outer = _regular(48, 1.0)
        hole = rng.uniform(0.45, 0.65)
        return [outer] if name == 'circle' else [outer, outer * hole]
    if name == 'star':
        points = _regular(10, 1.2)
        points[1::2] *= rng.uniform(0.42, 0.52)
        return [points]
    return [_regular({'square': 4, 'triangle': 3}[name], 1.2)]


def _regular(corners: int, radius: float) -> np.ndarray:
    """Return the (corners, 2) vertices of a regular polygon."""
    angles = np.arange(corners) * (2 * np.pi / corners)
    return radius * np.stack([np.cos(angles), np.sin(angles)], axis=1)


def _rasterize(
    label: int, contours: list[np.ndarray], centre: np.ndarray
) -> _Patch:
    """Fill outlines, given in pixels around ``centre`` (x, y), smoothly."""
    reach = int(np.ceil(np.abs(contours[0]).max())) + 1
    x, y = (np.floor(centre) - reach).astype(int)
    side = 2 * reach + 2
    fine = np.zeros((side * _SUPERSAMPLE,) * 2, np.uint8)
    points = [
        np.rint((c + centre - (x, y)) * _SUPERSAMPLE).astype(np.int32)
        for c in contours
    ]
    cv2.fillPoly(fine, points, 255)
    alpha = cv2.resize(fine, (side, side), interpolation=cv2.INTER_AREA)
    return _Patch(label, int(x), int(y), alpha.astype(np.float32) / 255)


def _paint(
    rng: np.random.Generator, canvas: np.ndarray, patch: _Patch
) -> None:
    """Blend a shape into the (size, size, 3) float32 canvas, in place."""
    where, alpha = patch.clip(canvas.shape[0])
    below = canvas[where][alpha >= 0.5].mean(0)
    # Textured before it is cut off, or the shading would tell of the border.
    inside = draw_filling(rng, patch.alpha.shape[0], below)
    inside = replace(patch, alpha=inside).clip(canvas.shape[0])[1]
    canvas[where] += (inside - canvas[where]) * alpha[..., None]
