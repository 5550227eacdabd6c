"""What others do to the layers of the branches: hooks, pruning, transforms."""

import copy

import pytest
import torch
from attention_checks import assert_equal
from ba2m_cases import make_input, make_module
from torch.func import functional_call
from torch.nn.utils import parametrizations, prune

pytestmark = pytest.mark.filterwarnings('ignore')

LAYERS = ['local_spatial.0', 'global_spatial.qkv', 'global_spatial.conv']
ALTERATIONS = dict(
    prune=lambda layer: prune.l1_unstructured(layer, 'weight', 0.5),
    weight_norm=torch.nn.utils.weight_norm,
    spectral_norm=torch.nn.utils.spectral_norm,
    parametrized=parametrizations.spectral_norm,
)


@pytest.mark.parametrize(
    'kind', ['forward', 'forward_pre', 'full_backward', 'full_backward_pre']
)
def test_hooks_inside_the_branches_fire(kind):
    module, fired = make_module(), []
    # not those before a ReLU in place, which PyTorch refuses
    names = [*LAYERS, 'channel.0', 'local_spatial.3', 'global_spatial']
    for name in names:
        register = getattr(module.get_submodule(name), f'register_{kind}_hook')
        register(lambda *_, name=name: fired.append(name))
    module(make_input(h=10, w=10).requires_grad_()).sum().backward()
    assert sorted(fired) == sorted(names)


@pytest.mark.parametrize('name', ALTERATIONS)
@pytest.mark.parametrize('layer', LAYERS)
def test_altered_layers_train(layer, name):
    module = make_module()
    ALTERATIONS[name](module.get_submodule(layer))
    before = copy.deepcopy(module.state_dict())
    optimizer = torch.optim.SGD(module.parameters(), lr=0.1)
    for _ in range(3):
        optimizer.zero_grad()
        module(make_input(h=10, w=10)).square().mean().backward()
        optimizer.step()
    weights = [
        key
        for key, _ in module.named_parameters()
        if key.startswith(layer) and 'bias' not in key
    ]
    assert weights
    for key in weights:
        assert not torch.equal(module.get_parameter(key), before[key])


def differentiable_attention():
    """What PyTorch takes by default on the CPU has one derivative only."""
    if not hasattr(torch.nn, 'attention'):  # torch < 2.3
        return torch.backends.cuda.sdp_kernel(enable_flash=False)
    return torch.nn.attention.sdpa_kernel(torch.nn.attention.SDPBackend.MATH)


def test_gradients_of_gradients():
    module = make_module(4, 2, norm_cfg=None, inference='sample').eval()
    x = make_input(2, 4, 5, 4).requires_grad_()
    with differentiable_attention():
        assert torch.autograd.gradgradcheck(module, x)


def test_functional_transforms():
    module = make_module(inference='sample').eval()
    x = make_input(h=10, w=10)
    own = dict(module.named_parameters())

    def loss(parameters, x):
        return functional_call(module, parameters, (x,)).square().sum()

    with differentiable_attention():
        actual = torch.func.grad(loss)(own, x)
        expected = torch.autograd.grad(loss(own, x), [*own.values()])
        assert_equal([*actual.values()], [*expected])
        stacked = {k: torch.stack([v, 2 * v]) for k, v in own.items()}
        losses = torch.vmap(loss, in_dims=(0, None))(stacked, x)
        assert_equal(losses[0], loss(own, x))
        _, derivative = torch.func.jvp(lambda x: loss(own, x), (x,), (x,))
        (grad,) = torch.autograd.grad(loss(own, x.requires_grad_()), x)
        assert_equal(derivative, (grad * x).sum(), atol=1e-8)


@pytest.mark.parametrize('inference', ['population', 'identity', 'sample'])
def test_traced_graphs_take_any_batch(inference):
    module = make_module(inference=inference)
    module(make_input())
    x = make_input(2, h=10, w=10)
    traced = torch.jit.trace(module.eval(), x, check_trace=False)
    for n in (2, 5):
        x = make_input(n, h=10, w=10)
        assert_equal(traced(x), module(x))
