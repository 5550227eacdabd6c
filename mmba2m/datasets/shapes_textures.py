"""Textures of the shape scenes: what a background or a shape is filled with.

All of them are float32 brightness or BGR colour in about 0 to 255, and all of
their randomness comes from the generator passed in.
"""

import cv2
import numpy as np


def draw_filling(
    rng: np.random.Generator, side: int, below: np.ndarray
) -> np.ndarray:
    """Draw what a shape is filled with.

    Args:
        rng: Source of randomness.
        side: Side of the square patch in pixels.
        below: (3,) mean colour of what the shape will cover; the filling
            keeps away from it.

    Returns:
        (side, side, 3) float32 colours.
    """
    return _colour_apart(rng, below) + _shading(rng, side)[..., None]


def draw_background(rng: np.random.Generator, size: int) -> np.ndarray:
    """Draw a background.

    Args:
        rng: Source of randomness.
        size: Side of the square image in pixels.

    Returns:
        (size, size, 3) float32 colours: a gradient with noise at three
        scales and, in some, stripes, tiles and faint blobs.
    """
    ends = rng.uniform(30, 225, (2, 3))
    ends += rng.uniform(0, 0.8) * (ends.mean(1, keepdims=True) - ends)
    blend = (_ramp(rng, size)[..., None] + 1) / 2 * rng.uniform(0.1, 0.7)
    canvas = (ends[0] * (1 - blend) + ends[1] * blend).astype(np.float32)
    for cell in (3, 8, 24):
        grey = rng.random() < 0.5
        noise = _noise(rng, size, cell, 1 if grey else 3)
        canvas = canvas + rng.uniform(2, 14) * noise
    if rng.random() < 0.5:
        canvas += _stripes(rng, size, rng.uniform(4, 18))[..., None]
    if rng.random() < 0.4:
        # Tiles: straight edges and corners that belong to no object.
        tiles = np.sign(_stripes(rng, size, 1) * _stripes(rng, size, 1))
        canvas += rng.uniform(3, 10) * tiles[..., None]
    for _ in range(rng.integers(0, 7)):
        _add_blob(rng, canvas)
    return canvas


def _colour_apart(rng: np.random.Generator, below: np.ndarray) -> np.ndarray:
    """Draw a (3,) colour that can be told from the mean colour below."""
    colour = rng.uniform(15, 240, 3)
    while np.linalg.norm(colour - below) < 60:
        colour = rng.uniform(15, 240, 3)
    return colour.astype(np.float32)


def _shading(rng: np.random.Generator, side: int) -> np.ndarray:
    """Return a (side, side) brightness offset: a gradient and a texture."""
    shade = rng.uniform(5, 30) * _ramp(rng, side)
    texture = rng.integers(3)
    if texture == 1:
        shade += _stripes(rng, side, rng.uniform(4, 14))
    elif texture == 2:
        shade += rng.uniform(5, 15) * _noise(rng, side, 3, 1)[..., 0]
    return shade


def _add_blob(rng: np.random.Generator, canvas: np.ndarray) -> None:
    """Add a faint, soft ellipse: something that is no object, in place."""
    size = canvas.shape[0]
    blob = np.zeros((size, size), np.float32)
    centre = [int(v) for v in rng.uniform(0, size, 2)]
    axes = [int(v) for v in rng.uniform(size / 16, size / 5, 2)]
    cv2.ellipse(blob, centre, axes, rng.uniform(0, 180), 0, 360, 1.0, -1)
    blob = cv2.GaussianBlur(blob, (0, 0), size * rng.uniform(0.005, 0.04))
    canvas += blob[..., None] * rng.uniform(-28, 28, 3).astype(np.float32)


def _ramp(rng: np.random.Generator, side: int) -> np.ndarray:
    """Return a (side, side) float32 gradient from -1 to 1, any direction."""
    angle = rng.uniform(0, 2 * np.pi)
    line = np.linspace(-1, 1, side, dtype=np.float32)
    ramp = line * np.cos(angle) + line[:, None] * np.sin(angle)
    return (ramp / (abs(np.cos(angle)) + abs(np.sin(angle)))).astype(
        np.float32
    )


def _stripes(
    rng: np.random.Generator, side: int, strength: float
) -> np.ndarray:
    """Return (side, side) float32 waves of 5 to 20 pixels, any direction."""
    waves = side / rng.uniform(5, 20)
    phase = rng.uniform(0, 2 * np.pi)
    return strength * np.sin(np.pi * waves * _ramp(rng, side) + phase)


def _noise(
    rng: np.random.Generator, side: int, cell: int, channels: int
) -> np.ndarray:
    """Return (side, side, channels) smooth noise in cells of some pixels."""
    coarse = side // cell + 2
    noise = rng.normal(size=(coarse, coarse, channels)).astype(np.float32)
    noise = cv2.resize(noise, (side, side), interpolation=cv2.INTER_CUBIC)
    return noise.reshape(side, side, channels)
