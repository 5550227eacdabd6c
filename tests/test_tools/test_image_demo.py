import copy
import http.server
import json
import sys
import threading
from functools import partial
from unittest.mock import create_autospec

import cv2
import mmcv
import numpy as np
import pytest
import torch
from random_checkpoints import (
    CLASSES,
    IMAGES,
    draw_image,
    load_config,
    save_random,
)
from tool_runs import run_tool

from mmba2m import HOSTS
from mmba2m.inspect import inference
from mmba2m.inspect.inference import Predictor

pytestmark = [
    pytest.mark.skipif('mmdet' not in HOSTS, reason='needs MMDetection'),
    pytest.mark.skipif('mmpretrain' not in HOSTS, reason='needs MMPretrain'),
]


@pytest.fixture
def run(tmp_path):
    """Runs the tool; what it wrote, or the text where it fails."""

    def run(*args, fails=False):
        out = tmp_path / f'out{len(list(tmp_path.glob("out*")))}'
        options = '--out-dir', out, '--device', 'cpu'
        run.text = run_tool('image_demo.py', *args, *options, fails=fails)
        assert 'Traceback' not in run.text
        file = out / 'predictions.json'
        run.content = json.loads(file.read_text()) if file.exists() else None
        return run.text if fails else (run.content, out / 'vis')

    return run


def test_detections_are_those_of_the_inferencer(
    run, images, checkpoints, monkeypatch
):
    """With one read of the checkpoint and of each image, and one build."""
    from mmdet.apis import DetInferencer

    network = sys.modules['mmdet.models'].FasterRCNN
    owners = dict(load=torch, imdecode=cv2, __init__=network)
    calls = []
    for name, owner in owners.items():
        calls.append(create_autospec(getattr(owner, name)))
        calls[-1].side_effect = getattr(owner, name)
        monkeypatch.setattr(owner, name, calls[-1])
    monkeypatch.setattr(inference, 'LARGE_SIZE', 1)
    content, vis = run(images, checkpoints['mmdet'], '--score-thr', 0.2)
    assert [one.call_count for one in calls] == [1, 5, 1]
    monkeypatch.undo()

    assert [result['image'] for result in content['results']] == IMAGES
    assert content['classes'] == list(CLASSES)
    infer = DetInferencer(
        weights=str(checkpoints['mmdet']), device='cpu', show_progress=False
    )
    kept = 0
    for result in content['results']:
        path = str(images / result['image'])
        image = cv2.imread(path)
        assert (result['height'], result['width']) == image.shape[:2]
        by_host = infer(path, return_vis=True, pred_score_thr=0.2)
        (expected,), (shown,) = by_host.values()
        found = result['predictions']
        number = sum(score >= 0.2 for score in expected['scores'])
        kept += number
        for key in ('score', 'box', 'label'):
            values = expected[{'box': 'bboxes'}.get(key, f'{key}s')]
            assert [one[key] for one in found] == values[:number]
        assert all(one['class'] == CLASSES[one['label']] for one in found)
        drawn = cv2.imread(str(vis / result['image']))
        assert np.array_equal(drawn, shown[..., ::-1])
        assert np.array_equal(drawn, image) == (not found)
    assert kept
    assert 'more/a.png: ' in run.text


@pytest.mark.parametrize('host', HOSTS)
def test_no_image_depends_on_others_of_its_batch(
    run, images, checkpoints, host
):
    """Nor by padding: two sizes do not meet in a batch."""
    options = '--score-thr', 0.19
    source = images / '[a-c].png'  # the last has another size
    alone, _ = run(source, checkpoints[host], *options)
    together, _ = run(source, checkpoints[host], *options, '--batch-size', 4)
    scores = set()
    for one, other in zip(alone['results'], together['results'], strict=True):
        assert one['image'] == other['image']
        found, again = one['predictions'], other['predictions']
        for key in found[0].keys() - {'class'}:
            values = [[x[key] for x in rows] for rows in (found, again)]
            np.testing.assert_allclose(*values, rtol=1e-4, atol=1e-4)
        scores.add(found[0]['score'])
    assert len(scores) == 3


def test_small_images_are_drawn_larger(run, images, checkpoints):
    """As the host draws the enlarged image, with boxes of seven times."""
    from mmdet.apis import DetInferencer

    options = '--score-thr', 0.2
    content, vis = run(images / 'a.png', checkpoints['mmdet'], *options)
    (result,) = content['results']
    infer = DetInferencer(
        weights=str(checkpoints['mmdet']), device='cpu', show_progress=False
    )
    path = str(images / 'a.png')
    (sample,) = infer(path, return_datasamples=True)['predictions']
    found = sample.pred_instances[sample.pred_instances.scores >= 0.2]
    assert len(found) == len(result['predictions']) > 0
    found.bboxes *= 7
    sample.pred_instances = found
    large = cv2.resize(cv2.imread(path)[..., ::-1], (672, 448))
    infer.visualizer.add_datasample(
        'a', large, sample, draw_gt=False, pred_score_thr=0
    )
    drawn = cv2.imread(str(vis / 'a.png'))[..., ::-1]
    assert np.array_equal(drawn, infer.visualizer.get_image())
    assert not np.array_equal(drawn, large)


def test_a_classifier_lists_its_five_likeliest_classes(
    run, images, checkpoints
):
    from mmpretrain import ImageClassificationInferencer

    content, vis = run(images / '[ab].png', checkpoints['mmpretrain'])
    assert [one['image'] for one in content['results']] == ['a.png', 'b.png']
    config = str(images.parent / 'config.py')
    load_config('mmpretrain').dump(config)
    weights = str(checkpoints['mmpretrain'])
    infer = ImageClassificationInferencer(config, weights, device='cpu')
    for result in content['results']:
        expected = infer(str(images / result['image']))[0]['pred_scores']
        found = result['predictions']
        order = np.argsort(-expected)[:5]
        assert [one['label'] for one in found] == order.tolist()
        assert [one['class'] for one in found] == [CLASSES[i] for i in order]
        scores = [one['score'] for one in found]
        np.testing.assert_allclose(scores, expected[order], rtol=1e-6)
        # enlarged, so that the text fits
        drawn = cv2.imread(str(vis / result['image']))
        assert drawn.shape == (224, 336, 3)


def test_a_video_is_an_image_for_each_frame(run, tmp_path, checkpoints):
    path = tmp_path / 'film.avi'
    code = cv2.VideoWriter_fourcc(*'MJPG')
    writer = cv2.VideoWriter(str(path), code, 8, (96, 64))
    for i in range(3):
        writer.write(draw_image(i))
    writer.release()
    content, vis = run(path, checkpoints['mmpretrain'], '--batch-size', 2)
    names = [result['image'] for result in content['results']]
    assert names == [f'film.avi/00000{i}.jpg' for i in range(3)]
    drawn = str(tmp_path / 'drawn.mp4')  # as the page says
    mmcv.frames2video(str(vis / 'film.avi'), drawn, fps=25, fourcc='mp4v')
    assert len(mmcv.VideoReader(drawn)) == 3
    frame = tmp_path / 'frame.png'
    mmcv.imwrite(mmcv.VideoReader(str(path))[1], str(frame))
    image, _ = run(frame, checkpoints['mmpretrain'])
    found = content['results'][1]['predictions']
    assert found[0] == pytest.approx(image['results'][0]['predictions'][0])


@pytest.mark.slow
def test_masks_are_drawn_and_listed(run, images, tmp_path):
    from pycocotools import mask

    cfg = load_config('mmdet', **{'model.type': 'MaskRCNN'})
    head = cfg.model.roi_head
    head.mask_roi_extractor = copy.deepcopy(head.bbox_roi_extractor)
    head.mask_roi_extractor.roi_layer.output_size = 14
    head.mask_head = dict(type='FCNMaskHead', num_convs=1, num_classes=5)
    head.mask_head.update(in_channels=64, conv_out_channels=16)
    cfg.model.test_cfg.rcnn.mask_thr_binary = 0.4
    path = save_random(cfg, tmp_path / 'mask.pth')
    content, vis = run(images / 'a.png', path, '--score-thr', 0.2)
    found = content['results'][0]['predictions']
    # enlarged sevenfold, so that labels leave something to see
    assert found and cv2.imread(str(vis / 'a.png')).shape == (448, 672, 3)
    for one in found:
        assert one['mask']['size'] == [64, 96]
        (x, y, w, h), (x1, y1, x2, y2) = mask.toBbox(one['mask']), one['box']
        assert x1 - 2 <= x < x + w <= x2 + 3
        assert y1 - 2 <= y < y + h <= y2 + 3


def test_a_url_is_downloaded(run, images, checkpoints):
    handler = http.server.SimpleHTTPRequestHandler
    handler = partial(handler, directory=str(images))
    checkpoint = checkpoints['mmpretrain']
    with http.server.ThreadingHTTPServer(('127.0.0.1', 0), handler) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        url = f'http://127.0.0.1:{server.server_port}'
        content, vis = run(f'{url}/more/a.png?x=1', checkpoint)
        run(f'{url}/none.png', checkpoint, fails=True)
        server.shutdown()
    reason = 'HTTPError: HTTP Error 404: File not found'
    assert run.content['unreadable'] == {'none.png': reason}
    local, _ = run(images / 'more/a.png', checkpoint)
    assert content['results'] == local['results']
    assert (vis / 'a.png').exists()


def test_what_is_bad_is_named_and_the_others_go_on(run, images, checkpoints):
    """Whether a decoder, the pipeline or the network fails on it."""
    whole = (images / 'a.png').read_bytes()
    (images / 'b.png').write_bytes(b'no image')
    (images / 'half.jpg').write_bytes(whole[: len(whole) // 2])
    (images / 'empty.jpg').touch()
    (images / 'film.mp4').write_bytes(b'no video')
    # scaled to a height of 0
    mmcv.imwrite(np.zeros((1, 1500, 3), np.uint8), str(images / 'e.png'))
    mmcv.imwrite(draw_image(9, 1, 1500), str(images / 'f.png'))
    text = run(*(images, checkpoints['mmdet'], '--batch-size', 4), fails=True)
    reasons = run.content['unreadable']
    for name, reason in (
        ('b.png', 'is no image'),
        ('half.jpg', 'is a PNG that is cut off or damaged'),
        ('empty.jpg', 'is empty'),
        ('film.mp4', 'is no video'),
    ):
        expected = f'ValueError: {images / name} {reason}'
        assert reasons.pop(name) == expected
    assert set(reasons) == {'e.png', 'f.png'}
    assert 'image_demo: 6 could not be read or predicted on: ' in text
    names = [result['image'] for result in run.content['results']]
    assert names == [name for name in IMAGES if name != 'b.png']


def test_results_are_there_where_it_is_interrupted(
    run, images, checkpoints, monkeypatch, tmp_path
):
    predict, done = Predictor.predict, []

    def interrupted(self, *args):
        if len(done) == 2:
            raise KeyboardInterrupt
        done.append(1)
        return predict(self, *args)

    monkeypatch.setattr(Predictor, 'predict', interrupted)
    with pytest.raises(KeyboardInterrupt):
        run(images, checkpoints['mmpretrain'])
    content = json.loads((tmp_path / 'out0/predictions.json').read_text())
    assert [result['image'] for result in content['results']] == IMAGES[:2]


def test_results_are_no_input(images, checkpoints):
    vis = images / 'out/vis'
    options = '--out-dir', vis.parent, '--device', 'cpu'
    for _ in range(2):
        run_tool('image_demo.py', images, checkpoints['mmpretrain'], *options)
        content = json.loads((vis.parent / 'predictions.json').read_text())
        assert len(content['results']) == 5
    args = vis / 'a.png', checkpoints['mmpretrain'], *options
    text = run_tool('image_demo.py', *args, fails=True)
    assert f'a.png: no image or video there but those of {vis}' in text


def test_errors_name_what_is_wrong(run, images, tmp_path, checkpoints):
    image, checkpoint = images / 'a.png', checkpoints['mmpretrain']
    config, bare = tmp_path / 'config.py', tmp_path / 'bare.pth'
    cfg = load_config('mmpretrain')
    cfg.dump(config)
    torch.save(torch.load(checkpoint, weights_only=False)['state_dict'], bare)
    content, _ = run(image, config, bare)
    assert content['results'][0]['predictions'][0]['class'] is None

    torch.save(print, bare)
    del cfg.test_dataloader.dataset.pipeline
    cfg.dump(config)
    (tmp_path / 'notes').mkdir()
    for args, message in (
        ((tmp_path / 'none*.png', checkpoint), 'none*.png: no such file'),
        ((tmp_path / 'notes', checkpoint), 'notes: no image or video there'),
        ((image, config, checkpoint), 'no test_dataloader.dataset.pipeline'),
        ((image, bare), 'bare.pth was not loaded: it holds print'),
    ):
        assert message in run(*args, fails=True)
