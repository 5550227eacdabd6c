"""The modes of inference, and what training keeps for them."""

import ba2m_oracle as oracle
import pytest
import torch
from attention_checks import assert_equal
from ba2m_cases import (
    gradients,
    make_input,
    make_module,
    weights_of,
)

pytestmark = pytest.mark.filterwarnings('ignore:BA2M')


def test_running_normalizer_is_a_running_average():
    module = make_module(norm_cfg=None, momentum=0.3)
    expected = None
    for _ in range(4):
        x = make_input(4)
        mean = oracle.sar(module, x).exp().mean()
        expected = (
            mean if expected is None else 0.7 * expected + 0.3 * mean
        ).detach()
        module(x)
        assert_equal(module.running_normalizer, expected.view(1))


@pytest.mark.skipif(
    not hasattr(torch.amp, 'GradScaler'),
    reason='this torch scales losses on GPUs only',
)
def test_an_overflow_leaves_the_running_normalizer_as_it_was():
    module, twin = (make_module(norm_cfg=None) for _ in range(2))
    twin.load_state_dict(module.state_dict())
    x = make_input(4)
    scaler = torch.amp.GradScaler('cpu', init_scale=1.0)
    optimizer = torch.optim.SGD(module.parameters(), lr=0)
    for step in range(100):
        bad = step in (0, 7)  # before anything is known, and after
        loss = module(x * float('inf') if bad else x).sum()
        scaler.scale(loss).backward()
        scaler.step(optimizer)
        scaler.update()
        optimizer.zero_grad()
        if not bad:
            twin(x)
    assert scaler.get_scale() == 0.25
    assert_equal(module.running_normalizer, twin.running_normalizer)
    weights = weights_of(module.eval(), x)
    assert weights.isfinite().all() and (weights != 1).all()


@pytest.mark.parametrize('value', ['nan', 'inf', '-1'])
def test_a_file_without_a_normalizer_in_it_is_an_error(value):
    module = make_module()
    state = module.state_dict()
    state['running_normalizer'] = torch.tensor([float(value)])
    with pytest.raises(ValueError, match=rf'running_normalizer is \[{value}'):
        module.load_state_dict(state)


@pytest.mark.parametrize('scale_by_batch', [True, False])
def test_population_weights_agree_with_training(scale_by_batch):
    module = make_module(norm_cfg=None, scale_by_batch=scale_by_batch)
    x = make_input(5)
    in_training = weights_of(module, x)
    torch.testing.assert_close(weights_of(module.eval(), x), in_training)


@pytest.mark.parametrize('scale_by_batch', [True, False])
def test_without_training_the_weights_are_one(scale_by_batch):
    module = make_module(scale_by_batch=scale_by_batch).eval()
    x = make_input().requires_grad_()
    y = module(x)
    assert torch.equal(y, x)
    for grad in gradients(module, x, y, torch.ones_like(y)):
        assert grad.isfinite().all()


def test_identity_returns_the_input_itself():
    module = make_module(inference='identity')
    x = make_input()
    assert not torch.allclose(module(x), x, atol=1e-3)
    assert module.eval()(x) is x


@pytest.mark.parametrize('inference', ['sample', 'batch'])
def test_other_modes_are_the_literal_forms(inference):
    module, x = make_module(inference=inference), make_input()
    module(x)
    before = module.running_normalizer.clone()
    module.eval()
    expected = oracle.forward(module, x)
    if inference == 'sample':
        expected = x * oracle.sar(module, x).view(-1, 1, 1, 1)
    assert_equal(module(x), expected)
    assert torch.equal(module.running_normalizer, before)


@pytest.mark.parametrize('inference', ['population', 'sample', 'batch'])
@pytest.mark.parametrize('training', [True, False])
@pytest.mark.parametrize('strength', [0, 0.5])
def test_strength_moves_the_weights_towards_one(strength, training, inference):
    module = make_module(norm_cfg=None, inference=inference)
    x = make_input()
    module(x)
    full = weights_of(module.train(training), x)
    module.strength.fill_(strength)
    expected = x * (1 + strength * (full - 1)).view(-1, 1, 1, 1)
    torch.testing.assert_close(module(x), expected)
    if strength == 0:
        assert torch.equal(module(x), x)
