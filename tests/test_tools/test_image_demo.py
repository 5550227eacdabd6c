import http.server
import json
import re
import runpy
import shutil
import threading
from functools import partial

import cv2
import mmcv
import numpy as np
import pytest
import torch
from random_checkpoints import CLASSES, ROOT, load_config, save_random

from mmba2m import HOSTS

pytestmark = [
    pytest.mark.skipif('mmdet' not in HOSTS, reason='needs MMDetection'),
    pytest.mark.skipif('mmpretrain' not in HOSTS, reason='needs MMPretrain'),
]


def draw_image(seed, height=64, width=96):
    rng = np.random.default_rng(seed)
    image = rng.integers(0, 256, (height, width, 3), np.uint8)
    return cv2.GaussianBlur(image, (0, 0), 3) * 2


@pytest.fixture(scope='module')
def checkpoints(tmp_path_factory):
    folder = tmp_path_factory.mktemp('checkpoints')
    return {
        host: str(save_random(load_config(host), folder / f'{host}.pth'))
        for host in HOSTS
    }


@pytest.fixture
def images(tmp_path):
    """Five images, of two sizes and in two folders."""
    folder = tmp_path / 'images'
    for i, name in enumerate(
        ('a.png', 'b.png', 'c.png', 'd.png', 'more/a.png')
    ):
        size = (64, 96) if i != 2 else (96, 64)
        mmcv.imwrite(draw_image(i, *size), str(folder / name))
    return folder


@pytest.fixture
def run(tmp_path, capsys):
    """Runs the tool; what it wrote, or the message it ends with."""
    tool = runpy.run_path(f'{ROOT}/tools/image_demo.py')

    def run(*args, fails=False):
        out_dir = tmp_path / f'out{len(list(tmp_path.glob("out*")))}'
        args = [*map(str, args), '--out-dir', str(out_dir), '--device', 'cpu']
        message = None
        try:
            tool['main'](args)
        except SystemExit as error:
            message = error.code
        assert bool(message) == fails, message
        if fails:
            assert message.startswith('image_demo: ')
        out = out_dir / 'predictions.json'
        run.content = json.loads(out.read_text()) if out.exists() else None
        run.printed = capsys.readouterr().out
        return message if fails else (run.content, out_dir / 'vis')

    return run


def test_detections_are_those_of_the_inferencer(run, images, checkpoints):
    from mmdet.apis import DetInferencer

    content, vis = run(images, checkpoints['mmdet'], '--score-thr', 0.2)
    names = ['a.png', 'b.png', 'c.png', 'd.png', 'more/a.png']
    assert [result['image'] for result in content['results']] == names
    assert content['classes'] == list(CLASSES)
    infer = DetInferencer(
        weights=checkpoints['mmdet'], device='cpu', show_progress=False
    )
    kept = 0
    for result in content['results']:
        path = images / result['image']
        image = cv2.imread(str(path))
        assert (result['height'], result['width']) == image.shape[:2]
        expected = infer(str(path))['predictions'][0]
        found = result['predictions']
        number = sum(score >= 0.2 for score in expected['scores'])
        kept += number
        assert [one['score'] for one in found] == expected['scores'][:number]
        assert [one['box'] for one in found] == expected['bboxes'][:number]
        assert [one['label'] for one in found] == expected['labels'][:number]
        assert all(one['class'] == CLASSES[one['label']] for one in found)
        drawn = cv2.imread(str(vis / result['image']))
        assert drawn.shape == image.shape
        assert np.array_equal(drawn, image) == (not found)
    assert kept
    assert 'more/a.png: ' in run.printed


def test_nothing_is_drawn_where_nothing_is_found(run, images, checkpoints):
    path = images / 'a.png'
    content, vis = run(path, checkpoints['mmdet'], '--score-thr', 1)
    assert content['results'][0]['predictions'] == []
    assert 'a.png: nothing\n' in run.printed
    assert np.array_equal(
        cv2.imread(str(vis / 'a.png')), cv2.imread(str(path))
    )


@pytest.mark.parametrize('host', HOSTS)
def test_no_image_depends_on_others_of_its_batch(
    run, images, checkpoints, host
):
    """Nor by padding: two sizes do not meet in a batch."""
    options = '--score-thr', 0.19
    alone, _ = run(images, checkpoints[host], *options)
    together, _ = run(images, checkpoints[host], *options, '--batch-size', 4)
    scores = []
    for one, other in zip(alone['results'], together['results'], strict=True):
        assert one['image'] == other['image']
        assert one['predictions']
        for key in one['predictions'][0]:
            if key == 'class':
                continue
            values = [
                np.array([found[key] for found in result['predictions']])
                for result in (one, other)
            ]
            np.testing.assert_allclose(*values, rtol=1e-4, atol=1e-4)
        scores.append(one['predictions'][0]['score'])
    assert len(set(scores)) == len(scores)


def test_a_classifier_lists_its_five_likeliest_classes(
    run, images, checkpoints
):
    from mmpretrain import ImageClassificationInferencer

    content, vis = run(images / '[ab].png', checkpoints['mmpretrain'])
    assert [one['image'] for one in content['results']] == ['a.png', 'b.png']
    config = images.parent / 'config.py'
    load_config('mmpretrain').dump(config)
    infer = ImageClassificationInferencer(
        str(config), pretrained=checkpoints['mmpretrain'], device='cpu'
    )
    for result in content['results']:
        expected = infer(str(images / result['image']))[0]['pred_scores']
        found = result['predictions']
        order = np.argsort(-expected)[:5]
        assert [one['label'] for one in found] == order.tolist()
        assert [one['class'] for one in found] == [CLASSES[i] for i in order]
        np.testing.assert_allclose(
            [one['score'] for one in found], expected[order], rtol=1e-6
        )
        # enlarged, so that the text fits
        drawn = cv2.imread(str(vis / result['image']))
        assert drawn.shape == (224, 336, 3)


def test_a_video_frame_by_frame(run, tmp_path, checkpoints):
    path = tmp_path / 'film.avi'
    writer = cv2.VideoWriter(
        str(path), cv2.VideoWriter_fourcc(*'MJPG'), 8, (96, 64)
    )
    for i in range(5):
        writer.write(draw_image(i))
    writer.release()
    content, vis = run(
        path, checkpoints['mmdet'], '--score-thr', 0.2, '--batch-size', 2
    )
    (result,) = content['results']
    assert result['video'] == 'film.avi' and result['fps'] == 8
    assert [frame['frame'] for frame in result['frames']] == list(range(5))
    drawn = mmcv.VideoReader(str(vis / 'film.avi.mp4'))
    assert (len(drawn), drawn.width, drawn.height) == (5, 96, 64)

    # the same as of a single image
    frame = tmp_path / 'frame.png'
    mmcv.imwrite(mmcv.VideoReader(str(path))[3], str(frame))
    image, _ = run(frame, checkpoints['mmdet'], '--score-thr', 0.2)
    expected = image['results'][0]['predictions']
    found = result['frames'][3]['predictions']
    assert expected and len(found) == len(expected)
    for one, other in zip(found, expected, strict=True):
        np.testing.assert_allclose(one['box'], other['box'], atol=1e-3)


def test_masks_are_drawn_and_listed(run, images, tmp_path):
    from pycocotools import mask

    cfg = load_config(
        'mmdet',
        **{
            'model.type': 'MaskRCNN',
            'model.roi_head.mask_roi_extractor': dict(
                type='SingleRoIExtractor',
                roi_layer=dict(type='RoIAlign', output_size=14),
                out_channels=64,
                featmap_strides=[4, 8, 16, 32],
            ),
            'model.roi_head.mask_head': dict(
                type='FCNMaskHead',
                num_convs=1,
                in_channels=64,
                conv_out_channels=16,
                num_classes=5,
            ),
            'model.test_cfg.rcnn.mask_thr_binary': 0.4,
        },
    )
    path = save_random(cfg, tmp_path / 'mask.pth')
    content, vis = run(images / 'a.png', path, '--score-thr', 0.2)
    found = content['results'][0]['predictions']
    assert found
    for one in found:
        inside = mask.decode(one['mask'])
        assert inside.shape == (64, 96)
        ys, xs = inside.nonzero()
        x1, y1, x2, y2 = one['box']
        assert xs.min() >= x1 - 2 and xs.max() <= x2 + 2
        assert ys.min() >= y1 - 2 and ys.max() <= y2 + 2
    assert (vis / 'a.png').exists()


def test_published_and_stripped_checkpoints_predict_the_same(
    run, images, tmp_path
):
    path = save_random(
        load_config('mmpretrain'), tmp_path / 'annealed.pth', strength=0
    )
    for tool, out in (('strip_ba2m', 'plain'), ('publish_model', 'public')):
        tool = runpy.run_path(f'{ROOT}/tools/model_converters/{tool}.py')
        tool['main']([str(path), str(tmp_path / f'{out}.pth')])
    ours, _ = run(images / 'a.png', path)
    public, _ = run(images / 'a.png', next(tmp_path.glob('public-*.pth')))
    assert public['results'] == ours['results']
    plain, _ = run(images / 'a.png', tmp_path / 'plain.pth')
    assert plain['results'] == ours['results']
    named, _ = run(
        images / 'a.png', tmp_path / 'plain.py', tmp_path / 'plain.pth'
    )
    assert named['results'] == ours['results']


def test_a_url_is_downloaded(run, images, checkpoints):
    handler = partial(
        http.server.SimpleHTTPRequestHandler, directory=str(images)
    )
    handler.log_message = None
    with http.server.ThreadingHTTPServer(('127.0.0.1', 0), handler) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        url = f'http://127.0.0.1:{server.server_port}'
        content, vis = run(f'{url}/more/a.png?x=1', checkpoints['mmpretrain'])
        message = run(f'{url}/none.png', checkpoints['mmpretrain'], fails=True)
        server.shutdown()
    local, _ = run(images / 'more/a.png', checkpoints['mmpretrain'])
    assert content['results'] == local['results']
    assert (vis / 'a.png').exists()
    assert f'{url}/none.png: HTTP Error 404' in message
    message = run(f'{url}/a.png', checkpoints['mmpretrain'], fails=True)
    assert 'refused' in message and url in message


def test_what_cannot_be_read_is_named_and_the_others_go_on(
    run, images, checkpoints
):
    (images / 'b.png').write_bytes(b'no image')
    (images / 'film.mp4').write_bytes(b'no video')
    message = run(images, checkpoints['mmpretrain'], fails=True)
    assert '2 of 6 could not be read' in message
    assert message.endswith(': b.png, film.mp4')
    assert run.content['unreadable'] == ['b.png', 'film.mp4']
    names = [result['image'] for result in run.content['results']]
    assert names == ['a.png', 'c.png', 'd.png', 'more/a.png']


def test_results_are_no_input(images, checkpoints, monkeypatch):
    monkeypatch.chdir(images)
    tool = runpy.run_path(f'{ROOT}/tools/image_demo.py')
    for _ in range(2):
        tool['main'](['.', checkpoints['mmpretrain'], '--device', 'cpu'])
        content = json.loads((images / 'outputs/predictions.json').read_text())
        assert len(content['results']) == 5
    with pytest.raises(SystemExit, match='no image or video there, but'):
        tool['main'](['outputs/vis/a.png', checkpoints['mmpretrain']])


def test_errors_name_what_is_wrong(run, images, tmp_path, checkpoints):
    image, checkpoint = images / 'a.png', checkpoints['mmpretrain']
    message = run(tmp_path / 'none*.png', checkpoint, fails=True)
    assert 'none*.png: no such file, or no image' in message
    config = tmp_path / 'config.py'
    cfg = load_config('mmpretrain')
    cfg.dump(config)
    message = run(image, config, fails=True)
    assert 'config.py is a config: name its checkpoint' in message
    message = run(image, tmp_path / 'none.pth', fails=True)
    assert 'none.pth not found' in message

    bare = tmp_path / 'bare.pth'
    torch.save(torch.load(checkpoint, weights_only=False)['state_dict'], bare)
    message = run(image, bare, fails=True)
    assert 'bare.pth has no config in it' in message
    content, _ = run(image, config, bare)
    assert content['results'][0]['predictions'][0]['class'] is None

    cfg.model.backbone.depth = 34
    cfg.dump(config)
    message = run(image, config, checkpoint, fails=True)
    assert 'is a checkpoint of another network' in message
    assert 'layer1.2.conv1.weight' in message
    cfg.default_scope = 'mmseg'
    cfg.dump(config)
    assert "'mmseg'" in run(image, config, checkpoint, fails=True)

    class Attack:
        def __reduce__(self):
            return print, ('ran',)

    torch.save(dict(state_dict=Attack()), bare)
    message = run(image, bare, fails=True)
    assert 'bare.pth was not loaded: it holds print' in message
    assert 'ran' not in run.printed


@pytest.mark.parametrize('host', HOSTS)
def test_the_examples_of_the_page_run(
    images, checkpoints, tmp_path, monkeypatch, capsys, host
):
    page = (ROOT / 'docs/inference.md').read_text(encoding='utf-8')
    blocks = re.findall(r'```python\n(.+?)```', page, re.S)
    blocks = {host: [b for b in blocks if host in b] for host in HOSTS}
    (block,) = blocks[host]
    assert len(block.strip().splitlines()) == 5
    if host == 'mmdet':  # the README shows it, too
        readme = (ROOT / 'README.md').read_text(encoding='utf-8')
        assert f'```python\n{block}```' in readme
    monkeypatch.chdir(tmp_path)
    shutil.copy(checkpoints['mmdet'], 'detector.pth')
    shutil.copy(checkpoints['mmpretrain'], 'classifier.pth')
    load_config('mmpretrain').dump('classifier.py')
    shutil.copy(images / 'a.png', 'image.jpg')
    exec(block, {})
    printed = capsys.readouterr().out
    if host == 'mmdet':
        assert (tmp_path / 'outputs/vis/image.jpg').exists()
        assert '[[' in printed
    else:
        assert printed.strip().split()[-1] in CLASSES
