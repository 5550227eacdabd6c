import pytest
import torch
from mmengine.registry import DefaultScope

pytest.importorskip('mmpretrain')

from mmpretrain.registry import MODELS
from mmpretrain.structures import DataSample

COUNTS = [50, 7, 2]


@pytest.fixture(autouse=True)
def _scope():
    with DefaultScope.overwrite_default_scope('mmpretrain'):
        yield


def build(counts=COUNTS, **kwargs):
    loss = dict(type='mmba2m.BalancedSoftmaxLoss', counts=counts)
    head = dict(type='LinearClsHead', num_classes=3, in_channels=4)
    return MODELS.build(dict(head, loss=dict(loss, **kwargs)))


def test_loss_and_gradient_are_those_of_the_equation():
    torch.manual_seed(0)
    head = build(loss_weight=3.0).double()
    x = torch.randn(5, 4, dtype=torch.float64)
    labels = torch.tensor([0, 2, 1, 0, 2])
    samples = [DataSample().set_gt_label(label) for label in labels]
    z = head.fc(x)
    n = torch.tensor(COUNTS, dtype=torch.float64)
    p = n * z.exp() / (n * z.exp()).sum(1, keepdim=True)  # Eq. 4
    expected = -3 * p[range(5), labels].log().mean()
    found = head.loss((x,), samples)['loss']
    # log n is kept in float32
    torch.testing.assert_close(found, expected, rtol=1e-6, atol=0)
    (gradient,) = torch.autograd.grad(found, head.fc.weight)
    error = p.detach() - torch.eye(3)[labels]
    expected = 3 * error.T @ x / 5
    torch.testing.assert_close(gradient, expected, rtol=1e-5, atol=1e-7)


def test_equal_counts_change_nothing_and_inference_is_the_hosts():
    torch.manual_seed(0)
    heads = build([4, 4, 4]), build()
    plain = dict(type='LinearClsHead', num_classes=3, in_channels=4)
    plain = MODELS.build(plain)
    for head in heads:
        head.load_state_dict(plain.state_dict())  # with the same keys
    x = torch.randn(2, 4)
    samples = [DataSample().set_gt_label(label) for label in (0, 2)]
    expected = plain.loss((x,), samples)['loss']
    torch.testing.assert_close(heads[0].loss((x,), samples)['loss'], expected)
    assert not torch.isclose(heads[1].loss((x,), samples)['loss'], expected)
    for own, other in zip(
        heads[1].predict((x,)), plain.predict((x,)), strict=True
    ):
        assert own.pred_score.equal(other.pred_score)


def test_labels_may_be_smoothed_by_another_loss():
    head = build(base='LabelSmoothLoss', label_smooth_val=0.3)
    z = torch.tensor([[0.5, -1, 2], [1, 0, 0]])
    labels = torch.tensor([1, 2])
    target = 0.7 * torch.eye(3)[labels] + 0.1
    log_p = (z + torch.tensor(COUNTS).log()).log_softmax(1)
    expected = -(target * log_p).sum(1).mean()
    torch.testing.assert_close(head.loss_module(z, labels), expected)


@pytest.mark.parametrize('counts', [[], [3, 0, 1]])
def test_counts_that_are_not_positive_are_refused(counts):
    with pytest.raises(ValueError, match='counts must be positive'):
        build(counts)


def test_counts_of_other_classes_are_refused():
    loss = build([3, 1]).loss_module
    with pytest.raises(ValueError, match=r'2 counts for logits \(4, 3\)'):
        loss(torch.zeros(4, 3), torch.zeros(4, dtype=torch.long))
