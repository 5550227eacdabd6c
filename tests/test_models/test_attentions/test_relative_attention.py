"""What the literal forms in test_aa_conv.py and test_sasa.py don't show."""

import torch

from mmba2m.models.attentions.relative_attention import (
    attend,
    relative_logits,
)


def random(*shape):
    return torch.randn(*shape, dtype=torch.float64)


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
