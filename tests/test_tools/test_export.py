import functools
import json
from itertools import count
from unittest.mock import Mock

import cv2
import mmcv
import numpy as np
import pytest
import torch
from random_checkpoints import CLASSES, load_config, save_random
from tool_runs import run_tool

from mmba2m import HOSTS
from mmba2m.inspect import load_network, read_trained

onnxruntime = pytest.importorskip('onnxruntime')
pytestmark = [
    pytest.mark.skipif('mmdet' not in HOSTS, reason='needs MMDetection'),
    pytest.mark.skipif('mmpretrain' not in HOSTS, reason='needs MMPretrain'),
]


def small(host, **options):
    """A demo whose global branch pools from 64 pixels on."""
    options['model.backbone.ba2m_cfg.max_kv_size'] = 5
    return load_config(host, **{'model.backbone.base_channels': 16, **options})


@pytest.fixture(scope='module')
def checkpoints(tmp_path_factory):
    folder = tmp_path_factory.mktemp('checkpoints')
    detector = {
        'model.neck.in_channels': [16, 32, 64],
        'test_dataloader.dataset.pipeline.1.scale': (90, 60),
    }
    return {
        host: save_random(small(host, **options), folder / f'{host}.pth')
        for host, options in (('mmdet', detector), ('mmpretrain', {}))
    }


@pytest.fixture
def export(tmp_path):
    """Runs the tool; the file that it wrote, or its text where it fails."""
    number = count()

    def export(*args, fails=False):
        out = tmp_path / f'net{next(number)}.onnx'
        args = 'deployment/export.py', *args, '--out', out
        export.text = run_tool(*args, fails=fails)
        if fails:
            assert not out.exists() and 'Traceback' not in export.text
            return export.text
        return out

    return export


def run(path, x):
    """What a user of the file gets, with nothing of ours."""
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = 1
    cpu = ['CPUExecutionProvider']
    session = onnxruntime.InferenceSession(path, options, providers=cpu)
    return session.run(None, {'input': x.numpy()})


@functools.cache
def load(checkpoint):
    return load_network(*read_trained(str(checkpoint)), 'cpu')


@torch.no_grad()
def predict(checkpoint, x):
    model = load(checkpoint)
    if hasattr(model, 'roi_head'):
        return [maps.numpy() for maps in model.extract_feat(x)]
    return [model(x).softmax(1).numpy()]


def unequal(number, height, width):
    scales = torch.tensor([0.1, 3.0, 1.0])[:number].view(-1, 1, 1, 1)
    return scales * torch.randn(number, 3, height, width)


@pytest.mark.parametrize(
    'host', [pytest.param('mmdet', marks=pytest.mark.slow), 'mmpretrain']
)
def test_the_file_computes_what_the_network_computes(
    export, checkpoints, host
):
    """Also where pooling sets in beyond the size exported."""
    options = '--shape', 64, 96, '--dynamic', 'batch', 'size'
    out = export(checkpoints[host], *options)
    description = json.loads(out.with_suffix('.onnx.json').read_text())
    described = description['input']
    assert described['shape'] == ['batch', 3, 'input_height', 'input_width']
    assert described['pad_size_divisor'] == (32 if host == 'mmdet' else 1)
    modules = 3 if host == 'mmdet' else 4
    assert f'BA2M: {modules} modules in it, 0 taken out' in export.text
    for size in ((64, 96), (96, 160), (160, 32)):
        x = unequal(3, *size)
        expected = predict(checkpoints[host], x)
        assert len(expected) == (4 if host == 'mmdet' else 1)
        # each sample is weighed by itself
        for output, one, target in zip(
            run(out, x), run(out, x[1:2]), expected, strict=True
        ):
            np.testing.assert_allclose(output, target, rtol=0, atol=1e-4)
            np.testing.assert_allclose(output[1:2], one, rtol=0, atol=1e-4)
            assert np.abs(target[0] - target[1]).max() > 1e-3


@pytest.mark.parametrize('how', ['annealed', 'identity'])
def test_nothing_is_left_of_a_module_that_does_nothing(export, tmp_path, how):
    cfg = small('mmpretrain')
    strength = float(how == 'identity')
    if strength:
        cfg.model.backbone.ba2m_cfg.inference = how
    checkpoint = save_random(cfg, tmp_path / 'idle.pth', strength=strength)
    out = export(checkpoint, '--shape', 64, 64)
    assert 'BA2M: 0 modules in it, 4 taken out' in export.text
    assert b'ba2m' not in out.read_bytes()
    x = torch.randn(1, 3, 64, 64)
    found, expected = run(out, x)[0], predict(checkpoint, x)[0]
    np.testing.assert_allclose(found, expected, rtol=0, atol=1e-4)


def test_the_description_prepares_an_image(export, checkpoints, tmp_path):
    """By OpenCV and NumPy alone, as the test pipeline does."""
    image = np.random.default_rng(0).integers(0, 256, (100, 70, 3), np.uint8)
    path = tmp_path / 'image.png'
    mmcv.imwrite(image, str(path))
    out = export(checkpoints['mmpretrain'], '--shape', 64, 64)
    assert 'random (1, 3, 64, 64): differs by' in export.text
    assert b'.ba2m.' in out.read_bytes()

    content = json.loads(out.with_suffix('.onnx.json').read_text())
    described = content['input']
    assert content['classes'] == list(CLASSES)
    assert content['outputs'] == ['scores']
    assert described['shape'] == [1, 3, 64, 64]
    assert described['channels'] == 'RGB'
    assert described['pipeline'] == [dict(type='Resize', scale=64)]
    x = cv2.resize(image, (64, 64))[..., ::-1]
    x = (x - np.array(described['mean'])) / np.array(described['std'])
    x = torch.tensor(x.transpose(2, 0, 1)[None], dtype=torch.float32)
    args = path, checkpoints['mmpretrain'], '--out-dir', tmp_path
    run_tool('image_demo.py', *args, '--device', 'cpu')
    demo = json.loads((tmp_path / 'predictions.json').read_text())
    best = demo['results'][0]['predictions'][0]
    scores = run(out, x)[0][0]
    assert scores.argmax() == best['label']
    assert scores.max() == pytest.approx(best['score'], abs=1e-4)


def test_what_is_wrong_is_refused(export, checkpoints, tmp_path, monkeypatch):
    cfg = small('mmpretrain')
    cfg.model.backbone.ba2m_cfg.inference = 'batch'
    batch = save_random(cfg, tmp_path / 'batch.pth')
    taken = tmp_path / 'net1.onnx.json'
    taken.write_text('mine')
    checkpoint, shape = checkpoints['mmpretrain'], ('--shape', 64, 64)
    for args, message in (
        ((batch, *shape), "backbone.layer1.ba2m has inference='batch'"),
        ((checkpoint, *shape), 'net1.onnx.json exists already'),
    ):
        assert message in export(*args, fails=True)

    # what does not run, or does not compute the same, is not written
    fails = Mock(side_effect=RuntimeError('Op (Add): bad dimensions'))
    with monkeypatch.context() as patch:
        patch.setattr(onnxruntime.InferenceSession, 'run', fails)
        text = export(checkpoint, *shape, fails=True)
    assert 'fails on an input of (1, 3, 64, 64): Op (Add): bad' in text
    write = torch.onnx.export

    @functools.wraps(write)
    def write_other(network, *args, **kwargs):
        next(network.parameters()).data.mul_(2)
        return write(network, *args, **kwargs)

    monkeypatch.setattr(torch.onnx, 'export', write_other)
    text = export(checkpoint, *shape, fails=True)
    assert 'differs on an input of (1, 3, 64, 64): scores by' in text


@pytest.mark.slow
@pytest.mark.parametrize('attention', ['SE', 'CBAM', 'ECA', 'AWConv2d'])
def test_other_attention(export, tmp_path, attention):
    cfg = small('mmpretrain')
    depth = 50 if attention == 'AWConv2d' else 18
    cfg.model.head.in_channels = 512 if depth == 50 else 128
    cfg.model.backbone = dict(type='AttentionResNet', depth=depth)
    cfg.model.backbone.update(stem_channels=16, base_channels=16)
    cfg.model.backbone['attention'] = dict(type=attention)
    path = save_random(cfg, tmp_path / 'other.pth')
    args = path, '--shape', 64, 64, '--dynamic', 'batch', 'size'
    if depth == 50:  # what ONNX lacks is refused in a line
        text = export(*args, fails=True)
        assert 'PyTorch cannot export it: Unsupported' in text
        assert len(text) < 1000
        return
    x = unequal(2, 48, 80)
    (expected,), (found,) = predict(path, x), run(export(*args), x)
    assert np.abs(expected[0] - expected[1]).max() > 1e-3
    np.testing.assert_allclose(found, expected, rtol=0, atol=1e-4)
