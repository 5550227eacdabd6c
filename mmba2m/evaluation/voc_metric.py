"""Recall and mAP of Pascal VOC, the columns of Tables III and IV."""

from mmdet.evaluation import VOCMetric as MMDetVOCMetric
from mmdet.evaluation import eval_map
from mmengine.logging import MMLogger

from mmba2m.registry import METRICS


@METRICS.register_module()
class VOCMetric(MMDetVOCMetric):
    """mAP as MMDetection's ``VOCMetric`` has it, and Recall beside it.

    MMDetection computes the recall of each class on its way to AP, but only
    draws it in a table. Here both are numbers: the recall that a class
    reaches with all its detections, averaged over the classes that occur, as
    mAP is. Detections below ``score_thr`` of the model's ``test_cfg`` do not
    count, so it is a recall at that threshold.

    The metrics are ``mAP`` and ``Recall``, the means over the thresholds, and
    ``AP50`` and ``Recall50`` (and so on) for each of them.

    Args:
        iou_thrs (float | list[float]): IoU from which a detection matches.
            Defaults to 0.5.
        eval_mode (str): ``'11points'``, VOC 2007's precision at 11 recalls,
            or ``'area'``, the area under the curve of later years.
            Defaults to ``'11points'``.
        collect_device (str): ``'cpu'`` or ``'gpu'``. Defaults to ``'cpu'``.
        prefix (str, optional): Prefix of the names. Defaults to
            ``'pascal_voc'``.

    Raises:
        ValueError: If there is no threshold, one is not in (0, 1], or
            ``eval_mode`` is unknown.
    """

    def __init__(
        self,
        iou_thrs=0.5,
        eval_mode='11points',
        collect_device='cpu',
        prefix=None,
    ):
        thrs = iou_thrs if isinstance(iou_thrs, list | tuple) else [iou_thrs]
        if not thrs or not all(0 < thr <= 1 for thr in thrs):
            raise ValueError(f'iou_thrs must be in (0, 1], got {iou_thrs}')
        if eval_mode not in ('11points', 'area'):
            raise ValueError(
                f"eval_mode must be '11points' or 'area', got {eval_mode!r}"
            )
        super().__init__(
            iou_thrs=list(thrs),
            eval_mode=eval_mode,
            collect_device=collect_device,
            prefix=prefix,
        )

    def compute_metrics(self, results):
        """Computes mAP and Recall, and logs both per class as a table.

        Args:
            results (list[tuple]): Ground truth and detections per image.

        Returns:
            dict[str, float]: The metrics, ``mAP`` and ``Recall`` first.
        """
        logger = MMLogger.get_current_instance()
        annotations, detections = zip(*results, strict=True)
        aps, recalls, metrics = [], [], {}
        for thr in self.iou_thrs:
            logger.info(f'IoU {thr}, {self.eval_mode}')
            # boxes include their last pixel, as VOC's own code counts them
            ap, classes = eval_map(
                detections,
                annotations,
                iou_thr=thr,
                dataset=self.dataset_meta['classes'],
                logger=logger,
                eval_mode=self.eval_mode,
                use_legacy_coordinate=True,
            )
            found = [
                float(result['recall'][-1]) if result['num_dets'] else 0.0
                for result in classes
                if result['num_gts']
            ]
            aps.append(ap)
            recalls.append(sum(found) / len(found) if found else 0.0)
            metrics[f'AP{round(thr * 100):02d}'] = ap
            metrics[f'Recall{round(thr * 100):02d}'] = recalls[-1]
        return dict(
            mAP=sum(aps) / len(aps),
            Recall=sum(recalls) / len(recalls),
            **metrics,
        )
