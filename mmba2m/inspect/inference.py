"""Predictions of a detector or classifier by its host's inferencer."""

import copy
from pathlib import Path

import numpy as np
from mmengine.config import Config
from mmengine.registry import DATASETS, MODELS, init_default_scope

from mmba2m import HOSTS

from mmba2m.checkpoints.checks import check_checkpoint
from mmba2m.checkpoints.files import load_checkpoint
from mmba2m.checkpoints.weights import read_embedded_config

CONFIG_SUFFIXES = ('.py', '.json', '.yaml', '.yml')
# below this, the text that names the class does not fit on the image
MIN_DRAWN_SIZE = 224


def load_predictor(model, checkpoint=None, device=None, palette='none'):
    """Builds the network of a checkpoint, to predict with.

    Args:
        model (str): A config and, with it, ``checkpoint``; or a checkpoint
            that holds its config, as those of MMEngine's Runner do.
        checkpoint (str | None): A checkpoint. Defaults to None.
        device (str | None): Where to compute. Defaults to a GPU, where there
            is one.
        palette (str): Colours of boxes, see MMDetection's DetInferencer;
            'none' for those of the config. Defaults to 'none'.

    Returns:
        Detector | Classifier: By the host that the config names.

    Raises:
        ValueError: If there is no checkpoint or no config, the checkpoint
            does not fit, or the config is of another task.
        FileNotFoundError: If there is no such file.
        pickle.UnpicklingError: If the checkpoint would run code.
    """
    cfg, checkpoint = load_model_files(model, checkpoint)
    host = find_host(cfg)
    if 'pipeline' not in cfg.get('test_dataloader', {}).get('dataset', {}):
        raise ValueError(
            'the config has no test_dataloader.dataset.pipeline, which says '
            'how images are prepared'
        )
    with MODELS.switch_scope_and_registry(host) as registry:
        network = registry.build(copy.deepcopy(cfg.model))
    kind = Detector if host == 'mmdet' else Classifier
    kind.check_task(network)
    check_checkpoint(network, checkpoint, strict=True)
    return kind(cfg, checkpoint, device, palette)


def load_model_files(model, checkpoint=None):
    """Reads a config, from its file or out of the checkpoint.

    Args:
        model (str): A config, or a checkpoint that holds one.
        checkpoint (str | None): A checkpoint. Defaults to None.

    Returns:
        tuple[Config, str]: The config, and where the checkpoint is.

    Raises:
        ValueError: If one of them is missing.
        FileNotFoundError: If there is no such file.
    """
    if checkpoint is not None:
        return Config.fromfile(model), checkpoint
    if Path(model).suffix in CONFIG_SUFFIXES:
        raise ValueError(f'{model} is a config: name its checkpoint as well')
    content = load_checkpoint(model)
    if 'cfg' not in (content.get('meta') or {}):
        raise ValueError(
            f'{model} has no config in it: name its config before it'
        )
    try:
        return read_embedded_config(content), model
    except ValueError as error:
        raise ValueError(f'{model}: {error}') from error


def find_host(cfg):
    """Finds the library that a config is for.

    Args:
        cfg (Config): Of a detector or classifier.

    Returns:
        str: 'mmdet' or 'mmpretrain'.

    Raises:
        ValueError: If it is for neither, or for one that is not installed.
    """
    scope = cfg.get('default_scope') or str(cfg.model.type).split('.')[0]
    if scope not in HOSTS:
        raise ValueError(
            f'the config is for {scope!r} (its default_scope), and of '
            f'mmdet and mmpretrain there is {" and ".join(HOSTS)} here'
        )
    return scope


class Detector:
    """A detector of MMDetection, by its :class:`DetInferencer`.

    Args:
        cfg (Config): Its config.
        checkpoint (str): Its checkpoint.
        device (str | None): As in :func:`load_predictor`. Defaults to None.
        palette (str): As in :func:`load_predictor`. Defaults to 'none'.

    Attributes:
        model (nn.Module): The network.
        cfg (Config): Its config, as it was given.
        classes (Sequence[str] | None): Names of the classes.
    """

    def __init__(self, cfg, checkpoint, device=None, palette='none'):
        from mmdet.apis import DetInferencer

        self.cfg = cfg
        cfg = copy.deepcopy(cfg)
        cfg.setdefault('visualizer', dict(type='DetLocalVisualizer'))
        cfg.visualizer.vis_backends = None  # a training's
        self._inferencer = DetInferencer(
            cfg, checkpoint, device, palette=palette, show_progress=False
        )
        self.model = self._inferencer.model
        named = _saved_classes(checkpoint) or _configured_classes(cfg)
        # where there are none, the inferencer has taken COCO's
        self.model.dataset_meta['classes'] = self.classes = named

    @staticmethod
    def check_task(network):
        """Refuses networks that are no detectors."""
        from mmdet.models import BaseDetector

        _check_task(network, BaseDetector, 'detector')

    def prepare(self, images):
        """Turns images into what the network takes.

        Args:
            images (list[str | np.ndarray]): Paths, or BGR (H, W, 3).

        Returns:
            dict: Of one batch, with 'inputs' of shape (N, 3, h, w),
            normalised and padded.
        """
        ((_, data),) = self._inferencer.preprocess(images, len(images))
        return self.model.data_preprocessor(data, False)

    def predict(self, images, score_thr=0.0):
        """Predicts one batch.

        Args:
            images (list[str | np.ndarray]): As :meth:`prepare` takes them,
                of one size: padding would be part of what smaller ones are.
            score_thr (float): Least score of a prediction. Defaults to 0.

        Returns:
            list[DetDataSample]: Of each image.
        """
        ((_, data),) = self._inferencer.preprocess(images, len(images))
        samples = self._inferencer.forward(data)
        for sample in samples:
            found = sample.pred_instances
            sample.pred_instances = found[found.scores >= score_thr]
        return samples

    def to_dicts(self, sample):
        """Lists what was found in an image, best first.

        Args:
            sample (DetDataSample): Of :meth:`predict`.

        Returns:
            list[dict]: Each with 'label', 'class', 'score' and 'box' (x1, y1,
            x2, y2, in pixels), and 'mask' as COCO's compressed RLE.
        """
        found = self._inferencer.pred2dict(sample)
        keys = dict(bboxes='box', masks='mask')
        columns = {
            new: found[old] for old, new in keys.items() if old in found
        }
        return [
            dict(
                **_name(self.classes, label, score),
                **{key: column[i] for key, column in columns.items()},
            )
            for i, (label, score) in enumerate(
                zip(found['labels'], found['scores'], strict=True)
            )
        ]

    def draw(self, image, sample):
        """Draws what was found.

        Args:
            image (np.ndarray): BGR, shape (H, W, 3).
            sample (DetDataSample): Of :meth:`predict`.

        Returns:
            np.ndarray: BGR, shape (H, W, 3).
        """
        visualizer = self._inferencer.visualizer
        visualizer.add_datasample(
            '',
            np.ascontiguousarray(image[..., ::-1]),
            sample,
            draw_gt=False,
            pred_score_thr=0,
        )
        return visualizer.get_image()[..., ::-1]


class Classifier:
    """A classifier of MMPretrain, by its ImageClassificationInferencer.

    Arguments and attributes are those of :class:`Detector`.
    """

    def __init__(self, cfg, checkpoint, device=None, palette='none'):
        from mmengine.device import get_device
        from mmpretrain import ImageClassificationInferencer
        from mmpretrain.visualization import UniversalVisualizer

        # its pipeline is built in the scope that was used last
        init_default_scope('mmpretrain')
        classes = _saved_classes(checkpoint) or _configured_classes(cfg)
        self._inferencer = ImageClassificationInferencer(
            copy.deepcopy(cfg),
            pretrained=str(checkpoint),
            device=device or get_device(),
            classes=classes,
        )
        self._visualizer = UniversalVisualizer()
        self.cfg = cfg
        self.model = self._inferencer.model
        self.classes = classes

    @staticmethod
    def check_task(network):
        """Refuses networks that are no classifiers."""
        from mmpretrain.models import ImageClassifier

        _check_task(network, ImageClassifier, 'classifier')

    def prepare(self, images):
        """Turns images into what the network takes.

        See :meth:`Detector.prepare`; images must have one size after the test
        pipeline.
        """
        (data,) = self._inferencer.preprocess(images, len(images))
        return self.model.data_preprocessor(data, False)

    def predict(self, images, score_thr=0.0):
        """Predicts one batch, as :meth:`Detector.predict`.

        Returns:
            list[DataSample]: Of each image; ``score_thr`` is not used.
        """
        (data,) = self._inferencer.preprocess(images, len(images))
        return self._inferencer.forward(data)

    def to_dicts(self, sample):
        """Lists the five likeliest classes, best first.

        Args:
            sample (DataSample): Of :meth:`predict`.

        Returns:
            list[dict]: Each with 'label', 'class' and 'score'.
        """
        scores, labels = sample.pred_score.topk(min(5, len(sample.pred_score)))
        return [
            _name(self.classes, label, score)
            for label, score in zip(
                labels.tolist(), scores.tolist(), strict=True
            )
        ]

    def draw(self, image, sample):
        """Writes the likeliest class, as :meth:`Detector.draw`.

        Small images are enlarged, so that the text can be read.
        """
        resize = (
            MIN_DRAWN_SIZE if min(image.shape[:2]) < MIN_DRAWN_SIZE else None
        )
        drawn = self._visualizer.visualize_cls(
            np.ascontiguousarray(image[..., ::-1]),
            sample,
            classes=self.classes,
            resize=resize,
            draw_gt=False,
        )
        return drawn[..., ::-1]


def _check_task(network, base, task):
    if not isinstance(network, base):
        raise ValueError(f'{type(network).__name__} is no {task}')


def _name(classes, label, score):
    known = classes is not None and label < len(classes)
    return {
        'label': label,
        'class': classes[label] if known else None,
        'score': score,
    }


def _saved_classes(checkpoint):
    meta = load_checkpoint(checkpoint).get('meta') or {}
    dataset_meta = meta.get('dataset_meta') or {}
    return {k.lower(): v for k, v in dataset_meta.items()}.get('classes')


def _configured_classes(cfg):
    """The names that a config has, its own or those of its data set."""
    dataset = cfg.test_dataloader.dataset
    classes = (dataset.get('metainfo') or {}).get('classes')
    if classes is None:
        with DATASETS.switch_scope_and_registry(find_host(cfg)) as registry:
            cls = registry.get(dataset.type)
        classes = (getattr(cls, 'METAINFO', None) or {}).get('classes')
    return classes
