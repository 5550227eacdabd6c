"""The benchmark runs and writes what it says; no test asserts a time."""

import copy
import json
import re
from pathlib import Path

import pytest
import torch
from mmengine.config import Config
from tool_runs import ROOT, run_tool
from torch import nn

from mmba2m.inspect.complexity import count_parameters
from mmba2m.models.attentions import SE, AWConv2d
from mmba2m.models.attentions.ba2m import BA2M

SMALL = dict(depth=18, base_channels=16, stem_channels=16)

pytestmark = pytest.mark.filterwarnings('ignore:BA2M')


@pytest.fixture(params=['cifar', 'detection'])
def setting(tool, request):
    found = tool.SETTINGS[request.param]
    pytest.importorskip(found['backbone']['_scope_'])
    return found


def find(network, kind):
    return [m for m in network.modules() if isinstance(m, kind)]


def test_networks_differ_in_their_attention_only(tool, setting, tmp_path):
    names = ['plain', 'BA2M', 'BA2M,inference=identity', 'SE', 'AWConv2d']
    plain, ba2m, identity, se, conv = (
        tool.build_network(name, setting, SMALL) for name in names
    )
    assert not find(plain, (BA2M, SE))
    assert [m.inference for m in find(ba2m, BA2M)] == ['population'] * 4
    assert [m.inference for m in find(identity, BA2M)] == ['identity'] * 4
    assert len(find(se, SE)) == len(find(conv, AWConv2d)) == 8
    keys = set(plain.state_dict())
    for network in (ba2m, identity, se):
        assert keys < set(network.state_dict())
    if 'options' in setting:  # R = 4, as in the table of the page
        counts = [count_parameters(n) for n in (plain, ba2m, se)]
        assert counts == [700_176, 775_810, 722_536]
    plain.train()  # nothing is frozen
    assert all(p.requires_grad for p in plain.parameters())
    assert all(m.training for m in find(plain, nn.BatchNorm2d))

    # a config gives its backbone, without weights
    config = tmp_path / 'mine.py'
    kind, scope = (setting['backbone'][key] for key in ('type', '_scope_'))
    weights = dict(type='Pretrained', checkpoint='nowhere.pth')
    backbone = dict(type=kind, depth=34, init_cfg=weights)
    cfg = dict(default_scope=scope, model=dict(backbone=backbone))
    Config(cfg).dump(config)
    network = tool.build_network(str(config), setting, SMALL)
    assert type(network) is type(plain)
    assert count_parameters(network) == count_parameters(plain)
    assert 'Pretrained' not in str(network.init_cfg)


class Network(nn.Sequential):
    def __init__(self):
        conv = nn.Conv2d(3, 8, 3, padding=1)
        super().__init__(conv, nn.BatchNorm2d(8), BA2M(8, reduction=4))
        self.outs = []

    def forward(self, images):
        """(N, 3, H, W) → two maps."""
        first = self[0](images)
        self.outs = [first, self[2](self[1](first))]
        return self.outs


def test_a_training_step_is_the_loss_and_its_gradients(tool):
    network, images = Network().eval(), torch.randn(4, 3, 8, 8)
    seen = {}
    for name, parameter in network.named_parameters():
        parameter.register_hook(lambda grad, n=name: seen.update({n: grad}))
    tool.make_step(network, images, train=True)()
    assert network.training
    state = dict(network.named_parameters())
    assert all(p.grad is None for p in state.values())
    loss = sum(out.mean() for out in network(images))
    expected = torch.autograd.grad(loss, state.values())
    assert seen.keys() == state.keys()
    for name, grad in zip(state, expected, strict=True):
        torch.testing.assert_close(seen[name], grad)


def test_inference_precision_and_compilation(tool, monkeypatch):
    network = Network()
    step = tool.make_step(network, torch.randn(1, 3, 8, 8), train=False)
    assert network[2].running_normalizer > 0  # it knows the population
    step()
    assert not network.training and not network.outs[1].requires_grad
    assert network.outs[0].dtype == torch.float32
    compiled = []
    monkeypatch.setattr(torch, 'compile', lambda n: compiled.append(n) or n)
    images = torch.randn(2, 3, 8, 8)
    tool.make_step(network, images, True, autocast=True, compiled=True)()
    assert network.outs[0].dtype == torch.bfloat16
    assert network[0].weight.dtype == torch.float32
    assert compiled == [network]


def test_norms_are_folded_for_inference_only(tool):
    layers = torch.nn.Conv2d(3, 4, 1), torch.nn.BatchNorm2d(4)
    network, images = torch.nn.Sequential(*layers), torch.randn(2, 3, 8, 8)
    tool.make_step(network, images, True, fused=True)
    assert network[1] is layers[1]
    expected = copy.deepcopy(network)
    expected(images)
    tool.make_step(network, images, False, fused=True)
    assert isinstance(network[1], torch.nn.Identity)
    torch.testing.assert_close(network(images), expected.eval()(images))


def read_rows(text):
    lines = [line for line in text.splitlines() if line.startswith('|')]
    return [[c.strip() for c in line[1:-1].split('|')] for line in lines]


def test_the_table_holds_medians_of_paired_ratios(tool, tmp_path):
    plain, se = [1.0, 2.0, 4.0], [1.1, 2.4, 5.2]
    rows = [
        dict(name='plain', parameters=1000, peak_bytes=2**30, seconds=plain),
        dict(name='SE', parameters=2345, peak_bytes=5 * 2**28, seconds=se),
    ]
    for row in rows:
        row['ratio'] = tool.compare_times(row['seconds'], plain)
    measure = dict(title='training step, 8 × 224×200', rows=rows)
    run = dict(network='ResNet, bf16', environment='cpu X, cores 2')
    path = tmp_path / 'one.json'
    path.write_text(json.dumps(dict(run, measures=[measure])))
    tool = 'benchmark/benchmark_backbone.py'
    output = run_tool(tool, '--report', path, path, '--out-dir', tmp_path)
    text = (tmp_path / 'benchmark.md').read_text(encoding='utf-8')
    assert text in output
    assert text.startswith('ResNet, bf16 (cpu X, cores 2).\n\n| training')
    table = read_rows(text)
    assert len(table) == 8
    assert table[0][0] == 'training step, 8 × 224×200 (3 rounds)'
    assert table[0][2] == 'time [s]'
    assert table[2] == ['plain', '1,000', '2', '1', '1024', '1']
    ratio = '1.200 (1.100–1.300)'
    assert table[3] == ['SE', '2,345', '2.4', ratio, '1280', '1.250']
    picture = (tmp_path / 'benchmark.png').read_bytes()
    assert picture.startswith(b'\x89PNG')


def test_networks_side_by_side(tmp_path):
    pytest.importorskip('mmpretrain')
    args = ['--setting', 'cifar', '--size', 16, 24, '--train-batches', 2]
    args += ['--inference-batches', 1, '--networks', 'plain', 'plain', 'BA2M']
    args += ['--backbone-options', 'base_channels=4', 'stem_channels=4']
    args += ['--device', 'cpu', '--precision', 'bf16', '--channels-last']
    args += ['--max-seconds', 0, '--out-dir']
    output = run_tool('benchmark/benchmark_backbone.py', *args, tmp_path)
    run = json.loads((tmp_path / 'benchmark.json').read_text('utf-8'))
    titles = [measure['title'] for measure in run['measures']]
    assert titles == ['training step, 2 × 16×24', 'inference, 1 × 16×24']
    for measure in run['measures']:
        plain, again, ba2m = measure['rows']
        names = [row['name'] for row in measure['rows']]
        assert names == ['plain', "plain'", 'BA2M']
        # the memory of the same network is the same, byte for byte
        assert plain['peak_bytes'] == again['peak_bytes'] < ba2m['peak_bytes']
        assert plain['parameters'] == again['parameters'] < ba2m['parameters']
        assert {len(row['seconds']) for row in measure['rows']} == {2}
        assert plain['ratio'] == [1, 1, 1]
    assert run['network'].endswith('stem_channels=4, bf16, channels_last')
    assert f'torch {torch.__version__.partition("+")[0]}' in run['environment']
    table = (tmp_path / 'benchmark.md').read_text(encoding='utf-8')
    assert table in output
    assert [row[0] for row in read_rows(table)[2:5]] == names
    assert (tmp_path / 'benchmark.png').read_bytes().startswith(b'\x89PNG')


def test_the_page_profiles_a_training_step(capsys):
    pytest.importorskip('mmpretrain')
    page = Path(ROOT, 'docs/benchmark.md').read_text(encoding='utf-8')
    (code,) = re.findall(r'```python\n(.*?)```', page, re.S)
    for whole, small in (
        ('8, 3, 224, 224', '2, 3, 32, 32'),
        ('depth=50', 'depth=18'),
    ):
        code = code.replace(whole, small)
    names = {}
    exec(code, names)
    # the first layers of the branches of stage 1, which a plain one has not
    layers = [
        time
        for (name, shapes), time in names['added'].items()
        if name == 'aten::convolution_backward' and '[4, 64, 1, 1]' in shapes
    ]
    assert layers and min(layers) > 0
    total, *lines = capsys.readouterr().out.splitlines()
    assert re.fullmatch(r'-?\d+\.\d ms in all', total)
    times = [float(line.split()[0]) for line in lines]
    assert len(lines) == 25 and times == sorted(times, reverse=True)
    assert all(re.fullmatch(r'-?[\d.]+ .+ \[.*\]', line) for line in lines)
