"""Makes the folder of shape data sets, whole or not at all."""

import json
import shutil
from collections.abc import Callable, Iterator, Sequence
from numbers import Integral
from pathlib import Path

from mmba2m.datasets.shapes import SPLIT_STRIDE, Scene, make_scene
from mmba2m.datasets.shapes_formats import WRITERS, ImageFolderWriter, Jpeg

# Raise it when the same parameters give other files than before.
VERSION = 1
MARKER = 'shapes.json'
FORMATS = tuple(WRITERS)
_GENERATOR = 'mmba2m.datasets.shapes'


def make_shapes(
    out_dir: str | Path,
    num_train: int = 600,
    num_val: int = 150,
    size: int = 128,
    seed: int = 0,
    formats: Sequence[str] = FORMATS,
    crop_size: int = 64,
    overwrite: bool = False,
    progress: Callable[[int, int], None] | None = None,
) -> Path:
    """Generate the data set, or find that it is there.

    The files are written into ``<out_dir>.part``, which takes its final name
    when all is done. One process at a time may write to a folder.

    Args:
        out_dir: Folder to make; its parents are made as needed.
        num_train: Training images, 1 to 99999. Default: 600.
        num_val: Validation images, 1 to 99999. Default: 150.
        size: Side of the square images in pixels, 64 to 1024. Default: 128.
        seed: Seed of all images, 0 or more. Default: 0.
        formats: What to write, from ``FORMATS``. Default: all.
        crop_size: Side of the ImageFolder crops in pixels, 16 to 512.
            Default: 64.
        overwrite: Replace a data set of other parameters, or one with files
            missing. Default: False.
        progress: Called as ``progress(done, total)`` after each image.

    Returns:
        The folder, absolute.

    Raises:
        ValueError: If an argument is out of range.
        FileExistsError: If the folder holds something else than this data
            set. What the generator did not make is never replaced.
    """
    params = {
        'generator': _GENERATOR,
        'version': VERSION,
        'num_train': _check('num_train', num_train, 1, SPLIT_STRIDE - 1),
        'num_val': _check('num_val', num_val, 1, SPLIT_STRIDE - 1),
        'size': _check('size', size, 64, 1024),
        'seed': _check('seed', seed, 0, 2**63 - 1),
        'formats': _check_formats(formats),
        'crop_size': _check('crop_size', crop_size, 16, 512),
    }
    out = Path(out_dir).resolve()  # a linked folder keeps its link
    if _is_done(out, params, overwrite):
        return out
    part = _sibling(out, '.part')
    _remove(part)
    out.parent.mkdir(parents=True, exist_ok=True)
    part.mkdir()
    try:
        # First of all, so that whatever is left of it can be recognized.
        _write_marker(part, params)
        _write_files(part, params, progress)
        _write_marker(part, {**params, 'files': _count_files(part)})
        _move(part, out)
    except BaseException:
        shutil.rmtree(part, ignore_errors=True)
        raise
    return out


def _check(name: str, value: int, low: int, high: int) -> int:
    """Return an argument as int, or say what is wrong with it."""
    whole = isinstance(value, Integral) and not isinstance(value, bool)
    if not whole or not low <= value <= high:
        raise ValueError(
            f'{name} must be a whole number from {low} to {high}, '
            f'got {value!r}'
        )
    return int(value)


def _check_formats(formats: Sequence[str]) -> list[str]:
    """Return the formats in the order of ``FORMATS``, each once."""
    names = [formats] if isinstance(formats, str) else list(formats)
    unknown = [name for name in names if name not in FORMATS]
    if unknown or not names:
        raise ValueError(
            f'formats must be some of {", ".join(FORMATS)}, '
            f'got {", ".join(map(repr, unknown)) or "none"}'
        )
    return [name for name in FORMATS if name in names]


def _is_done(out: Path, params: dict, overwrite: bool) -> bool:
    """Whether the data set is there; if it cannot be made, say why."""
    if not out.exists():
        return False
    found = _read_marker(out)
    if found is None:
        if out.is_dir() and not any(out.iterdir()):
            return False
        raise FileExistsError(
            f'{out} exists and was not made by this generator: choose '
            'another folder or move it away'
        )
    files = found.pop('files', None)
    if found == params and files is not None and _count_files(out) >= files:
        return True
    if overwrite:
        return False
    differing = [
        f'{key} is {found.get(key)!r}, not {value!r}'
        for key, value in params.items()
        if found.get(key) != value
    ]
    problem = '; '.join(differing) or 'some of its files are missing'
    raise FileExistsError(
        f'{out} holds another data set of shapes ({problem}): choose another '
        'folder or overwrite it'
    )


def _read_marker(folder: Path) -> dict | None:
    """Return the parameters a folder was made with, None if not by us."""
    try:
        found = json.loads((folder / MARKER).read_text(encoding='utf-8'))
    except (OSError, ValueError):
        return None
    ours = isinstance(found, dict) and found.get('generator') == _GENERATOR
    return found if ours else None


def _write_marker(folder: Path, content: dict) -> None:
    text = json.dumps(content, indent=2) + '\n'
    (folder / MARKER).write_text(text, encoding='utf-8')


def _count_files(folder: Path) -> int:
    """Count the files of a data set, those added later included."""
    return sum(path.is_file() for path in folder.rglob('*'))


def _scenes(params: dict) -> Iterator[Scene]:
    """Draw the scenes of both splits, one at a time."""
    for split in ('train', 'val'):
        for index in range(params[f'num_{split}']):
            yield make_scene(params['seed'], split, index, params['size'])


def _write_files(
    folder: Path,
    params: dict,
    progress: Callable[[int, int], None] | None,
) -> None:
    """Draw the scenes and write them in all formats."""
    writers = [
        ImageFolderWriter(folder, params['crop_size'])
        if name == 'imagefolder'
        else WRITERS[name](folder)
        for name in params['formats']
    ]
    total = params['num_train'] + params['num_val']
    for done, scene in enumerate(_scenes(params), start=1):
        jpeg = Jpeg(scene.image)
        for writer in writers:
            writer.add(scene, jpeg)
        if progress is not None:
            progress(done, total)
    for writer in writers:
        writer.close()


def _sibling(out: Path, suffix: str) -> Path:
    return out.with_name(out.name + suffix)


def _remove(folder: Path) -> None:
    """Remove a folder of ours, or an empty one, and nothing else."""
    if _read_marker(folder) is not None:
        shutil.rmtree(folder)
    elif folder.is_dir() and not any(folder.iterdir()):
        folder.rmdir()
    elif folder.exists():
        raise FileExistsError(
            f'{folder} is in the way and was not made by this generator: '
            'move it away'
        )


def _move(part: Path, out: Path) -> None:
    """Give the finished folder its name, replacing an older one of ours."""
    old = _sibling(out, '.old')
    _remove(old)
    if _read_marker(out) is not None:
        out.rename(old)
    else:
        _remove(out)
    part.rename(out)
    _remove(old)
