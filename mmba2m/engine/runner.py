"""MMEngine's Runner, whose errors in the data name the image."""

import warnings

from mmengine.dataset import Compose
from mmengine.runner import Runner as _Runner


class Runner(_Runner):
    """MMEngine's Runner, whose errors in the data name the image.

    A transform does not know which file it fails on: OpenCV on an empty one,
    or on an image so thin that its resized width is 0. Here the path is added
    to the error. A warning tells of an image that has not the size which its
    annotation gives, as when boxes were drawn before an EXIF rotation.
    """

    @staticmethod
    def build_dataloader(dataloader, seed=None, diff_rank_seed=False):
        """Builds a data loader as MMEngine does; see the class."""
        loader = _Runner.build_dataloader(dataloader, seed, diff_rank_seed)
        for dataset in _leaf_datasets(loader.dataset):
            if isinstance(getattr(dataset, 'pipeline', None), Compose):
                dataset.pipeline = _NamingPipeline(dataset.pipeline)
        return loader


def _leaf_datasets(dataset):
    """Yields the data sets inside wrappers like RepeatDataset."""
    if hasattr(dataset, 'datasets'):
        for child in dataset.datasets:
            yield from _leaf_datasets(child)
    elif hasattr(dataset, 'dataset'):
        yield from _leaf_datasets(dataset.dataset)
    else:
        yield dataset


class _NamingPipeline(Compose):
    def __init__(self, pipeline):
        self.pipeline = pipeline
        self.transforms = pipeline.transforms  # read by some hooks
        self.warned = False

    def __call__(self, data):
        path = data.get('img_path')
        size = data.get('width'), data.get('height')
        try:
            result = self.pipeline(data)
        except Exception as error:
            if path is None or str(path) in str(error):
                raise
            raise RuntimeError(
                f'image {path}: {type(error).__name__}: {error}'
            ) from error
        # left in the same dict by the transform that loads
        height, width = data.get('ori_shape', (0, 0))
        if all(size) and width and size != (width, height) and not self.warned:
            self.warned = True
            warnings.warn(
                f'image {path} is {width}×{height}, but {size[0]}×{size[1]} '
                'in its annotation, so its boxes may not fit. Images are '
                'turned as their EXIF tag says. (Told once per process)',
                stacklevel=2,
            )
        return result
