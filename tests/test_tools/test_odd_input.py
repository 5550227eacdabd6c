"""Odd images, annotations and batches, as train.py meets them.

Each trains a finite step, or ends with a message that names the file.
"""

import json
import math
import shutil
from io import BytesIO
from pathlib import Path

import cv2
import numpy as np
import pytest
from mmengine.config import Config
from mmengine.hooks import Hook
from PIL import Image

from mmba2m.datasets import make_shapes
from mmba2m.engine import runner as engine

CONFIGS = Path(__file__).parents[2] / 'configs'
SIDE = 64
TASKS = [pytest.param('detector', marks=pytest.mark.slow), 'classifier']
EXIF = Image.Exif()
EXIF[0x0112] = 6  # to be turned by 90 degrees


def png(*shape, dtype=np.uint8):
    levels = (np.arange(math.prod(shape)) * 37 % 256).reshape(shape)
    if dtype == np.uint16:
        levels = levels * 256 + 255
    return cv2.imencode('.png', levels.astype(dtype))[1].tobytes()


def jpeg(mode, size, **kwargs):
    stream = BytesIO()
    Image.new(mode, size, 'green').save(stream, 'JPEG', **kwargs)
    return stream.getvalue()


DOT = png(1, 1, 3)
FINE = [
    DOT,
    png(31, 37, 3),  # no stride divides it
    png(SIDE, SIDE, 3, dtype=np.uint16),
    png(SIDE, SIDE, dtype=np.uint16),
    png(SIDE, SIDE),
    png(SIDE, SIDE, 4),
    jpeg('CMYK', (SIDE, SIDE)),
    jpeg('RGB', (SIDE, SIDE // 2), exif=EXIF),
]
THIN = [png(4000, 1, 3), png(1, 4000, 3)]


@pytest.fixture(scope='module')
def shapes(tmp_path_factory):
    root = tmp_path_factory.mktemp('data') / 'shapes'
    return make_shapes(root, num_train=9, num_val=1, size=SIDE)


@pytest.fixture
def data(shapes, tmp_path):
    return Path(shutil.copytree(shapes, tmp_path / 'shapes'))


class Losses(Hook):
    """Keeps the loss, the number and the paths of each batch."""

    def __init__(self):
        self.batches = []

    def after_train_iter(self, runner, batch_idx, data_batch, outputs):
        assert math.isfinite(outputs['loss'].item())
        samples = data_batch['data_samples']
        self.batches.append([Path(sample.img_path).name for sample in samples])


def load(config, data, monkeypatch):
    monkeypatch.setenv('SHAPES_ROOT', str(data))
    cfg = Config.fromfile(CONFIGS / config)
    cfg.train_dataloader.update(
        batch_size=9, num_workers=0, persistent_workers=False
    )
    for part in ('dataloader', 'evaluator', 'cfg'):
        cfg[f'val_{part}'] = cfg[f'test_{part}'] = None
    cfg.train_cfg = dict(by_epoch=True, max_epochs=1)
    cfg.default_hooks.checkpoint = None
    cfg.update(work_dir=str(data.parent), experiment_name=data.parent.name)
    cfg.update(log_level='ERROR', launcher='none', randomness=dict(seed=0))
    return cfg


@pytest.fixture
def detector(data, monkeypatch):
    cfg = load('demo/faster-rcnn_ba2m-r18_fpn_shapes.py', data, monkeypatch)
    cfg.model.backbone.base_channels = 8
    cfg.model.neck.in_channels = [8, 16, 32]
    cfg.train_dataloader.dataset.filter_cfg = dict(min_size=0)
    return cfg


@pytest.fixture
def classifier(data, monkeypatch):
    return load('demo/ba2m-resnet18_shapes.py', data, monkeypatch)


def train(cfg):
    """Does what train.py does, and returns the images of each batch."""
    runner = engine.Runner.from_cfg(cfg)
    losses = Losses()
    runner.register_hook(losses)
    runner.train()
    return losses.batches


def images(data, folder='coco/train2017'):
    return sorted((data / folder).rglob('*.jpg'))


def annotate(data, change):
    """Changes COCO's annotations: images by file name, and all boxes."""
    file = data / 'coco/annotations/instances_train2017.json'
    content = json.loads(file.read_text())
    change({i['file_name']: i for i in content['images']}, content)
    file.write_text(json.dumps(content))


def fit_sizes(data):
    """Sets the sizes that images have when loaded, and a box over each."""

    def change(listed, content):
        for path in images(data):
            height, width = cv2.imread(str(path)).shape[:2]
            image = listed[path.name]
            image.update(width=width, height=height)
            for box in content['annotations']:
                if box['image_id'] == image['id']:
                    box.update(bbox=[0, 0, width, height], area=width * height)

    annotate(data, change)


@pytest.mark.slow
def test_detector_trains_on_odd_images(detector, data):
    for content, path in zip(FINE, images(data), strict=False):
        path.write_bytes(content)
    fit_sizes(data)
    (batch,) = train(detector)
    assert sorted(batch) == [path.name for path in images(data)]


def test_classifier_trains_on_odd_images(classifier, data):
    paths = images(data, 'imagefolder/train')
    for content, path in zip(FINE + THIN, paths, strict=False):
        path.write_bytes(content)
    batches = train(classifier)
    names = [name for batch in batches for name in batch]
    assert sorted(names) == sorted(path.name for path in paths)


@pytest.mark.parametrize(
    'task, folder, content',
    [
        ('detector', 'coco/train2017', b''),
        ('classifier', 'imagefolder/train', b'<html>not found</html>'),
    ],
)
def test_broken_image_is_named(request, data, task, folder, content):
    path = images(data, folder)[1]
    path.write_bytes(content)
    with pytest.raises((AssertionError, RuntimeError), match=str(path)):
        train(request.getfixturevalue(task))


@pytest.mark.slow
def test_image_too_thin_to_be_resized_is_named(detector, data):
    images(data)[1].write_bytes(THIN[0])
    fit_sizes(data)
    with pytest.raises(RuntimeError, match=rf'{images(data)[1]}.*resize'):
        train(detector)
    images(data)[0].write_bytes(DOT)
    fit_sizes(data)
    detector.train_dataloader.dataset.filter_cfg = dict(min_size=16)
    (batch,) = train(detector)  # the filter leaves both out
    assert sorted(batch) == [path.name for path in images(data)[2:]]


@pytest.mark.slow
def test_odd_boxes(detector, data):
    def change(listed, content):
        boxes = content['annotations']
        boxes[0]['bbox'] = [5, 5, 0, 9]
        boxes[1]['bbox'] = [500, 5, 9, 9]
        boxes[2]['bbox'] = [-50, -50, 500, 500]
        for box in boxes[3:9]:
            box['iscrowd'] = 1

    annotate(data, change)
    with pytest.warns(UserWarning, match='are left out: 2 of'):
        assert len(train(detector)) == 1


@pytest.mark.parametrize('task', TASKS)
def test_last_batch_is_one_image(request, task):
    cfg = request.getfixturevalue(task)
    cfg.train_dataloader.batch_size = 4
    cfg.train_dataloader.dataset.indices = 5
    assert [len(batch) for batch in train(cfg)] == [4, 1]
