import zlib

import numpy as np
import pytest
import torch
from mmengine.dataset import pseudo_collate
from scipy.stats import rankdata
from tool_runs import run_tool
from torch import nn

from mmba2m.inspect import build_dataset, load_network, read_trained
from mmba2m.models.attentions import BA2M

CLASSIFIER = 'configs/demo/ba2m-resnet18_shapes.py'
DETECTOR = 'configs/demo/faster-rcnn_ba2m-r18_fpn_shapes.py'
MODULES = [f'backbone.layer{i}.ba2m' for i in (1, 2, 3, 4)]


def print_table(*args, env=None):
    text = run_tool('studies/weight_statistics.py', *args, env=env)
    header, _, *rows = [x for x in text.splitlines() if x.startswith('|')]
    return header, [row.strip('| ').split(' | ') for row in rows]


def test_relations_of_each_image(
    classifier_run, shapes, study_tools, monkeypatch
):
    monkeypatch.setenv('SHAPES_ROOT', str(shapes))
    path = str(classifier_run / 'epoch_2.pth')
    cfg, checkpoint = read_trained(CLASSIFIER, path)
    dataset, model = build_dataset(cfg), load_network(cfg, checkpoint)
    indices = np.random.RandomState(3).permutation(len(dataset))[:3]
    found, traits = study_tools['weight_statistics'].collect(
        model, dataset, indices, batch_size=2, relations=True
    )
    assert list(found) == MODULES
    sars = {name: rows[0] for name, rows in found.items()}
    seen = {}
    for name in MODULES:
        model.get_submodule(name).register_forward_pre_hook(
            lambda module, args, name=name: seen.update({name: args[0]})
        )
    for place, index in enumerate(indices):  # each alone
        sample = dataset[index]
        data = model.data_preprocessor(pseudo_collate([sample]), False)
        logits = model(data['inputs'], mode='tensor').detach()
        for name in MODULES:
            sar = model.get_submodule(name).sample_attention(seen[name])
            assert sars[name][place] == pytest.approx(sar.item(), rel=1e-4)
            norm = seen[name].square().sum().sqrt().log().item()
            assert found[name][2, place] == pytest.approx(norm, abs=1e-3)
        label = sample['data_samples'].gt_label.item()
        assert traits['class'][place] == label
        loss = logits.logsumexp(1)[0] - logits[0, label]
        assert traits['loss'][place] == pytest.approx(loss.item(), rel=1e-3)
        assert traits['right'][place] == (logits.argmax() == label)
        pixels = sample['inputs'].numpy().transpose(1, 2, 0)
        assert traits['contrast'][place] == pytest.approx(pixels.std())
        packed = zlib.compress(pixels.tobytes(), 9)
        assert traits['complexity'][place] == len(packed)

    args = [CLASSIFIER, path, '--num', '3', '--seed', '3', '--relations']
    header, rows = print_table(*args)
    assert header == (
        '| module | SAR, mean | SAR, std | weights over all '
        '| log norm before, std | r | behind, std | r | class, η² '
        '| loss, ρ | complexity, ρ | contrast, ρ |'
    )
    share = study_tools['weight_statistics'].share_between
    for row, (name, sar) in zip(rows, sars.items(), strict=True):
        weights = np.exp(sar) / np.exp(sar).mean()
        limits = f'{weights.min():.3f} to {weights.max():.3f}'
        expected = [name, f'{sar.mean():.3f}', f'{sar.std():.4f}', limits]
        assert row[:4] == expected
        # in mode 'population' log w is the SAR but for a constant
        norm = found[name][2]
        numbers = []
        for log_norm in (norm, norm + sar):
            numbers += [log_norm.std(), np.corrcoef(sar, log_norm)[0, 1]]
        numbers.append(share(sar, traits['class']))
        for trait in ('loss', 'complexity', 'contrast'):
            ranks = rankdata(sar), rankdata(traits[trait])
            numbers.append(np.corrcoef(*ranks)[0, 1])
        cells = [float(cell) for cell in row[4:]]
        assert cells == pytest.approx(numbers, abs=6e-3, nan_ok=True)


def test_shuffled_weights_are_those_of_the_batch(study_tools):
    torch.manual_seed(0)
    model = nn.Sequential(BA2M(8, reduction=4)).eval()
    model[0].running_normalizer.fill_(1.5)
    x = torch.randn(5, 8, 6, 6)
    weights = model[0].weigh(model[0].sample_attention(x))
    assert weights.unique().numel() == 5
    with study_tools['weight_statistics'].shuffle_weights(model):
        shuffled = model(x)
    ratios = (shuffled / x).mean((1, 2, 3))
    assert not torch.allclose(ratios, weights)
    torch.testing.assert_close(ratios.sort()[0], weights.sort()[0])
    own = weights.view(-1, 1, 1, 1)
    torch.testing.assert_close(model(x), x * own)  # again


def test_share_between_groups(study_tools):
    share = study_tools['weight_statistics'].share_between
    values = np.array([1.0, 3, 5, 5, 7, 9])
    groups = np.array([4, 4, 0, 0, 2, 2])
    # means 2, 5, 8 around 5; values −4, −2, 0, 0, 2, 4
    assert share(values, groups) == pytest.approx((9 + 0 + 9) / 3 / (40 / 6))
    assert share(groups * 1.0, groups) == pytest.approx(1)
    assert np.isnan(share(np.ones(6), groups))


def test_first_images_of_a_detector(detector_run, shapes):
    env = {'SHAPES_ROOT': str(shapes)}
    args = [DETECTOR, detector_run / 'epoch_2.pth']
    _, rows = print_table(*args, '--num', '4', env=env)
    assert [row[0] for row in rows] == MODULES[:3]
    for _, mean, std, weights, *norms in rows:
        before, r, behind, other = map(float, norms)
        assert -1 <= r <= other <= 1 and min(before, behind) > 0
        low, high = map(float, weights.split(' to '))
        assert 0 < float(mean) < 1 and float(std) > 0
        assert low < 1 < high
    text = run_tool(
        'studies/weight_statistics.py', *args, '--relations', fails=True
    )
    assert 'shapes.py is no config of MMPretrain' in text
