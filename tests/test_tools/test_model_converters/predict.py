"""Predictions of a checkpoint by the API of its host, here or without us."""

import pickle
import subprocess
import sys


def predict(host, config, checkpoint, images):
    """What a host finds in images, and the type of its backbone."""
    if host == 'mmdet':
        from mmdet.apis import inference_detector, init_detector

        model = init_detector(config, checkpoint, device='cpu')
        samples = inference_detector(model, images)
        found = [
            [
                sample.pred_instances[key].numpy()
                for key in ('bboxes', 'scores', 'labels')
            ]
            for sample in samples
        ]
    else:
        from mmpretrain import ImageClassificationInferencer

        infer = ImageClassificationInferencer(
            config, pretrained=checkpoint, device='cpu'
        )
        model = infer.model
        found = [[one['pred_scores']] for one in infer(images)]
    return type(model.backbone).__name__, found


def predict_alone(*args):
    """:func:`predict` in a process where nothing can import mmba2m."""
    done = subprocess.run(
        [sys.executable, __file__],
        input=pickle.dumps(args),
        capture_output=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr.decode()[-3000:]
    return pickle.loads(done.stdout[done.stdout.rindex(b'PICKLE') + 6 :])


if __name__ == '__main__':
    sys.modules['mmba2m'] = None
    result = predict(*pickle.load(sys.stdin.buffer))
    sys.stdout.flush()
    sys.stdout.buffer.write(b'PICKLE' + pickle.dumps(result))
