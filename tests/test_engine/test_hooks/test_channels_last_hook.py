import copy
from types import SimpleNamespace

import pytest
import torch
from mmengine.model import BaseModel, MMDistributedDataParallel
from torch import distributed, nn
from toy_training import fit

from mmba2m.engine.hooks import ChannelsLastHook
from mmba2m.models.attentions.ba2m import BA2M


class Toy(BaseModel):
    """Convolutions with BA²M between them."""

    def __init__(self):
        super().__init__()
        self.first = nn.Conv2d(3, 16, 3)
        self.attention = BA2M(16, reduction=4)
        self.second = nn.Conv2d(16, 4, 3)

    def forward(self, inputs, data_samples=None, mode='loss'):
        self.features = self.attention(
            self.first(torch.stack(inputs).to(self.first.weight))
        )
        loss = self.second(self.features).square().mean()
        return dict(loss=loss) if mode == 'loss' else [loss]


def train(model, work_dir, hooks):
    generator = torch.Generator().manual_seed(0)
    images = [
        dict(inputs=torch.randn(3, 9, 9, generator=generator) * (i + 1))
        for i in range(4)
    ]
    sgd = dict(optimizer=dict(type='SGD', lr=0.1, momentum=0.9))
    fit(work_dir, model, images, 2, hooks, optim_wrapper=sgd)
    return model


def test_trains_the_same_weights_in_the_other_layout(tmp_path):
    torch.manual_seed(0)
    start = Toy().double()
    before = start.second.weight.clone()
    plain = train(copy.deepcopy(start), tmp_path / 'plain', [])
    hook = dict(type='mmba2m.ChannelsLastHook')
    model = train(copy.deepcopy(start), tmp_path / 'last', [hook])

    layout = torch.channels_last
    assert model.second.weight.is_contiguous(memory_format=layout)
    assert model.features.is_contiguous(memory_format=layout)
    assert not plain.second.weight.is_contiguous(memory_format=layout)
    assert not plain.features.is_contiguous(memory_format=layout)
    # checkpoints load in either layout
    state = torch.load(tmp_path / 'last/epoch_2.pth', weights_only=False)
    start.load_state_dict(state['state_dict'])
    assert torch.equal(start.second.weight, model.second.weight)
    assert start.second.weight.is_contiguous()
    changed = plain.second.weight - before
    assert changed.abs().max() > 1e-3
    for name, value in plain.state_dict().items():
        torch.testing.assert_close(
            model.state_dict()[name], value, rtol=1e-9, atol=1e-12, msg=name
        )


@pytest.fixture
def group():
    distributed.init_process_group(
        'gloo', store=distributed.HashStore(), rank=0, world_size=1
    )
    yield
    distributed.destroy_process_group()


def test_distributed_training_is_the_same_where_gradients_are_views(
    group, tmp_path
):
    torch.manual_seed(0)
    start = Toy().double()
    plain = train(copy.deepcopy(start), tmp_path / 'plain', [])
    hook = dict(type='mmba2m.ChannelsLastHook')
    wrapped = MMDistributedDataParallel(start, gradient_as_bucket_view=True)
    train(wrapped, tmp_path / 'last', [hook])
    for name, value in plain.state_dict().items():
        torch.testing.assert_close(
            start.state_dict()[name], value, rtol=1e-9, atol=1e-12, msg=name
        )


def test_refuses_other_distributed_training(group):
    torch.manual_seed(0)
    net = nn.Conv2d(3, 8, 3).double()
    x = torch.randn(2, 3, 9, 9, dtype=torch.float64)
    net(x).square().sum().backward()
    gradient = net.weight.grad.clone()

    wrapped = MMDistributedDataParallel(net)
    with pytest.raises(ValueError, match='gradient_as_bucket_view=True'):
        ChannelsLastHook().before_run(SimpleNamespace(model=wrapped))
    # when PyTorch has mended this, the hook can take it
    wrapped.to(memory_format=torch.channels_last)
    wrapped.zero_grad()
    wrapped(x).square().sum().backward()
    assert not torch.allclose(net.weight.grad, gradient)


def test_refuses_operators_that_misread_the_layout():
    pool = pytest.importorskip('mmcv.ops').RoIAlign(2, 1.0, 1)
    model = nn.ModuleDict(dict(conv=nn.Conv2d(3, 8, 3), pool=pool))
    x = torch.randn(2, 8, 6, 6)
    rois = torch.tensor([[0, 0, 0, 4, 4.0], [1, 1, 0, 5, 3.0]])
    misread = pool(x.contiguous(memory_format=torch.channels_last), rois)
    # when MMCV has mended this, the hook can take detectors
    assert not torch.allclose(pool(x, rois), misread)
    with pytest.raises(TypeError, match='pool is a RoIAlign of MMCV'):
        ChannelsLastHook().before_run(SimpleNamespace(model=model))
    assert model.conv.weight.is_contiguous()
