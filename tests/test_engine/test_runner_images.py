"""Errors of the data name the image, wherever it was loaded."""

import warnings

import numpy as np
import pytest
from mmengine.dataset import BaseDataset
from mmengine.registry import DATASETS
from PIL import Image
from toy_training import make_loader

from mmba2m.engine.runner import Runner


@DATASETS.register_module()
class Listed(BaseDataset):
    """Images of a list of (path, width, height)."""

    def load_data_list(self):
        return [
            dict(img_path=path, width=width, height=height)
            for path, width, height in self.metainfo['images']
        ]


def loader(*images, wrap=dict, **settings):
    load = dict(type='LoadImageFromFile')
    resize = dict(type='Resize', scale=(32, 32), keep_ratio=True)
    metainfo = dict(images=images)
    dataset = dict(type='Listed', metainfo=metainfo, pipeline=[load, resize])
    return Runner.build_dataloader(make_loader(wrap(dataset), **settings))


@pytest.fixture
def image(tmp_path):
    def save(name, width=40, height=30, **kwargs):
        pixels = np.arange(width * height * 3) % 255
        pixels = pixels.reshape(height, width, 3).astype(np.uint8)
        Image.fromarray(pixels).save(tmp_path / name, **kwargs)
        return str(tmp_path / name), width, height

    return save


def wrap_twice(dataset):
    inner = dict(type='RepeatDataset', dataset=dataset, times=2)
    return dict(type='ConcatDataset', datasets=[inner] * 2)


WRAPPED = dict(num_workers=1, wrap=wrap_twice)


@pytest.mark.parametrize(
    'settings', [{}, pytest.param(WRAPPED, marks=pytest.mark.slow)]
)
def test_image_that_cannot_be_loaded_is_named(image, tmp_path, settings):
    fine, thin = image('fine.png'), image('thin.png', 1, 4000)
    with pytest.raises(RuntimeError, match=r'image \S+/thin\.png: .*resize'):
        list(loader(fine, thin, **settings))
    (tmp_path / 'none.jpg').write_bytes(b'')
    empty = (str(tmp_path / 'none.jpg'), 40, 30)
    with pytest.raises(RuntimeError, match=r'image \S+/none\.jpg: .*imdecode'):
        list(loader(fine, empty, **settings))


def test_error_that_names_the_image_stays_as_it_is(image, tmp_path):
    half = image('half.jpg')
    content = (tmp_path / 'half.jpg').read_bytes()
    (tmp_path / 'half.jpg').write_bytes(content[:-100])
    with pytest.raises(AssertionError) as caught:
        list(loader(half))
    assert str(caught.value) == f'failed to load image: {half[0]}'


def test_image_of_another_size_than_its_annotation_is_named_once(image):
    exif = Image.Exif()
    exif[0x0112] = 6  # turned by 90 degrees
    turned = [image(name, exif=exif) for name in ('turned.jpg', 'again.jpg')]
    unknown = (*image('c.png', 9, 8)[:1], 0, 0)
    images = [image('a.jpg'), image('b.png', 30, 40), unknown, *turned]
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter('always')
        items = list(loader(*images).dataset)
    shapes = [item['ori_shape'] for item in items]
    assert shapes == [(30, 40), (40, 30), (8, 9), (40, 30), (40, 30)]
    assert items[2]['img_shape'] == (28, 32)
    (warning,) = caught
    assert 'turned.jpg is 30×40, but 40×30 in its' in str(warning.message)
