"""Errors of the data name the image, wherever it was loaded."""

import warnings

import numpy as np
import pytest
from mmengine.dataset import BaseDataset
from mmengine.registry import DATASETS
from PIL import Image

from mmba2m.engine.runner import Runner


@DATASETS.register_module()
class Listed(BaseDataset):
    """Images of a list of (path, width, height)."""

    def load_data_list(self):
        return [
            dict(img_path=str(path), width=width, height=height)
            for path, width, height in self.metainfo['images']
        ]


def loader(images, scale=(32, 32), num_workers=0, wrap=None):
    dataset = dict(
        type='Listed',
        metainfo=dict(images=images),
        pipeline=[
            dict(type='LoadImageFromFile'),
            dict(type='Resize', scale=scale, keep_ratio=True),
        ],
    )
    return Runner.build_dataloader(
        dict(
            batch_size=2,
            num_workers=num_workers,
            sampler=dict(type='DefaultSampler', shuffle=False),
            dataset=wrap(dataset) if wrap else dataset,
        )
    )


@pytest.fixture
def image(tmp_path):
    def save(name, width, height, **kwargs):
        pixels = np.arange(width * height * 3) % 255
        pixels = pixels.reshape(height, width, 3).astype(np.uint8)
        Image.fromarray(pixels).save(tmp_path / name, **kwargs)
        return tmp_path / name, width, height

    return save


@pytest.mark.parametrize(
    ('num_workers', 'wrap'),
    [
        (0, None),
        (1, lambda data: dict(type='RepeatDataset', dataset=data, times=2)),
        (0, lambda data: dict(type='ConcatDataset', datasets=[data] * 2)),
    ],
)
def test_too_thin_image_is_named(image, num_workers, wrap):
    images = [image('fine.png', 40, 30), image('thin.png', 1, 4000)]
    with pytest.raises(RuntimeError, match=r'image \S+/thin\.png: .*resize'):
        list(loader(images, num_workers=num_workers, wrap=wrap))


def test_empty_file_is_named(image, tmp_path):
    (tmp_path / 'none.jpg').write_bytes(b'')
    images = [image('fine.png', 40, 30), (tmp_path / 'none.jpg', 40, 30)]
    with pytest.raises(RuntimeError, match=r'image \S+/none\.jpg: .*imdecode'):
        list(loader(images))


def test_error_that_names_the_image_stays_as_it_is(image):
    path, *size = image('half.jpg', 40, 30)
    path.write_bytes(path.read_bytes()[:-100])
    with pytest.raises(AssertionError) as caught:
        list(loader([(path, *size)]))
    assert str(caught.value) == f'failed to load image: {path}'


def test_whole_images_pass_without_a_word(image):
    images = [image('a.png', 40, 30), image('b.png', 30, 40)]
    images.append((*image('c.png', 9, 8)[:1], 0, 0))  # size not known
    with warnings.catch_warnings():
        warnings.simplefilter('error')
        shapes = [item['img_shape'] for item in loader(images).dataset]
    assert shapes == [(24, 32), (32, 24), (28, 32)]


def test_image_of_another_size_than_its_annotation_is_named_once(image):
    exif = Image.Exif()
    exif[0x0112] = 6  # turned by 90 degrees
    images = [
        image('a.jpg', 40, 30),
        image('turned.jpg', 40, 30, exif=exif),
        image('again.jpg', 40, 30, exif=exif),
    ]
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter('always')
        shapes = [item['ori_shape'] for item in loader(images).dataset]
    assert shapes == [(30, 40), (40, 30), (40, 30)]
    (warning,) = caught
    assert 'turned.jpg is 30×40, but 40×30 in its' in str(warning.message)
