"""The faster way on the CPU: the same numbers, and when it stands back."""

import copy
from importlib import import_module

import ba2m_oracle as oracle
import pytest
import torch
from attention_checks import assert_equal
from ba2m_cases import (
    assert_equal_with_gradients,
    gradients,
    make_input,
    make_module,
)
from torch import nn
from torch.func import functional_call
from torch.nn.modules.module import register_module_forward_hook
from torch.nn.utils import parametrizations, prune

from mmba2m import HOSTS
from mmba2m.models.attentions.ba2m import cpu

pytestmark = pytest.mark.filterwarnings('ignore')


@pytest.fixture
def calls(monkeypatch):
    """Counts its uses."""
    made, project = [], cpu._project
    monkeypatch.setattr(
        cpu, '_project', lambda *args: made.append(1) or project(*args)
    )
    return made


def differentiable_attention():
    """What PyTorch takes by default on the CPU has one derivative only."""
    if not hasattr(torch.nn, 'attention'):  # torch < 2.3
        return torch.backends.cuda.sdp_kernel(enable_flash=False)
    return torch.nn.attention.sdpa_kernel(torch.nn.attention.SDPBackend.MATH)


def both(compute):
    """The results with the faster way, and without."""
    fast = compute()
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(cpu, 'attend', lambda *_: None)
        return fast, compute()


@pytest.mark.parametrize(
    'size',
    [(10, 10), (11, 14), (12, 9), (13, 15), (1, 120), (101, 1), (9, 11)],
)
@pytest.mark.parametrize('norm_cfg', [dict(type='BN'), None])
def test_equals_the_literal_form_with_gradients(size, norm_cfg, calls):
    module = make_module(9, 2, norm_cfg=norm_cfg)
    x = make_input(3, 9, *size)
    assert_equal_with_gradients(module, x, oracle.forward)
    assert bool(calls) == (size[0] * size[1] >= cpu.MIN_POSITIONS)


def test_without_gradients_of_the_map_or_of_anything(calls):
    module = make_module(9, 2, torch.float32, inference='sample').eval()
    x = make_input(3, 9, 11, 10, torch.float32)

    def compute():
        y = module(x)
        return y, torch.autograd.grad(y.square().mean(), module.parameters())

    torch.testing.assert_close(*both(compute))
    with torch.no_grad():
        torch.testing.assert_close(*both(lambda: module(x)))
    assert len(calls) == 2


def test_gradients_of_gradients():
    module = make_module(norm_cfg=None)
    x = make_input(2, h=10, w=10).requires_grad_()
    inputs = [x, *module.parameters()]

    def compute():
        loss = module(x).square().sum()
        grads = torch.autograd.grad(loss, inputs, create_graph=True)
        penalty = sum(grad.square().sum() for grad in grads)
        return torch.autograd.grad(penalty, inputs)

    with differentiable_attention():
        fast, expected = both(compute)
    for one, other in zip(fast, expected, strict=True):
        assert_equal(one, other, atol=1e-10 * other.abs().max().item())


@pytest.mark.parametrize('host', HOSTS)
def test_whole_networks_are_the_same(host, calls):
    widths = dict(depth=18, stem_channels=8, base_channels=8)
    cfg = dict(type='BA2MResNet', norm_eval=False, out_indices=(0, 1, 2, 3))
    network = import_module(f'{host}.registry').MODELS.build(
        dict(ba2m_cfg=dict(reduction=4), **widths, **cfg)
    )
    network.double().train()
    images = make_input(3, 3, 96, 96).requires_grad_()

    def compute():
        outs = network(images)
        return outs, gradients(
            network, images, sum(out.square().mean() for out in outs), None
        )

    assert_equal(*both(compute), atol=1e-11)
    assert len(calls) == 2  # 24 × 24 and 12 × 12 positions


# Where it stands back


LAYERS = ['local_spatial.0', 'global_spatial.qkv', 'global_spatial.conv']


@pytest.mark.parametrize(
    'kind', ['forward', 'forward_pre', 'full_backward', 'full_backward_pre']
)
def test_hooks_inside_the_branches_fire(kind, calls):
    module = make_module()
    for name in (*LAYERS, 'channel.0', 'local_spatial.3', 'global_spatial'):
        fired = []
        layer = module.get_submodule(name)
        register = getattr(layer, f'register_{kind}_hook')
        handle = register(lambda *_, fired=fired: fired.append(1))
        module(make_input(h=10, w=10).requires_grad_()).sum().backward()
        assert len(fired) == 1 and not calls, name
        handle.remove()
    module(make_input(h=10, w=10))
    assert calls


def test_hooks_of_all_modules_fire(calls):
    module, seen = make_module(), set()
    handle = register_module_forward_hook(lambda m, *_: seen.add(m))
    module(make_input(h=10, w=10))
    handle.remove()
    assert seen == {*module.modules()} and not calls


class Clamped(nn.Conv2d):
    def forward(self, x):
        weight = self.weight.clamp(-1, 1)
        return self._conv_forward(x, weight, self.bias)


def set_forward(layer):
    forward = layer.forward
    layer.forward = lambda x: forward(x).clamp(max=0.5)


ALTERATIONS = dict(
    prune=lambda layer: prune.l1_unstructured(layer, 'weight', 0.5),
    weight_norm=torch.nn.utils.weight_norm,
    spectral_norm=torch.nn.utils.spectral_norm,
    parametrized=parametrizations.spectral_norm,
    replaced=lambda layer: setattr(layer, '__class__', Clamped),
    set_forward=set_forward,
)


@pytest.mark.parametrize('name', ALTERATIONS)
@pytest.mark.parametrize('layer', LAYERS)
def test_altered_layers_train_as_without_it(layer, name, calls):
    batches = [make_input(h=10, w=10) for _ in range(3)]
    original = make_module()

    def train():
        torch.manual_seed(0)  # spectral norm draws
        module = copy.deepcopy(original)
        ALTERATIONS[name](module.get_submodule(layer))
        before = {k: v.clone() for k, v in module.named_parameters()}
        optimizer = torch.optim.SGD(module.parameters(), lr=0.1)
        for x in batches:
            module(x).square().mean().backward()
            optimizer.step()
            optimizer.zero_grad()
        for key in before:
            if 'weight' in key and key.startswith(layer):
                assert not torch.equal(module.get_parameter(key), before[key])
        return module.state_dict()

    assert_equal(*both(train), atol=0)
    assert not calls


def test_other_numbers_of_a_layer_hold(calls):
    """A conversion to dilated convolutions changes them in place."""
    module, x = make_module(), make_input(h=10, w=10)
    module.global_spatial.conv.dilation = (2, 2)
    module.global_spatial.conv.padding = (2, 2)
    module.local_spatial[0].bias = None
    assert_equal(*both(lambda: module(x)), atol=0)
    assert not calls


def test_functional_transforms(calls):
    module = make_module(inference='sample').eval()
    x = make_input(h=10, w=10)
    own = dict(module.named_parameters())

    def loss(parameters, x):
        return functional_call(module, parameters, (x,)).square().sum()

    with differentiable_attention():
        actual = torch.func.grad(loss)(own, x)
        expected = torch.autograd.grad(loss(own, x), [*own.values()])
        assert_equal([*actual.values()], [*expected])
        calls.clear()
        stacked = {k: torch.stack([v, 2 * v]) for k, v in own.items()}
        losses = torch.vmap(loss, in_dims=(0, None))(stacked, x)
        assert_equal(losses[0], loss(own, x))
        calls.clear()
        _, derivative = torch.func.jvp(lambda x: loss(own, x), (x,), (x,))
        assert not calls
        x.requires_grad_()
        (grad,) = torch.autograd.grad(loss(own, x), x)
        assert_equal(derivative, (grad * x).sum(), atol=1e-8)


def test_other_layouts_and_autocast(calls):
    module = make_module(dtype=torch.float32)
    x = make_input(h=10, w=10, dtype=torch.float32)
    rows = x.contiguous(memory_format=torch.channels_last)
    result, _ = both(lambda: module(rows))
    assert not calls
    torch.testing.assert_close(result, module(x))
    calls.clear()
    with torch.autocast('cpu', torch.bfloat16):
        assert_equal(*both(lambda: module(x)), atol=0)
    assert not calls


@pytest.mark.parametrize('inference', ['population', 'identity', 'sample'])
def test_traced_graphs_hold_plain_layers(inference, calls):
    module = make_module(inference=inference)
    module(make_input())
    x = make_input(2, h=10, w=10)
    traced = torch.jit.trace(module.eval(), x, check_trace=False)
    assert not calls
    for n in (2, 5):
        x = make_input(n, h=10, w=10)
        assert_equal(traced(x), module(x))
