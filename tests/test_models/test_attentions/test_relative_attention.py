import pytest
import torch
from attention_checks import assert_equal

from mmba2m.models.attentions.relative_attention import (
    attend,
    relative_logits,
)


def random(*shape):
    return torch.randn(*shape, dtype=torch.float64)


@pytest.mark.parametrize('heads', [1, 2])
@pytest.mark.parametrize(('number', 'halo'), [(9, 0), (11, 0), (3, 1), (5, 2)])
def test_logits_of_distances(number, halo, heads):
    q, embedding = random(2, 2, 3, 5, 4), random(number, heads, 4)
    logits = relative_logits(q, embedding, halo)
    assert logits.shape == (2, 2, 3, 5, 5 + 2 * halo)
    for x in range(5):
        for key in range(-halo, 5 + halo):
            got = logits[..., x, key + halo]
            distance = key - x
            if abs(distance) <= number // 2:
                r = embedding[distance + number // 2]
                assert_equal(got, (q[..., x, :] * r[:, None]).sum(-1))
            else:
                assert (got < -1e300).all()


@pytest.mark.parametrize('value_channels', [1, 3, 40])
@pytest.mark.parametrize('relative', [False, True])
def test_attention_equals_the_matrix(relative, value_channels):
    q, k = random(2, 3, 2, 4, 6), random(2, 3, 5, 3, 6)
    v = random(2, 3, 5, 3, value_channels)
    rows, cols = random(2, 3, 2, 4, 5), random(2, 3, 2, 4, 3)
    products = torch.einsum('nmyxd,nmabd->nmyxab', q, k)
    if relative:
        products = products + rows[..., None] + cols[..., None, :]
    weights = products.flatten(-2).softmax(-1).view_as(products)
    expected = torch.einsum('nmyxab,nmabd->nmyxd', weights, v)
    assert_equal(attend(q, k, v, (rows, cols) if relative else None), expected)


def test_keys_out_of_reach_get_no_weight_and_no_gradient():
    q, k = random(2, 2, 1, 4, 3), random(2, 2, 1, 8, 3)
    v = random(2, 2, 1, 8, 3)
    embedding = random(5, 2, 3)
    tensors = [t.requires_grad_() for t in (q, k, v, embedding)]
    rows = torch.zeros(2, 2, 1, 4, 1, dtype=torch.float64)
    out = attend(q, k, v, (rows, relative_logits(q, embedding, 2)))
    gradients = torch.autograd.grad(out[..., 0, :].sum(), tensors)
    assert all(g.isfinite().all() for g in gradients)
    for gradient in gradients[1:3]:
        assert gradient[..., :5, :].all()
        assert not gradient[..., 5:, :].any()
