"""Two detectors: AP of each class, F1 of each image, and their boxes."""

import math

import mmcv
import numpy as np
import torch
from matplotlib.patches import Rectangle
from mmdet.evaluation import CocoMetric, VOCMetric, eval_map
from mmdet.evaluation.functional.mean_ap import tpfp_default
from mmengine.config import ConfigDict
from mmengine.registry import METRICS

#: what a detection needs of the image's ground truth to be a true positive
IOU = 0.5


class DetectionTask:
    """What is compared of detectors.

    The F1 of an image is ``2 TP / (2 TP + FP + FN)`` over all its classes: a
    detection of at least ``score_thr`` is a true positive, if the box of its
    class with which it overlaps most has an IoU of 0.5 with it and no
    detection of a higher score took it, as Pascal VOC matches them. One
    matched to a box that is ignored (crowd, difficult) does not count. Without
    boxes and detections F1 is 1.

    Args:
        dataset (BaseDataset): The test set.
        images (list[dict]): Its images.
        evaluators (list[dict]): ``test_evaluator`` of the config: the first
            one of COCO or VOC is taken.
        score_thr (float): From which score detections count in an image.

    Raises:
        ValueError: If no box is known, or there is no such evaluator.
    """

    measure = f'F1 at IoU {IOU}'
    columns = 3

    def __init__(self, dataset, images, evaluators, score_thr):
        self.classes = dataset.metainfo['classes']
        self.images = images
        self.score_thr = score_thr
        self.truths = [_to_truth(image) for image in images]
        labels = np.concatenate([truth['labels'] for truth in self.truths])
        if not len(labels):
            raise ValueError('the test set has no ground truth: no box')
        self.counts = np.bincount(labels, minlength=len(self.classes))
        self.metric = _build_metric(evaluators)
        self.metric.dataset_meta = dataset.metainfo
        coco = isinstance(self.metric, CocoMetric)
        self.name = 'AP' if coco else _name_voc(self.metric)
        self.counted = 'boxes'
        self.unit = '[0 to 1]'

    def check(self, samples, source):
        """Refuses predictions of other classes, and none at all.

        Args:
            samples (list[dict]): Predictions.
            source (str): Where they are from.

        Raises:
            ValueError: If so.
        """
        if 'pred_instances' not in samples[0]:
            raise ValueError(f'{source} is not of a detector')
        labels = torch.cat([s['pred_instances']['labels'] for s in samples])
        if not len(labels):
            raise ValueError(f'{source} has no detection in any image')
        if labels.max() >= len(self.classes):
            raise ValueError(
                f'{source} has a detection of class {labels.max()}, but the '
                f'test set has {len(self.classes)} classes'
            )

    def evaluate(self, samples):
        """Computes AP by the host's metric.

        Args:
            samples (list[dict]): A prediction for each image.

        Returns:
            tuple[float, list[float]]: The mean, and the AP of each class, NaN
            where it has no box.
        """
        self.metric.results.clear()
        joined = zip(samples, self.images, self.truths, strict=True)
        self.metric.process({}, [_join(*one) for one in joined])
        if isinstance(self.metric, CocoMetric):
            found = self.metric.evaluate(len(samples))
            return found['coco/bbox_mAP'], [
                found[f'coco/{name}_precision'] for name in self.classes
            ]
        truths, detections = zip(*self.metric.results, strict=True)
        aps = []
        for thr in self.metric.iou_thrs:
            # as VOCMetric calls it, which returns the mean only
            _, classes = eval_map(
                detections,
                truths,
                iou_thr=thr,
                dataset=self.classes,
                logger='silent',
                eval_mode=self.metric.eval_mode,
                use_legacy_coordinate=True,
            )
            aps.append([float(one['ap']) for one in classes])
        aps = np.where(self.counts > 0, np.mean(aps, axis=0), math.nan)
        return float(np.nanmean(aps)), aps.tolist()

    def measure_images(self, samples):
        """Computes the F1 of each image.

        Args:
            samples (list[dict]): A prediction for each image.

        Returns:
            list[float]: In [0, 1].
        """
        return [
            _to_f1(truth, self._match(truth, sample)[1])
            for truth, sample in zip(self.truths, samples, strict=True)
        ]

    def draw(self, axes, index, samples, labels):
        """Draws the ground truth of an image, and two runs' detections.

        Args:
            axes (Sequence[Axes]): Three, of matplotlib.
            index (int): Of the image.
            samples (Sequence[dict]): The prediction of each run for it.
            labels (Sequence[str]): A name for each run.
        """
        image, truth = self.images[index], self.truths[index]
        picture = mmcv.imread(image['img_path'], channel_order='rgb')
        for axis in axes:
            axis.imshow(picture)
        name = str(image['id'])
        axes[0].set_title(f'{name}: {len(truth["labels"])} boxes', fontsize=8)
        for box, label in zip(truth['bboxes'], truth['labels'], strict=True):
            _draw_box(axes[0], box, self.classes[label], '-')
        for axis, sample, run in zip(axes[1:], samples, labels, strict=True):
            found, (true, false) = self._match(truth, sample)
            for i, (box, label) in enumerate(
                zip(found['bboxes'], found['labels'], strict=True)
            ):
                text = f'{self.classes[label]} {found["scores"][i]:.2f}'
                _draw_box(axis, box, text, '--' if false[i] else '-')
            f1 = _to_f1(truth, (true, false))
            missed = len(truth['labels']) - int(true.sum())
            axis.set_title(
                f'{run}: F1 {f1:.2f}, {int(true.sum())} right, '
                f'{int(false.sum())} false, {missed} missed',
                fontsize=8,
            )

    def explain(self):
        """Says what the pictures show."""
        return (
            f'detections with score ≥ {self.score_thr:g}; solid: right '
            f'(IoU ≥ {IOU}), dashed: false'
        )

    def _match(self, truth, sample):
        found = {
            key: np.asarray(sample['pred_instances'][key])
            for key in ('bboxes', 'labels', 'scores')
        }
        kept = found['scores'] >= self.score_thr
        found = {key: values[kept] for key, values in found.items()}
        true, false = np.zeros((2, len(found['labels'])))
        for label in set(found['labels'].tolist()):
            at = found['labels'] == label
            scored = [found['bboxes'][at], found['scores'][at, None]]
            true[at], false[at] = (
                flags[0]
                for flags in tpfp_default(
                    np.hstack(scored),
                    truth['bboxes'][truth['labels'] == label],
                    truth['bboxes_ignore'][truth['labels_ignore'] == label],
                    iou_thr=IOU,
                )[:2]
            )
        return found, (true, false)


def _to_truth(image):
    truth = {}
    for suffix, ignored in (('', False), ('_ignore', True)):
        boxes = [
            box
            for box in image.get('instances', [])
            if bool(box.get('ignore_flag')) == ignored
        ]
        truth['bboxes' + suffix] = np.array(
            [box['bbox'] for box in boxes], dtype=np.float32
        ).reshape(-1, 4)
        truth['labels' + suffix] = np.array(
            [box['bbox_label'] for box in boxes], dtype=np.int64
        )
    return truth


def _to_f1(truth, matches):
    true, false = (float(flags.sum()) for flags in matches)
    total = true + false + len(truth['labels'])
    return 2 * true / total if total else 1.0


def _build_metric(evaluators):
    for cfg in evaluators:
        with METRICS.switch_scope_and_registry('mmdet') as registry:
            cls = registry.get(cfg['type'])
        if cls is not None and issubclass(cls, CocoMetric):
            # of masks, both runs would need them
            only = dict(metric='bbox', classwise=True, format_only=False)
            return METRICS.build(
                ConfigDict(cfg, **only, metric_items=None, prefix='coco')
            )
        if cls is not None and issubclass(cls, VOCMetric):
            return METRICS.build(cfg)
    raise ValueError(
        'AP is computed by CocoMetric or VOCMetric, and test_evaluator of '
        f'the config is {[cfg["type"] for cfg in evaluators]}'
    )


def _name_voc(metric):
    thrs = '/'.join(f'{thr * 100:.0f}' for thr in metric.iou_thrs)
    return f'AP{thrs} ({metric.eval_mode})'


def _join(sample, image, truth):
    """Adds the ground truth, which a file of predictions has not."""
    boxes = {key: torch.from_numpy(values) for key, values in truth.items()}
    return dict(
        sample,
        instances=image['instances'],
        gt_instances=dict(bboxes=boxes['bboxes'], labels=boxes['labels']),
        ignored_instances=dict(
            bboxes=boxes['bboxes_ignore'], labels=boxes['labels_ignore']
        ),
    )


def _draw_box(axis, box, text, style):
    x1, y1, x2, y2 = box
    for colour, width in (('black', 2.2), ('white', 1)):
        axis.add_patch(
            Rectangle(
                (x1, y1),
                x2 - x1,
                y2 - y1,
                fill=False,
                edgecolor=colour,
                linewidth=width,
                linestyle=style if colour == 'white' else '-',
            )
        )
    axis.text(
        x1,
        y1,
        text,
        fontsize=5,
        color='white',
        clip_on=True,
        bbox=dict(facecolor='black', alpha=0.6, pad=0.5, edgecolor='none'),
    )
