"""Predictions of a trained network by its host's own inferencer."""

from copy import deepcopy
from io import BytesIO
from typing import Any

import mmcv
import numpy as np
from mmengine import fileio
from mmengine.config import Config
from mmengine.registry import init_default_scope
from PIL import Image, UnidentifiedImageError
from torch import nn

from mmba2m.checkpoints.safe_load import no_pickles

from .load import find_host

#: the other names of what the inferencers list in columns
COLUMNS = dict(labels='label', scores='score', bboxes='box', masks='mask')
#: on smaller pictures the text that names the class does not fit
MIN_DRAWN_SIZE = 224
#: on pictures smaller than half of this, the labels would cover the objects
LARGE_SIZE = 448


class Predictor:
    """A trained network in the inferencer of its host.

    Args:
        cfg: Its config; it stays as it is.
        network: From :func:`~mmba2m.inspect.load_network`.

    Attributes:
        classes: Names of the classes, or ``None``.

    Raises:
        ValueError: If it is neither a detector nor a classifier, or the
            config has no test pipeline.
    """

    def __init__(self, cfg: Config, network: nn.Module) -> None:
        dataset = cfg.get('test_dataloader', {}).get('dataset', {})
        if not dataset.get('pipeline'):
            raise ValueError(
                'the config has no test_dataloader.dataset.pipeline, which '
                'says how images are prepared'
            )
        self._backend = dataset.pipeline[0].get('imdecode_backend')
        self.classes = getattr(network, 'dataset_meta', {}).get('classes')
        self._detects = find_host(cfg) == 'mmdet'
        build = _detect if self._detects else _classify
        with no_pickles():
            self._inferencer = build(cfg, network)

    def read(self, path: str) -> np.ndarray:
        """Reads an image as the config's loader does, as BGR, (H, W, 3).

        Args:
            path: A file, or what MMEngine's file backends take, e.g. a URL.

        Raises:
            ValueError: If it is no whole image. Backends raise errors of
                their own.
        """
        content = fileio.get(path)
        if not content:
            raise ValueError(f'{path} is empty')
        image = mmcv.imfrombytes(content, backend=self._backend)
        if image is None:
            try:
                kind = Image.open(BytesIO(content)).format
            except UnidentifiedImageError:
                raise ValueError(f'{path} is no image') from None
            raise ValueError(f'{path} is a {kind} that is cut off or damaged')
        return image

    def predict(
        self, images: list[np.ndarray], score_thr: float = 0.0
    ) -> list[tuple[list[dict], np.ndarray]]:
        """Predicts one batch.

        Args:
            images: BGR, shape (H, W, 3), of one size: padding would be part
                of what a smaller one is.
            score_thr: Least score of a detection. Defaults to 0.

        Returns:
            For each image what was found, best first, and it drawn, in BGR,
            enlarged where it is small.
            A detection has 'label', 'class', 'score' and 'box' (x1, y1, x2,
            y2, in pixels), and 'mask' as COCO's compressed RLE; of a
            classifier the five likeliest classes are listed, without boxes.
        """
        (data,) = self._inferencer.preprocess(images, len(images))
        samples = self._inferencer.forward(data[1] if self._detects else data)
        rgb = [np.ascontiguousarray(image[..., ::-1]) for image in images]
        if self._detects:
            for sample in samples:
                kept = sample.pred_instances.scores >= score_thr
                sample.pred_instances = sample.pred_instances[kept]
            found = self._inferencer.postprocess(samples)['predictions']
            drawn = self._inferencer.visualize(
                _enlarge(rgb, samples), samples, True, pred_score_thr=0
            )
        else:
            best = [one.pred_score.sort(descending=True) for one in samples]
            found = [
                dict(labels=labels[:5].tolist(), scores=scores[:5].tolist())
                for scores, labels in best
            ]
            size = max(MIN_DRAWN_SIZE, min(images[0].shape[:2]))
            look = dict(classes=self.classes, resize=size, draw_gt=False)
            draw = self._inferencer.visualizer.visualize_cls
            pairs = zip(rgb, samples, strict=True)
            drawn = [draw(image, sample, **look) for image, sample in pairs]
        names = dict(enumerate(self.classes or ()))
        results = []
        for columns, picture in zip(found, drawn, strict=True):
            rows = [
                {COLUMNS[key]: columns[key][i] for key in columns}
                for i in range(len(columns['labels']))
            ]
            for row in rows:
                row['class'] = names.get(row['label'])
            results.append((rows, picture[..., ::-1]))
        return results


def _enlarge(images: list[np.ndarray], samples: list[Any]) -> list[np.ndarray]:
    """Enlarges small images by a whole number, and in place what is found."""
    height, width = images[0].shape[:2]
    factor = max(1, LARGE_SIZE // min(height, width))
    for sample in samples:
        found = sample.pred_instances
        found.bboxes = found.bboxes * factor
        if 'masks' in found:
            masks = found.masks.repeat_interleave(factor, -1)
            found.masks = masks.repeat_interleave(factor, -2)
    size = (width * factor, height * factor)
    return [mmcv.imresize(image, size) for image in images]


def _detect(cfg: Config, network: nn.Module) -> Any:
    from mmdet.apis import DetInferencer
    from mmdet.models import BaseDetector

    class Inferencer(DetInferencer):
        def _init_model(self, *args: Any) -> nn.Module:
            return network

    if not isinstance(network, BaseDetector):
        raise ValueError(f'{type(network).__name__} is no detector')
    cfg = deepcopy(cfg)
    cfg.setdefault('visualizer', dict(type='DetLocalVisualizer'))
    cfg.visualizer.vis_backends = None  # a training's
    return Inferencer(cfg, show_progress=False)


def _classify(cfg: Config, network: nn.Module) -> Any:
    from mmpretrain import ImageClassificationInferencer
    from mmpretrain.models import ImageClassifier
    from mmpretrain.visualization import UniversalVisualizer

    if not isinstance(network, ImageClassifier):
        raise ValueError(f'{type(network).__name__} is no classifier')
    init_default_scope('mmpretrain')
    network._config = cfg  # the inferencer looks for it there
    inferencer = ImageClassificationInferencer(network)
    inferencer.visualizer = UniversalVisualizer()
    return inferencer
