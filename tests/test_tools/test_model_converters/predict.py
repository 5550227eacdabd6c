"""Predictions of a checkpoint by its host's inferencer, here or without us."""

import json
import subprocess
import sys


def predict(host, config, checkpoint, *images):
    """The type of the backbone, and all numbers found in each image."""
    if host == 'mmdet':
        from mmdet.apis import DetInferencer

        infer = DetInferencer(config or None, checkpoint, device='cpu')
        found = infer(list(images))['predictions']
        keys = 'labels', 'scores', 'bboxes'
        found = [[one[key] for key in keys] for one in found]
    else:
        from mmpretrain import ImageClassificationInferencer

        infer = ImageClassificationInferencer(config, checkpoint, device='cpu')
        found = [one['pred_scores'].tolist() for one in infer(list(images))]
    return [type(infer.model.backbone).__name__, found]


def predict_alone(*args):
    """:func:`predict` in a process where nothing can import mmba2m."""
    done = subprocess.run(
        [sys.executable, __file__, *args],
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr[-3000:]
    return json.loads(done.stdout.splitlines()[-1])


if __name__ == '__main__':
    sys.modules['mmba2m'] = None
    print('\n' + json.dumps(predict(*sys.argv[1:])))
