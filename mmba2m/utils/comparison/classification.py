"""Two classifiers: accuracy of each class, score of the true class."""

import math

import mmcv
import numpy as np
import torch
from mmpretrain.evaluation import SingleLabelMetric


class ClassificationTask:
    """What is compared of classifiers.

    Args:
        dataset (BaseDataset): The test set.
        images (list[dict]): Its images.

    Raises:
        ValueError: If an image has no label, or several.
    """

    measure = 'score of the true class'
    columns = 1

    def __init__(self, dataset, images):
        labels = [image.get('gt_label') for image in images]
        if not all(np.ndim(one) == 0 and one is not None for one in labels):
            raise ValueError(
                'the test set has no ground truth: not one label for each '
                'image'
            )
        self.images = images
        self.labels = torch.tensor([int(label) for label in labels])
        self.classes = dataset.metainfo.get('classes') or tuple(
            f'class {i}' for i in range(int(self.labels.max()) + 1)
        )
        self.counts = np.bincount(self.labels, minlength=len(self.classes))
        self.name = 'accuracy'
        self.counted = 'images'
        self.unit = '[%]'

    def check(self, samples, source):
        """Refuses predictions of other classes.

        Args:
            samples (list[dict]): Predictions.
            source (str): Where they are from.

        Raises:
            ValueError: If so.
        """
        if 'pred_score' not in samples[0]:
            raise ValueError(f'{source} is not of a classifier')
        scores = {len(sample['pred_score']) for sample in samples}
        if scores != {len(self.classes)}:
            raise ValueError(
                f'{source} has scores for {max(scores)} classes, but the '
                f'test set has {len(self.classes)} classes'
            )

    def evaluate(self, samples):
        """Computes accuracies: the recall of each class is its accuracy.

        Args:
            samples (list[dict]): A prediction for each image.

        Returns:
            tuple[float, list[float]]: Of all images, and of each class, NaN
            where it has no image.
        """
        scores = torch.stack([sample['pred_score'] for sample in samples])
        recalls, overall = (
            SingleLabelMetric.calculate(scores, self.labels, average=kind)[0][
                1
            ]
            for kind in (None, 'micro')
        )
        recalls = np.where(self.counts > 0, recalls.numpy(), math.nan)
        return overall.item(), recalls.tolist()

    def measure_images(self, samples):
        """Looks up the score of the true class of each image.

        Args:
            samples (list[dict]): A prediction for each image.

        Returns:
            list[float]: In [0, 1].
        """
        return [
            float(sample['pred_score'][label])
            for sample, label in zip(samples, self.labels, strict=True)
        ]

    def draw(self, axes, index, samples, labels):
        """Draws an image with its class and what two runs say.

        Args:
            axes (Sequence[Axes]): One, of matplotlib.
            index (int): Of the image.
            samples (Sequence[dict]): The prediction of each run for it.
            labels (Sequence[str]): A name for each run.
        """
        (axis,) = axes
        image, true = self.images[index], self.labels[index]
        if 'img' in image:  # as CIFAR keeps them
            picture = image['img']
        else:
            picture = mmcv.imread(image['img_path'], channel_order='rgb')
        axis.imshow(picture)
        lines = [f'{image["index"]}: {self.classes[true]}']
        for run, sample in zip(labels, samples, strict=True):
            scores = sample['pred_score']
            best = int(scores.argmax())
            line = f'{run}: {scores[true]:.2f}'
            if best != true:
                line += f', {self.classes[best]} {scores[best]:.2f}'
            lines.append(line)
        axis.set_title('\n'.join(lines), fontsize=8)

    def explain(self):
        """Says what the pictures show."""
        return (
            'true class, and its score by each run; where another class has '
            'the highest score, which'
        )
