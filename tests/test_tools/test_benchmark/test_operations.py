import pytest
import torch
from torch import nn

from mmba2m.models.attentions import BA2M


@pytest.fixture
def tool(load_tools):
    return load_tools('benchmark')['operations']


def test_what_launches_work_is_counted(tool):
    x = torch.randn(2, 3, 4, 4)
    with tool.Operations() as seen:
        y = x.transpose(0, 1)[:1].exp().view(-1).add_(1)
        torch.empty_like(y).copy_(y)
    names = [name.partition('.')[0] for name in seen.names]
    assert names == ['exp', 'add_', 'copy_']
    layers = nn.Conv2d(3, 3, 1), nn.BatchNorm2d(3), nn.ReLU()
    # the counter of the norm's batches is an operation of its own
    (step, inference, folded) = tool.count(nn.Sequential(*layers), x)
    assert (inference, folded) == (3, 2) and step >= 7


def test_ba2m_stays_within_its_operations(tool):
    counts = tool.count(BA2M(256), torch.randn(4, 256, 56, 56))
    assert all(a <= b for a, b in zip(counts, (118, 42, 35), strict=True))
