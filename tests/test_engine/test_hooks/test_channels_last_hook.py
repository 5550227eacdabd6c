import copy
from types import SimpleNamespace

import pytest
import torch
from mmengine.model import MMDistributedDataParallel
from torch import nn
from toy_training import SGD, Toy, fit

from mmba2m.checkpoints.files import load_checkpoint
from mmba2m.engine.hooks import ChannelsLastHook
from mmba2m.models.attentions.ba2m import BA2M

HOOK = dict(type='mmba2m.ChannelsLastHook')
LAYOUT = torch.channels_last


def train(model, work_dir, *hooks):
    generator = torch.Generator().manual_seed(0)
    images = [
        dict(x=torch.randn(3, 9, 9, generator=generator).double() * (i + 1))
        for i in range(4)
    ]
    sgd = dict(optimizer=dict(SGD['optimizer'], momentum=0.9))
    fit(work_dir, model, images, 2, hooks, optim_wrapper=sgd)
    return model


@pytest.fixture(scope='module')
def plain(tmp_path_factory):
    """A network before training, and after it without the hook."""
    torch.manual_seed(0)
    attention = BA2M(16, reduction=4)
    start = Toy(nn.Conv2d(3, 16, 3), attention, nn.Conv2d(16, 4, 3)).double()
    after = train(copy.deepcopy(start), tmp_path_factory.mktemp('plain'))
    changed = after.layers[2].weight - start.layers[2].weight
    assert changed.abs().max() > 1e-3
    return start, after


def assert_same(model, plain):
    torch.testing.assert_close(
        model.state_dict(), plain.state_dict(), rtol=1e-9, atol=1e-12
    )


def test_trains_the_same_weights_in_the_other_layout(plain, tmp_path):
    start, plain = copy.deepcopy(plain)
    model = train(copy.deepcopy(start), tmp_path, HOOK)
    assert_same(model, plain)
    for trained in (model, plain):
        maps = trained.layers[:2](torch.randn(2, 3, 9, 9).double())
        for values in (maps, trained.layers[2].weight):
            is_last = values.is_contiguous(memory_format=LAYOUT)
            assert is_last == (trained is model)
    # checkpoints load in either layout
    start.load_state_dict(
        load_checkpoint(tmp_path / 'epoch_2.pth')['state_dict']
    )
    assert torch.equal(start.layers[2].weight, model.layers[2].weight)
    assert start.layers[2].weight.is_contiguous()


def test_distributed_training_is_the_same_where_gradients_are_views(
    group, plain, tmp_path
):
    start, plain = copy.deepcopy(plain)
    wrapped = MMDistributedDataParallel(start, gradient_as_bucket_view=True)
    train(wrapped, tmp_path, HOOK)
    assert_same(start, plain)


def test_refuses_what_would_compute_something_else(group):
    model = nn.ModuleDict(dict(conv=nn.Conv2d(3, 8, 3)))
    wrapped = MMDistributedDataParallel(model)
    with pytest.raises(ValueError, match='gradient_as_bucket_view=True'):
        ChannelsLastHook().before_run(SimpleNamespace(model=wrapped))
    model['pool'] = pytest.importorskip('mmcv.ops').RoIAlign(2, 1.0, 1)
    with pytest.raises(TypeError, match='pool is a RoIAlign of MMCV'):
        ChannelsLastHook().before_run(SimpleNamespace(model=model))
    assert model['conv'].weight.is_contiguous()
