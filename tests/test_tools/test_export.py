import importlib.util
import json
import runpy
from copy import deepcopy

import cv2
import mmcv
import numpy as np
import pytest
import torch
from random_checkpoints import CLASSES, ROOT, load_config, save_random

from mmba2m import HOSTS
from mmba2m.inspect.inference import load_predictor

pytestmark = [
    pytest.mark.skipif('mmdet' not in HOSTS, reason='needs MMDetection'),
    pytest.mark.skipif('mmpretrain' not in HOSTS, reason='needs MMPretrain'),
]
needs_onnx = pytest.mark.skipif(
    importlib.util.find_spec('onnxruntime') is None,
    reason='needs onnxruntime',
)
FORMATS = [pytest.param('onnx', marks=needs_onnx), 'torchscript']


def small(host, **options):
    """A demo whose global branch pools from 64 pixels on."""
    options.setdefault('model.backbone.ba2m_cfg.max_kv_size', 5)
    return load_config(host, **{'model.backbone.base_channels': 16, **options})


def detector():
    return small(
        'mmdet',
        **{
            'model.neck.in_channels': [16, 32, 64, 128],
            'test_dataloader.dataset.pipeline.1.scale': (90, 60),
        },
    )


@pytest.fixture(scope='module')
def checkpoints(tmp_path_factory):
    folder = tmp_path_factory.mktemp('checkpoints')
    return {
        'mmdet': save_random(detector(), folder / 'mmdet.pth'),
        'mmpretrain': save_random(
            small('mmpretrain'), folder / 'mmpretrain.pth'
        ),
    }


@pytest.fixture(scope='module')
def export_tool():
    return runpy.run_path(f'{ROOT}/tools/deployment/export.py')


@pytest.fixture
def export(export_tool, tmp_path, capsys):
    """Runs the tool; the file that it wrote, or the message it ends with."""

    def export(*args, fails=False, name='net'):
        out = tmp_path / name
        message = None
        try:
            export_tool['main']([*map(str, args), '--out', str(out)])
        except SystemExit as error:
            message = error.code
        assert bool(message) == fails, message
        export.printed = capsys.readouterr().out
        if fails:
            assert not out.exists()
            return message
        return out

    return export


def unequal(number, height, width):
    scales = torch.tensor([0.1, 3.0, 1.0])[:number].view(-1, 1, 1, 1)
    return scales * torch.randn(number, 3, height, width)


def run(path, format_name, x):
    """What a user of the file gets, with nothing of ours."""
    if format_name == 'torchscript':
        with torch.no_grad():
            return [output.numpy() for output in torch.jit.load(path)(x)]
    import onnxruntime

    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = 1
    session = onnxruntime.InferenceSession(
        path, options, providers=['CPUExecutionProvider']
    )
    return session.run(None, {'input': x.numpy()})


def predict(host, checkpoint, x):
    model = load_predictor(str(checkpoint), device='cpu').model
    with torch.no_grad():
        if host == 'mmdet':
            return [maps.numpy() for maps in model.extract_feat(x)]
        return [model(x).softmax(1).numpy()]


@pytest.mark.parametrize('format_name', FORMATS)
@pytest.mark.parametrize('host', HOSTS)
def test_the_file_computes_what_the_network_computes(
    export, checkpoints, host, format_name
):
    """In ONNX also where pooling sets in beyond the size exported."""
    sizes, dynamic = [(64, 96)], ['batch']
    if format_name == 'onnx':
        sizes, dynamic = [(64, 96), (96, 160), (160, 32)], ['batch', 'size']
    out = export(
        *(checkpoints[host], '--format', format_name, '--shape', 64, 96),
        *('--dynamic', *dynamic),
    )
    assert 'BA2M: 4 modules in it, 0 taken out' in export.printed
    for size in sizes:
        x = unequal(3, *size)
        outputs = run(out, format_name, x)
        # each sample is weighed by itself
        alone = run(out, format_name, x[1:2])
        expected = predict(host, checkpoints[host], x)
        assert len(expected) == (4 if host == 'mmdet' else 1)
        for output, one, target in zip(outputs, alone, expected, strict=True):
            np.testing.assert_allclose(output, target, rtol=0, atol=1e-4)
            np.testing.assert_allclose(output[1:2], one, rtol=0, atol=1e-4)
            assert np.abs(target[0] - target[1]).max() > 1e-3


def list_names(path, format_name):
    """Names of the weights in a file, and what else ONNX has names for."""
    if format_name == 'torchscript':
        return ' '.join(torch.jit.load(path).state_dict())
    return path.read_bytes().decode('latin')


@pytest.mark.parametrize(
    ('how', 'format_name'),
    [
        pytest.param('annealed', 'onnx', marks=needs_onnx),
        ('identity', 'torchscript'),
    ],
)
def test_nothing_is_left_of_a_module_that_does_nothing(
    export, checkpoints, tmp_path, how, format_name
):
    cfg = small('mmpretrain')
    if how == 'identity':
        cfg.model.backbone.ba2m_cfg.inference = 'identity'
    strength = 0.0 if how == 'annealed' else 1.0
    checkpoint = save_random(cfg, tmp_path / 'idle.pth', strength=strength)
    options = '--format', format_name, '--shape', 64, 64
    out = export(checkpoint, *options)
    assert 'BA2M: 0 modules in it, 4 taken out' in export.printed
    assert 'ba2m' not in list_names(out, format_name)
    x = torch.randn(1, 3, 64, 64)
    np.testing.assert_allclose(
        run(out, format_name, x)[0],
        predict('mmpretrain', checkpoint, x)[0],
        rtol=0,
        atol=1e-4,
    )

    # as large as the plain network, while others are larger
    cfg = deepcopy(cfg)
    cfg.model.backbone.ba2m_stages = (False,) * 4
    plain = save_random(cfg, tmp_path / 'plain.pth')
    plain = export(plain, *options, name='plain').stat().st_size
    assert out.stat().st_size == pytest.approx(plain, rel=0.02)
    weighed = export(checkpoints['mmpretrain'], *options, name='weighed')
    assert weighed.stat().st_size > 1.1 * plain
    assert '.ba2m.' in list_names(weighed, format_name)


@needs_onnx
def test_the_description_prepares_an_image(export, checkpoints, tmp_path):
    """By OpenCV and NumPy alone, as the test pipeline does."""
    image = np.random.default_rng(0).integers(0, 256, (100, 70, 3), np.uint8)
    path = tmp_path / 'image.png'
    mmcv.imwrite(image, str(path))
    out = export(checkpoints['mmpretrain'], '--image', path)
    assert f'{path} (1, 3, 64, 64): differs by' in export.printed

    content = json.loads((tmp_path / 'net.json').read_text())
    described = content['input']
    assert content['classes'] == list(CLASSES)
    assert content['outputs'] == ['scores']
    assert described['shape'] == [1, 3, 64, 64]
    assert described['channels'] == 'RGB'
    assert described['mean'] == [123.675, 116.28, 103.53]
    assert described['std'] == [58.395, 57.12, 57.375]
    (resize,) = described['pipeline']
    assert resize == dict(type='Resize', scale=64)
    x = cv2.resize(image, (64, 64))[..., ::-1]
    x = (x - np.array(described['mean'])) / np.array(described['std'])
    x = torch.tensor(x.transpose(2, 0, 1)[None], dtype=torch.float32)
    scores = run(out, 'onnx', x)[0][0]
    predictor = load_predictor(str(checkpoints['mmpretrain']), device='cpu')
    (sample,) = predictor.predict([str(path)])
    np.testing.assert_allclose(scores, sample.pred_score, atol=1e-4)


@needs_onnx
def test_a_padded_image_of_a_detector(export, checkpoints, tmp_path):
    path = tmp_path / 'image.png'
    mmcv.imwrite(np.full((60, 90, 3), 200, np.uint8), str(path))
    export(checkpoints['mmdet'], '--image', path)
    described = json.loads((tmp_path / 'net.json').read_text())['input']
    assert described['pad_size_divisor'] == 32
    assert described['shape'] == [1, 3, 64, 96]
    message = export(
        *(checkpoints['mmdet'], '--image', path, '--shape', 32, 32),
        name='other',
        fails=True,
    )
    assert 'after the test pipeline, and the input 32x32' in message


def test_a_file_that_differs_is_not_written(
    export, export_tool, checkpoints, tmp_path
):
    formats = export_tool['FORMATS']
    write, load = formats['torchscript']

    def write_other(network, *args):
        next(network.parameters()).data.mul_(2)
        return write(network, *args)

    formats['torchscript'] = write_other, load
    message = export(
        *(checkpoints['mmpretrain'], '--format', 'torchscript'),
        *('--shape', 64, 64),
        fails=True,
    )
    formats['torchscript'] = write, load
    assert 'differs on an input of (1, 3, 64, 64): scores by' in message
    assert not list(tmp_path.iterdir())


def test_what_cannot_be_exported_is_refused(
    export, export_tool, checkpoints, tmp_path, monkeypatch
):
    script = '--format', 'torchscript', '--shape', 64, 64
    message = export(
        checkpoints['mmdet'], *script, '--dynamic', 'size', fails=True
    )
    assert 'TorchScript has no --dynamic size' in message

    cfg = small('mmpretrain')
    cfg.model.backbone.ba2m_cfg.inference = 'batch'
    path = save_random(cfg, tmp_path / 'batch.pth')
    message = export(path, *script, fails=True)
    assert "backbone.layer1.ba2m has inference='batch'" in message

    (tmp_path / 'taken').write_text('mine')
    with pytest.raises(SystemExit, match='taken exists already'):
        export_tool['main'](
            [str(path), *map(str, script), '--out', str(tmp_path / 'taken')]
        )
    with pytest.raises(SystemExit):
        export_tool['parse_args']([str(path), '--out', 'net.onnx'])

    find_spec = importlib.util.find_spec
    monkeypatch.setattr(
        importlib.util,
        'find_spec',
        lambda name: None if name == 'onnxruntime' else find_spec(name),
    )
    message = export(checkpoints['mmpretrain'], '--shape', 64, 64, fails=True)
    assert message.endswith('pip install mmba2m[export]')


@needs_onnx
def test_what_onnx_lacks_is_refused_in_a_line(export, tmp_path):
    cfg = small('mmpretrain')
    cfg.model.backbone = dict(
        type='AttentionResNet',
        depth=50,
        stem_channels=16,
        base_channels=16,
        attention=dict(type='AWConv2d'),
    )
    cfg.model.head.in_channels = 512
    path = save_random(cfg, tmp_path / 'other.pth')
    message = export(path, '--shape', 64, 64, fails=True)
    assert 'PyTorch cannot export it: Unsupported' in message
    assert '\n' not in message and len(export.printed) < 500


@needs_onnx
@pytest.mark.parametrize('attention', ['SE', 'CBAM', 'ECA'])
def test_other_attention(export, tmp_path, attention):
    cfg = small('mmpretrain')
    cfg.model.backbone = dict(
        type='AttentionResNet',
        depth=18,
        stem_channels=16,
        base_channels=16,
        attention=dict(type=attention),
    )
    path = save_random(cfg, tmp_path / 'other.pth')
    out = export(path, '--shape', 64, 64, '--dynamic', 'batch', 'size')
    x = unequal(2, 48, 80)
    expected = predict('mmpretrain', path, x)[0]
    assert np.abs(expected[0] - expected[1]).max() > 1e-3
    np.testing.assert_allclose(
        run(out, 'onnx', x)[0],
        expected,
        rtol=0,
        atol=1e-4,
    )
