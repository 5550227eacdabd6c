import pytest
import torch
import torch.nn.functional as F

from mmba2m.models.attentions.ba2m.pool_by_products import pool_by_products


@pytest.mark.parametrize('size', [(28, 28), (31, 5), (7, 60), (84, 30)])
def test_it_is_adaptive_average_pooling(size):
    maps = torch.randn(2, 3, *size)
    expected = F.adaptive_avg_pool2d(maps, [min(s, 28) for s in size])
    pooled = pool_by_products(maps, 28)
    assert pooled.shape == expected.shape
    torch.testing.assert_close(pooled, expected)
    assert not torch.equal(pooled[0], pooled[1])
