import csv
import json
import re
import runpy
from itertools import chain
from pathlib import Path

import numpy as np
import pytest
import torch
from matplotlib import pyplot as plt
from mmengine.config import Config
from mmengine.dataset import pseudo_collate
from mmengine.registry import MODELS, init_default_scope
from PIL import Image

from mmba2m import HOSTS
from mmba2m.datasets import make_shapes
from mmba2m.inspect import (
    Attention,
    build_dataset,
    collect_attention,
    load_network,
    read_trained,
)

ROOT = Path(__file__).parents[2]
CONFIGS = dict(
    mmdet='configs/demo/faster-rcnn_ba2m-r18_fpn_shapes.py',
    mmpretrain='configs/demo/ba2m-resnet18_shapes.py',
)
TOOL = runpy.run_path(str(ROOT / 'tools/analysis_tools/visualize_weights.py'))
STAGES = [f'backbone.layer{i}.ba2m' for i in (1, 2, 3, 4)]


@pytest.fixture(scope='module')
def shapes(tmp_path_factory):
    folder = tmp_path_factory.mktemp('data') / 'shapes'
    make_shapes(folder, num_train=5, num_val=3)
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv('SHAPES_ROOT', str(folder))
        yield folder


def save_checkpoint(config, path, **options):
    """A network with random weights, whose samples differ in weight."""
    cfg = Config.fromfile(config)
    cfg.merge_from_dict(options)
    init_default_scope(cfg.default_scope)
    torch.manual_seed(0)
    model = MODELS.build(cfg.model)
    model.init_weights()
    torch.save(dict(state_dict=model.state_dict()), path)
    return str(path)


@pytest.fixture(scope='module')
def networks(shapes, tmp_path_factory):
    folder = tmp_path_factory.mktemp('networks')
    return {
        host: (
            str(ROOT / CONFIGS[host]),
            save_checkpoint(ROOT / CONFIGS[host], folder / f'{host}.pth'),
        )
        for host in HOSTS
    }


@pytest.mark.parametrize('host', HOSTS)
def test_pages_and_numbers(networks, host, tmp_path, capsys):
    config, checkpoint = networks[host]
    args = [config, checkpoint, '--num', '3', '--out', str(tmp_path)]
    stages = STAGES
    if host != HOSTS[0]:
        stages = STAGES[1::2]
        args += ['--modules', 'layer4.ba2m', 'layer2.ba2m']
    TOOL['main'](args)

    rows = json.loads((tmp_path / 'weights.json').read_text())
    assert list(rows) == stages
    for name in stages:
        with Image.open(tmp_path / f'{name}.png') as page:
            page.load()
            assert len(page.convert('L').getcolors(page.size[0] * 999)) > 50
        assert [row['rank'] for row in rows[name]] == [1, 2, 3]
        assert sorted(row['index'] for row in rows[name]) == [0, 1, 2]
        weights = np.array([row['weight'] for row in rows[name]])
        sars = np.array([row['sar'] for row in rows[name]])
        np.testing.assert_allclose(
            weights, 3 * np.exp(sars) / np.exp(sars).sum(), rtol=1e-5
        )
        assert (np.diff(weights) < 0).all()
    pdf = (tmp_path / 'weights.pdf').read_bytes()
    assert pdf.startswith(b'%PDF')
    assert len(re.findall(rb'/Type /Page\b', pdf)) == len(stages)
    with open(tmp_path / 'weights.csv', newline='') as stream:
        table = list(csv.DictReader(stream))
    assert len(table) == 3 * len(stages)
    for line, row in zip(table, chain(*rows.values()), strict=True):
        assert float(line['weight']) == row['weight']
        assert Path(line['image']).is_file()
        assert line['label'] == (row['label'] or '')
    assert (rows[stages[0]][0]['label'] is None) == (host == 'mmdet')
    assert 'layer4.ba2m: weights ' in capsys.readouterr().out

    # the same numbers by hand: the same images, one batch
    cfg = Config.fromfile(config)
    model = load_network(*read_trained(config, checkpoint))
    dataset = build_dataset(cfg)
    batch = TOOL['load_batch'](dataset, 3, seed=0)
    inputs = model.data_preprocessor(pseudo_collate(batch), False)['inputs']
    by_hand = collect_attention(model, inputs)
    for name in stages:
        for row in rows[name]:
            i = row['index']
            assert row['sar'] == pytest.approx(by_hand[name].sar[i].item())
            assert row['mean_channel'] == pytest.approx(
                by_hand[name].channel[i].mean().item()
            )
            assert row['image'] == batch[i]['data_samples'].img_path


@pytest.mark.parametrize('host', HOSTS)
def test_pictures_are_what_the_network_sees(networks, host):
    config, checkpoint = networks[host]
    cfg = Config.fromfile(config)
    model = load_network(*read_trained(config, checkpoint))
    dataset = build_dataset(cfg, 'train')
    assert TOOL['loads_bgr'](dataset)
    (one,) = TOOL['load_batch'](dataset, 1, seed=0)
    picture = TOOL['to_picture'](one['inputs'], bgr=True)
    preprocessor = model.data_preprocessor
    seen = preprocessor(pseudo_collate([one]), False)['inputs'][0].cpu()
    # both configs convert to RGB
    seen = seen * preprocessor.std.cpu() + preprocessor.mean.cpu()
    height, width = picture.shape[:2]
    seen = seen[:, :height, :width].permute(1, 2, 0) / 255
    np.testing.assert_allclose(picture, seen.numpy(), atol=1e-5)


def test_seed_and_split_choose_the_images(shapes):
    cfg = Config.fromfile(ROOT / CONFIGS[HOSTS[0]])
    datasets = {
        split: build_dataset(cfg, split) for split in ('train', 'test')
    }

    def choose(split, seed):
        batch = TOOL['load_batch'](datasets[split], 3, seed)
        return [Path(one['data_samples'].img_path) for one in batch]

    assert choose('train', 0) == choose('train', 0)
    assert any(choose('train', 0) != choose('train', i) for i in (1, 2, 3))
    assert choose('train', 0)[0].parent != choose('test', 0)[0].parent


@pytest.fixture
def attention():
    sar = torch.tensor([0.4, 0.6])
    return Attention(
        name='stage',
        sar=sar,
        weights=2 * sar.softmax(0),
        channel=torch.tensor([[0.1, 0.9, 0.2], [0.3, 0.8, 0.4]]),
        local_spatial=torch.rand(2, 4, 6),
        global_spatial=torch.rand(2, 2, 3),
        note='switched off',
    )


def test_maps_of_padded_images_are_cut(attention):
    # two images of unequal size, padded to 32×48
    pictures = [np.random.rand(32, 30, 3), np.random.rand(20, 48, 3)]
    rows = TOOL['tabulate'](attention, [{'label': 'a'}, {'label': None}])
    assert [row['index'] for row in rows] == [1, 0]
    figure = TOOL['draw'](attention, rows, pictures, (32, 48), 'of a test')
    texts = [text.get_text() for text in figure.texts]
    assert 'switched off' in texts
    assert '1.  weight 1.100   SAR 0.600   ' in texts
    assert '2.  weight 0.900   SAR 0.400   a' in texts
    image, channel, local, global_ = figure.axes[:4]
    np.testing.assert_array_equal(image.images[0].get_array(), pictures[1])
    # the channels of all images in the order of their mean: 1, 2, 0
    np.testing.assert_allclose(
        channel.patches[0].get_data().values, [0.8, 0.4, 0.3]
    )
    for axes, maps in (
        (local, attention.local_spatial),
        (global_, attention.global_spatial),
    ):
        _, shown = axes.images
        np.testing.assert_array_equal(shown.get_array(), maps[1])
        assert shown.get_extent() == [0, 48, 32, 0]
        assert shown.get_clim() == (0, 1)
        assert axes.get_xlim() == (0, 48) and axes.get_ylim() == (20, 0)
    assert figure.axes[-1].get_xlabel().startswith('local and global spatial')
    plt.close(figure)


def test_branches_that_are_not_there_have_no_column(attention):
    attention.local_spatial = attention.global_spatial = None
    rows = TOOL['tabulate'](attention, [{'label': None}] * 2)
    assert rows[0]['mean_local_spatial'] is None
    pictures = [np.random.rand(8, 8, 3)] * 2
    figure = TOOL['draw'](attention, rows, pictures, (8, 8), '')
    assert len(figure.axes) == 4  # image and channels of two
    plt.close(figure)


def test_modules_are_chosen_by_stage_or_name():
    choose = TOOL['choose_modules']
    names = [
        f'backbone.layer{stage}.{block}.ba2m'
        for stage in (1, 2)
        for block in (0, 1)
    ]
    assert choose(names) == names[1::2]
    assert choose(names, ['all']) == names
    assert choose(names, ['layer2.0.ba2m', names[0]]) == [names[0], names[2]]
    assert choose(['ba2m']) == ['ba2m']
    with pytest.raises(ValueError, match=r"'0.ba2m9'; it has backbone.layer1"):
        choose(names, ['0.ba2m9'])


def test_images_that_files_do_not_hold_are_rgb():
    raw = torch.tensor([[[0]], [[51]], [[255]]], dtype=torch.uint8)
    to_picture = TOOL['to_picture']
    np.testing.assert_allclose(to_picture(raw, False), [[[0, 0.2, 1]]])
    np.testing.assert_allclose(to_picture(raw, True), [[[1, 0.2, 0]]])
    grey = to_picture(raw[1:2], True)
    np.testing.assert_allclose(grey, [[[0.2, 0.2, 0.2]]])
    normalised = torch.tensor([[[-1.0]], [[0.0]], [[3.0]]])
    np.testing.assert_allclose(to_picture(normalised, False), [[[0, 0.25, 1]]])


@pytest.mark.parametrize(
    'option, message',
    [
        (dict(model=dict(backbone=dict(depth=34))), 'of another network'),
        (dict(test_dataloader=None), 'has no test_dataloader'),
    ],
)
def test_what_does_not_fit_is_named(
    networks, tmp_path, option, message, monkeypatch
):
    config, checkpoint = networks[HOSTS[0]]
    other = tmp_path / 'other.py'
    cfg = Config.fromfile(config)
    cfg.merge_from_dict(option)
    cfg.dump(other)
    with pytest.raises(ValueError, match=message):
        TOOL['main']([str(other), checkpoint, '--out', str(tmp_path / 'out')])
    assert not (tmp_path / 'out').exists()


def test_network_without_modules_is_named(networks, tmp_path):
    config, _ = networks[HOSTS[0]]
    key, value = 'model.backbone.ba2m_stages', [False] * 4
    path = tmp_path / 'plain.pth'
    checkpoint = save_checkpoint(config, path, **{key: value})
    options = ['--cfg-options', f'{key}=[0,0,0,0]', '--out', str(tmp_path)]
    with pytest.raises(ValueError, match='the network has no BA2M module'):
        TOOL['main']([config, checkpoint, *options])


def test_one_image_is_refused(capsys):
    with pytest.raises(SystemExit):
        TOOL['main'](['c.py', 'c.pth', '--num', '1', '--out', 'out'])
    assert '--num 1: weights compare two images' in capsys.readouterr().err


@pytest.mark.skipif('mmpretrain' not in HOSTS, reason='needs MMPretrain')
def test_modules_inside_blocks(shapes):
    cfg = Config.fromfile(ROOT / CONFIGS['mmpretrain'])
    entry = dict(type='BA2M', reduction=4, position='after_conv2')
    cfg.model.backbone.update(ba2m_stages=[False] * 4, attention=entry)
    init_default_scope('mmpretrain')
    model = MODELS.build(cfg.model).eval()
    collected = collect_attention(model, torch.randn(2, 3, 32, 32))
    assert len(collected) == 8  # two blocks in each of four stages
    chosen = TOOL['choose_modules'](list(collected))
    assert [name.split('.')[1:3] for name in chosen] == [
        [f'layer{stage}', '1'] for stage in (1, 2, 3, 4)
    ]
    for name in chosen:
        assert collected[name].weights.sum().item() == pytest.approx(2)
