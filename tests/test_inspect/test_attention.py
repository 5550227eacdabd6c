import pytest
import torch
import torch.nn.functional as F
from torch import nn

from mmba2m.inspect import collect_attention
from mmba2m.models.attentions.ba2m import BA2M


class Network(nn.Module):
    """Two stages with BA²M, and what the first module got."""

    def __init__(self, **kwargs):
        super().__init__()
        self.conv1 = nn.Conv2d(3, 8, 3, padding=1)
        self.first = BA2M(8, reduction=4, **kwargs)
        self.conv2 = nn.Conv2d(8, 8, 3, stride=2, padding=1)
        self.second = BA2M(8, reduction=4, **kwargs)

    def extract_feat(self, x):
        return self.second(self.conv2(self.first(self.conv1(x))))


@pytest.fixture
def inputs():
    # unequal samples, odd size
    return torch.randn(3, 3, 7, 9).double() * torch.tensor([0.5, 2, 8]).view(
        3, 1, 1, 1
    )


def build(**kwargs):
    network = Network(**kwargs).double().eval()
    for name, buffer in network.named_buffers():
        if name.endswith('running_normalizer'):
            buffer.fill_(1.3)
    return network


def test_weights_and_maps_are_those_of_the_modules(inputs):
    network = build()
    with torch.no_grad():
        collected = collect_attention(network, inputs)
        x = network.conv1(inputs)
        for name, module in (
            ('first', network.first),
            ('second', network.second),
        ):
            one = collected[name]
            a = module.channel(x).sigmoid()
            local = module.local_spatial(x).sigmoid()
            global_ = module.global_spatial(x).sigmoid()
            torch.testing.assert_close(one.channel, a[..., 0, 0].float())
            torch.testing.assert_close(one.local_spatial, local[:, 0].float())
            torch.testing.assert_close(
                one.global_spatial, global_[:, 0].float()
            )
            # Eqs. 9 to 12, to the letter
            up = F.interpolate(global_, x.shape[-2:])
            sar = torch.maximum(a, torch.maximum(local, up)).mean((1, 2, 3))
            torch.testing.assert_close(one.sar, sar)
            weights = 3 * sar.exp() / sar.exp().sum()
            torch.testing.assert_close(one.weights, weights)
            assert weights.std() > 1e-4
            assert one.name == name and one.note == ''
            # the next module sees what this one has weighted
            x = network.conv2(x * weights.view(3, 1, 1, 1))
    assert list(collected) == ['first', 'second']


def test_weights_as_the_modules_are_set(inputs):
    collected = collect_attention(build(), inputs, over_batch=False)
    for one in collected.values():
        torch.testing.assert_close(one.weights, one.sar.exp() / 1.3)


def test_network_is_left_as_it_was(inputs):
    network = build(inference='sample')
    before = network.extract_feat(inputs)
    collect_attention(network, inputs)
    assert torch.equal(network.extract_feat(inputs), before)
    with pytest.raises(RuntimeError):
        collect_attention(network, inputs[:, :2])
    for module in (network.first, network.second):
        assert module.inference == 'sample'
        assert not module._forward_pre_hooks


def test_what_is_switched_off_says_so(inputs):
    one = collect_attention(build(inference='identity'), inputs)['first']
    assert torch.equal(one.weights, torch.ones(3).double())
    assert one.note.startswith("switched off (inference='identity')")
    assert one.sar.unique().numel() == 3

    network = build()
    network.first.strength.zero_()
    network.second.strength.fill_(0.25)
    one, two = collect_attention(network, inputs).values()
    assert torch.equal(one.weights, torch.ones(3).double())
    assert one.note.startswith('switched off (annealed to strength 0)')
    assert two.note == 'annealed to strength 0.25'
    torch.testing.assert_close(
        two.weights, 1 + 0.25 * (3 * two.sar.softmax(0) - 1)
    )


def test_branches_and_weights_to_the_letter(inputs):
    network = build(branches=('channel',), scale_by_batch=False)
    one = collect_attention(network, inputs)['first']
    assert one.local_spatial is None and one.global_spatial is None
    torch.testing.assert_close(one.sar, one.channel.double().mean(1))
    torch.testing.assert_close(one.weights, one.sar.softmax(0))
    assert one.note == 'weights sum to 1 (scale_by_batch=False)'


def test_no_module_and_no_images_are_named(inputs):
    network = build()
    network.first = network.second = nn.Identity()
    with pytest.raises(ValueError, match='has no BA2M module'):
        collect_attention(network, inputs)

    class Regions(Network):
        def extract_feat(self, x):
            return self.first(self.conv1(x).repeat(2, 1, 1, 1))

    with pytest.raises(ValueError, match=r'first weighs 6 samples.* 3 images'):
        collect_attention(Regions().double().eval(), inputs)
