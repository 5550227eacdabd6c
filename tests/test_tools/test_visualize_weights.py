import csv
import re
import runpy
from pathlib import Path

import numpy as np
import pytest
import torch
from mmengine.dataset import pseudo_collate
from PIL import Image
from tool_runs import ROOT, run_tool

from mmba2m import HOSTS
from mmba2m.inspect import (
    Attention,
    build_dataset,
    collect_attention,
    load_network,
    read_trained,
)

PATH = 'analysis_tools/visualize_weights.py'
TOOL = runpy.run_path(str(ROOT / 'tools' / PATH))


@pytest.fixture(params=HOSTS)
def trained(request):
    """Config and checkpoint, of weights at full strength."""
    kind = dict(mmdet='detector_run', mmpretrain='classifier_run')
    run = request.getfixturevalue(kind[request.param])
    (config,) = run.glob('*.py')
    return str(config), str(run / 'epoch_2.pth')


def test_pages_and_numbers(trained, tmp_path):
    stages = 1, 2, 3
    args = ['--num', 4, '--out', tmp_path]
    if 'resnet18_shapes' in trained[0]:
        stages = 2, 4
        args += ['--modules', 'layer4.ba2m', 'layer2.ba2m']
    text = run_tool(PATH, *trained, *args)
    names = [f'backbone.layer{i}.ba2m' for i in stages]
    assert f'{names[-1]}: weights ' in text
    pdf = (tmp_path / 'weights.pdf').read_bytes()
    assert len(re.findall(rb'/Type /Page\b', pdf)) == len(names)
    with open(tmp_path / 'weights.csv', newline='') as stream:
        rows = list(csv.DictReader(stream))
    assert [row['module'] for row in rows] == np.repeat(names, 4).tolist()

    # the same numbers by hand: the same images, one batch
    cfg, checkpoint = read_trained(*trained)
    model = load_network(cfg, checkpoint)
    batch = TOOL['load_batch'](build_dataset(cfg), 4, seed=0)
    inputs = model.data_preprocessor(pseudo_collate(batch), False)['inputs']
    collected = collect_attention(model, inputs)
    for number, name in enumerate(names):
        with Image.open(tmp_path / f'{name}.png') as page:
            assert len(page.convert('L').getcolors(page.size[0] * 999)) > 50
        own = rows[4 * number :][:4]
        assert [row['rank'] for row in own] == ['1', '2', '3', '4']
        order = [int(row['index']) for row in own]
        assert sorted(order) == [0, 1, 2, 3]
        expected = collected[name]
        for key, values in (
            ('sar', expected.sar),
            ('weight', 4 * expected.sar.softmax(0)),
            ('mean_channel', expected.channel.mean(1)),
            ('mean_local_spatial', expected.local_spatial.mean((1, 2))),
        ):
            found = [float(row[key]) for row in own]
            np.testing.assert_allclose(found, values[order], rtol=1e-5)
            assert key != 'weight' or (np.diff(found) < 0).all()
        for row, index in zip(own, order, strict=True):
            assert row['image'] == batch[index]['data_samples'].img_path
            # a classifier's images lie in the folder of their class
            folder = Path(row['image']).parent.name
            assert row['label'] == ('' if folder == 'val2017' else folder)


def test_the_seed_chooses_pictures_of_what_the_network_sees(trained):
    cfg, checkpoint = read_trained(*trained)
    preprocessor = load_network(cfg, checkpoint, 'cpu').data_preprocessor
    dataset = build_dataset(cfg, 'train')

    def choose(seed):
        batch = TOOL['load_batch'](dataset, 3, seed)
        return [one['data_samples'].img_path for one in batch]

    assert choose(0) == choose(0) != choose(1)
    assert '/train' in choose(0)[0]
    (one,) = TOOL['load_batch'](dataset, 1, seed=0)
    raw = one['inputs']
    picture = TOOL['to_picture'](raw, bgr=True)
    seen = preprocessor(pseudo_collate([one]), False)['inputs'][0]
    seen = seen * preprocessor.std + preprocessor.mean  # of RGB
    height, width = picture.shape[:2]
    seen = seen[:, :height, :width].permute(1, 2, 0) / 255
    np.testing.assert_allclose(picture, seen.numpy(), atol=1e-5)
    # arrays are RGB; what was normalised is stretched
    as_rgb = TOOL['to_picture'](raw, bgr=False)
    np.testing.assert_array_equal(as_rgb, picture[..., ::-1])
    stretched = TOOL['to_picture'](raw / 7 - 3, bgr=True)
    assert (stretched.min(), stretched.max()) == (0, 1)


@pytest.fixture
def attention():
    sar = torch.tensor([0.4, 0.6])
    channel = torch.tensor([[0.1, 0.9, 0.2], [0.3, 0.8, 0.4]])
    maps = dict(local_spatial=torch.rand(2, 4, 6), channel=channel)
    maps.update(global_spatial=torch.rand(2, 2, 3), note='switched off')
    return Attention(
        name='stage', sar=sar, weights=2 * sar.softmax(0), norm=sar, **maps
    )


def test_maps_of_padded_images_are_cut(attention):
    # two images of unequal size, padded to 32×48
    pictures = [np.random.rand(32, 30, 3), np.random.rand(20, 48, 3)]
    samples = [dict(img_path='a'), dict(img_path='b')]
    rows = TOOL['tabulate'](attention, samples, None)
    order = [(row['index'], row['image']) for row in rows]
    assert order == [(1, 'b'), (0, 'a')]
    rows[1]['label'] = 'star'
    figure = TOOL['draw'](attention, rows, pictures, (32, 48), 'of a test')
    assert figure.get_suptitle() == 'stage   switched off\nof a test'
    first = [axis for axis in figure.axes if axis.get_visible()]
    captions = [axis.get_title('left') for axis in first[::4]]
    assert captions[0] == '1.  weight 1.100   SAR 0.600   '
    assert captions[1] == '2.  weight 0.900   SAR 0.400   star'
    image, channel, local, global_ = first[:4]
    np.testing.assert_array_equal(image.images[0].get_array(), pictures[1])
    # the channels of all images in the order of their mean: 1, 2, 0
    values = channel.patches[0].get_data().values
    np.testing.assert_allclose(values, [0.8, 0.4, 0.3])
    for axis, name in ((local, 'local_spatial'), (global_, 'global_spatial')):
        _, shown = axis.images
        maps = getattr(attention, name)[1]
        np.testing.assert_array_equal(shown.get_array(), maps)
        assert shown.get_extent() == [0, 48, 32, 0]
        assert shown.get_clim() == (0, 1)
        assert axis.get_xlim() == (0, 48) and axis.get_ylim() == (20, 0)
    assert figure.axes[-1].get_xlabel().startswith('spatial: sigmoid')

    # a branch that is not there has no column
    attention.local_spatial = attention.global_spatial = None
    rows = TOOL['tabulate'](attention, [{}, {}], None)
    assert rows[0]['mean_local_spatial'] is None
    figure = TOOL['draw'](attention, rows, pictures, (32, 48), '')
    # image and channels of two
    assert sum(axis.get_visible() for axis in figure.axes) == 4


def test_modules_are_chosen_by_stage_or_name():
    choose = TOOL['choose_modules']
    names = [f'net.layer{i}.{k}.ba2m' for i in (1, 2) for k in (0, 1)]
    assert choose(names) == names[1::2]
    assert choose(names, ['all']) == names
    assert choose(names, ['layer2.0.ba2m', names[0]]) == [names[0], names[2]]
    assert choose(['ba2m']) == ['ba2m']
    with pytest.raises(ValueError, match=r"are \['net.layer1.*not \['9.ba2m"):
        choose(names, ['9.ba2m'])


def test_what_does_not_fit_is_named(trained, tmp_path):
    out = ['--out', tmp_path / 'out']
    for options, message in (
        (['--cfg-options', 'test_dataloader=None'], 'has no test_dataloader'),
        (['--num', 1], '--num 1: weights compare two images'),
    ):
        text = run_tool(PATH, *trained, *out, *options, fails=True)
        assert message in text
    assert not (tmp_path / 'out').exists()
