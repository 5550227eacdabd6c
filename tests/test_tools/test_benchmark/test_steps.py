import pytest
import torch
from torch import nn

from mmba2m.models.attentions.ba2m import BA2M
from mmba2m.checkpoints.benchmark.steps import Subject, is_attention

CPU = torch.device('cpu')


def make_network():
    return nn.Sequential(
        nn.Conv2d(3, 8, 3, padding=1), nn.BatchNorm2d(8), BA2M(8, reduction=4)
    )


def test_a_training_step_is_the_loss_its_gradients_and_the_optimizer():
    network = make_network()
    subject = Subject(network, CPU, optimizer=True)
    images = subject.images((4, 3, 8, 8))
    seen = {}
    for name, parameter in network.named_parameters():
        parameter.register_hook(lambda grad, n=name: seen.update({n: grad}))
    before = {n: p.clone() for n, p in network.named_parameters()}
    subject.train_step(images)()
    assert seen.keys() == before.keys()

    state = {n: p.requires_grad_() for n, p in before.items()}
    out = torch.func.functional_call(network, state, images)
    grads = torch.autograd.grad(out.mean(), state.values())
    lr = subject.optimizer.param_groups[0]['lr']
    for (name, parameter), grad in zip(
        network.named_parameters(), grads, strict=True
    ):
        torch.testing.assert_close(seen[name], grad)
        torch.testing.assert_close(parameter, before[name] - lr * grad)
        assert parameter.grad is None


def test_inference_keeps_no_graph_and_knows_the_population():
    network = make_network()
    subject = Subject(network, CPU)
    step = subject.inference_step(subject.images((1, 3, 8, 8)))
    assert network[2].running_normalizer > 0
    outs = []
    network[2].register_forward_hook(lambda m, inputs, out: outs.append(out))
    step()
    assert not network.training
    assert not outs[0].requires_grad


@pytest.mark.parametrize(
    ('precision', 'weights', 'maps'),
    [
        ('fp32', torch.float32, torch.float32),
        ('bf16', torch.bfloat16, torch.bfloat16),
        ('autocast', torch.float32, torch.bfloat16),
    ],
)
def test_precision_and_layout(precision, weights, maps):
    network = nn.Conv2d(3, 8, 3)
    subject = Subject(network, CPU, precision, channels_last=True)
    assert network.weight.dtype == weights
    images = subject.images((2, 3, 8, 8))
    for tensor in (network.weight, images):
        assert tensor.is_contiguous(memory_format=torch.channels_last)
    outs = []
    network.register_forward_hook(lambda m, inputs, out: outs.append(out))
    subject.train_step(images)()
    assert outs[0].dtype == maps


def test_peak_memory_holds_weights_state_and_maps():
    network = nn.Conv2d(3, 8, 1, bias=False)
    subject = Subject(network, CPU, optimizer=True)
    images = subject.images((2, 3, 64, 64))
    step = subject.train_step(images)
    step()
    # weights and momentum; images; the output's gradient, which follows it
    least = 4 * (2 * 24 + images.numel() + 2 * 8 * 64 * 64)
    peak = subject.peak_memory(step, images)
    assert least <= peak
    no_grad = subject.inference_step(images)
    assert 4 * (2 * 24 + images.numel() + 2 * 8 * 64 * 64) <= (
        subject.peak_memory(no_grad, images)
    )


@pytest.mark.parametrize('compiled', ['module', 'network'])
def test_what_is_compiled(compiled, monkeypatch):
    marked = []

    def mark(function):
        marked.append(function)
        return function

    monkeypatch.setattr(torch, 'compile', mark)
    network = make_network()
    Subject(network, CPU, compiled=compiled)
    if compiled == 'network':
        assert marked == [network]
    else:
        assert [function.__self__ for function in marked] == [network[2]]


def test_attention_modules_are_known():
    from mmba2m.models.attentions import CBAM

    kinds = [type(m) for m in CBAM(16).modules() if is_attention(m)]
    assert kinds == [CBAM]
    assert is_attention(BA2M(16))
    assert not is_attention(nn.Conv2d(3, 3, 1))
