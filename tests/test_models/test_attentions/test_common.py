"""What holds for every attention module, also for those to come."""

import copy
import inspect
import pickle
from importlib import import_module
from pathlib import Path

import pytest
import torch
from attention_checks import unequal_samples
from mmcv.cnn import build_conv_layer
from torch import nn

from mmba2m import HOSTS
from mmba2m.models.attentions.names import list_attentions
from mmba2m.registry import MODELS

DOCS = Path(__file__).parents[3] / 'docs' / 'attention.md'

NAMES = list_attentions()
# SK stands beside the ReLU of conv2, which a basic block has not
NOT_IN_BASIC_BLOCKS = ['SK']
SIZE = (37, 29)  # odd in the stage behind the stem

pytestmark = pytest.mark.filterwarnings('ignore:BA2M')
each = pytest.mark.parametrize('name', NAMES)


def is_conv(name):
    return MODELS.get(name).positions[0] == 'conv2'


PLACES = [
    (name, depth, position)
    for name in NAMES
    for depth in (18, 50)
    for position in MODELS.get(name).positions
    if depth == 50
    or (name not in NOT_IN_BASIC_BLOCKS and 'conv3' not in position)
]


def make_entry(name, position=None, size=SIZE):
    entry = dict(type=name, position=position)
    if 'map_size' in inspect.signature(MODELS.get(name)).parameters:
        entry['map_size'] = [tuple(-(-n // 8) for n in size)]
    return entry


def build(name, position=None, depth=50, size=SIZE, host=HOSTS[0]):
    """One stage with a stride; the modules in it by their defaults."""
    registry = import_module(f'{host}.registry').MODELS
    stages = dict(num_stages=1, strides=(2,), dilations=(1,), out_indices=(0,))
    cfg = dict(type='AttentionResNet', depth=depth, stem_channels=16, **stages)
    entry = make_entry(name, position, size)
    return registry.build(dict(**cfg, norm_eval=False, attention=entry))


def get_modules(network):
    return [network.get_submodule(n) for n in network.attention_names]


def randomize(network):
    for name, tensor in network.state_dict().items():
        if 'running_var' in name or name.endswith('running_normalizer'):
            tensor.uniform_(0.5, 1.5)
        elif tensor.is_floating_point() and tensor.dim() < 2:
            tensor.add_(0.2 * torch.randn_like(tensor))
    return network


def make_images(n=2, size=SIZE):
    return unequal_samples(n, 3, *size, dtype=torch.float32)


def learn(network, x):
    network.train()
    (out,) = network(x)
    weights = torch.randn_like(out)
    (out * weights).sum().backward()
    for key, parameter in network.named_parameters():
        assert parameter.grad is not None, key
        assert parameter.grad.isfinite().all(), key
    return out


def predict(network, x):
    network.eval()
    return network(x)[0]


@pytest.mark.parametrize('host', HOSTS)
@pytest.mark.parametrize(('name', 'depth', 'position'), PLACES)
def test_every_place(name, depth, position, host):
    network = randomize(build(name, position, depth, host=host))
    modules = get_modules(network)
    assert len(modules) in (1, 2 if depth == 18 else 3)
    for module in modules:
        assert type(module) is MODELS.get(name)
    out = learn(network, make_images())
    assert out.shape == (2, 64 if depth == 18 else 256, 5, 4)
    # some operators of mmcv, RoIAlign on the CPU for one, misread other maps
    assert out.is_contiguous()
    for module in modules:
        grads = [p.grad for p in module.parameters()]
        assert not grads or any(grad.any() for grad in grads)


@each
@pytest.mark.parametrize(('n', 'size'), [(1, SIZE), (2, (4, 4)), (2, (5, 41))])
def test_a_single_image_and_thin_maps(name, n, size):
    """Down to 1×1, where statistics over positions are of one value."""
    network = randomize(build(name, size=size))
    learn(network, make_images(n, size))
    with torch.no_grad():
        assert predict(network, make_images(1, size)).isfinite().all()


@each
def test_evaluation_does_not_mix_samples(name):
    network = randomize(build(name)).double()
    network.eval()
    x = make_images(3).double()
    with torch.no_grad():
        single = torch.cat([network(image[None])[0] for image in x])
        torch.testing.assert_close(network(x)[0], single)
        # and nothing is updated
        torch.testing.assert_close(network(x)[0], single)


def get_factor(network):
    """What the first module multiplies by, or None where that varies."""
    seen = []
    module = get_modules(network)[0]
    # the host adds the shortcut in place
    module.register_forward_hook(
        lambda module, args, out: seen.append((args[0], out.clone()))
    )
    # a last norm that starts at 0 would leave nothing to multiply
    nn.init.ones_(network.layer1[0].norm3.weight)
    network.eval()
    with torch.no_grad():
        assert network(make_images())[0].isfinite().all()
        ((source, result),) = seen
        if isinstance(source, list):
            source = source[-1]
        if isinstance(module, nn.Conv2d):
            source = nn.Conv2d.forward(module, source)
    if source.shape != result.shape:
        return None
    factor = (result / source)[source.abs() > 1e-3]
    return factor.mean().item() if factor.std() < 1e-4 else None


@pytest.mark.parametrize('host', HOSTS)
@each
def test_initial_behaviour_survives_init_weights(name, host):
    """A module that starts as a constant factor does so in a network, too."""
    network = build(name, host=host)
    factor = get_factor(copy.deepcopy(network))
    network.init_weights()
    for tensor in network.state_dict().values():
        assert tensor.isfinite().all()
    assert get_factor(network) == pytest.approx(factor, abs=1e-4)


@each
def test_copies(name):
    network = randomize(build(name))
    network.eval()
    x = make_images()
    pickled = pickle.loads(pickle.dumps(network))
    with torch.no_grad():
        expected = network(x)[0]
        for other in (copy.deepcopy(network), pickled):
            assert torch.equal(other(x)[0], expected)
            for module in get_modules(other):
                for tensor in module.state_dict().values():
                    tensor.zero_()
        assert torch.equal(network(x)[0], expected)


@each
@pytest.mark.parametrize('training', [True, False])
def test_autocast(name, training):
    network = randomize(build(name))
    x, dtypes = make_images(), []
    run = learn if training else predict
    expected = run(copy.deepcopy(network), x)
    get_modules(network)[0].register_forward_hook(
        lambda module, args, out: dtypes.append(out.dtype)
    )
    with torch.autocast('cpu', torch.bfloat16):
        out = run(network, x)
    assert dtypes == [torch.bfloat16]
    assert (out.float() - expected).norm() < 0.1 * expected.norm()


# the largest branch of BA2M hides the others; it has tests of its own
@pytest.mark.parametrize('name', [n for n in NAMES if n != 'BA2M'])
def test_all_parameters_learn(name):
    # in training, the gradient of a bias in front of a batch norm is 0
    network = randomize(build(name)).double()
    for module in get_modules(network):
        for tensor in module.parameters():
            tensor.data.normal_(std=0.1)
            if tensor.dim() < 2:  # that no ReLU takes to 0
                tensor.data.uniform_(0.1, 0.5)
    predict(network, make_images().double()).square().sum().backward()
    for module in get_modules(network):
        for key, parameter in module.named_parameters():
            assert parameter.grad is not None, key
            # a softmax takes out what is added to all of its inputs
            ignored = key in ('conv_mask.bias', 'score.bias')
            assert (parameter.grad.abs().max() < 1e-10) == ignored, key


@pytest.mark.parametrize('name', [n for n in NAMES if is_conv(n)])
def test_as_dcn_of_a_host(name):
    cfg = dict(type=f'mmba2m.{name}')
    if 'map_size' in inspect.signature(MODELS.get(name)).parameters:
        cfg['map_size'] = (4, 5)
    layer = build_conv_layer(cfg, 32, 32, 3, 2, 1, dilation=1, bias=False)
    assert layer(torch.randn(2, 32, 7, 9)).shape == (2, 32, 4, 5)


@pytest.mark.parametrize('name', NOT_IN_BASIC_BLOCKS)
def test_what_cannot_be_in_a_basic_block_says_so(name):
    with pytest.raises(ValueError, match=rf'layer1\.0: {name} .*bottleneck'):
        build(name, depth=18)


@each
def test_it_is_in_the_documentation(name):
    assert f'`{name}`' in DOCS.read_text(encoding='utf-8')


@each
def test_its_arguments_are_documented(name):
    doc = inspect.getdoc(MODELS.get(name))
    parameters = inspect.signature(MODELS.get(name)).parameters
    for parameter in parameters:
        assert f'    {parameter}' in doc, parameter
