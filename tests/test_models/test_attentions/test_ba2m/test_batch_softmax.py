import pytest
import ranks
import torch
from attention_checks import assert_equal
from torch import multiprocessing

from mmba2m.models.attentions.ba2m.batch_softmax import batch_softmax

pytestmark = pytest.mark.filterwarnings('ignore:BA2M')


@pytest.mark.parametrize('scale_by_batch', [True, False])
@pytest.mark.parametrize('sync', [True, False])  # without ranks, nothing
def test_it_is_the_softmax_over_the_batch(sync, scale_by_batch):
    logits = torch.tensor([0.1, 90.0, 89.4, 91.2]).double().requires_grad_()
    weights, z = batch_softmax(logits, scale_by_batch, sync)
    scale = 4 if scale_by_batch else 1
    expected = scale * logits.softmax(0)
    torch.testing.assert_close(weights, expected)
    torch.testing.assert_close(z, logits.exp().sum().detach() / scale)
    assert not z.requires_grad
    grads = (
        torch.autograd.grad(w, logits, torch.arange(4.0).double())
        for w in (weights, expected)
    )
    torch.testing.assert_close(*grads)


def test_of_an_empty_batch_nothing_is_known():
    logits = torch.zeros(0, requires_grad=True)
    weights, z = batch_softmax(logits)
    weights.sum().backward()
    assert weights.shape == logits.grad.shape == (0,)
    assert z == 0


# The global batch: ranks against one process with all of the batch


def fork(folder, names):
    """The results of each rank."""
    multiprocessing.start_processes(
        ranks.work, (str(folder), names), 3, start_method='forkserver'
    )
    return [torch.load(folder / f'{rank}.pt') for rank in range(3)]


@pytest.fixture(scope='module')
def results(tmp_path_factory):
    names = [name for name in ranks.SCENARIOS if name != 'compiled']
    return fork(tmp_path_factory.mktemp('ranks'), names)


def assert_equal_to_one_process(results, name):
    own_ranks = range(len(results))
    results = [result[name] for result in results]
    for key, value in ranks.run(name, *own_ranks).items():
        actual = [result[key] for result in results]
        if key in ('y', 'dx'):  # each rank has its samples
            actual = [torch.cat(actual)]
        for own in actual:
            assert_equal(own, value)
        if key == 'running_normalizer':
            assert all(torch.equal(own, actual[0]) for own in actual)


AS_ONE = 'plain as_printed empty nobody checkpointed reentrant ddp accumulated'
AS_ONE += ' weighted weighted_empty'  # of losses


@pytest.mark.parametrize('name', AS_ONE.split())
def test_all_is_as_in_one_process(results, name):
    assert_equal_to_one_process(results, name)


@pytest.mark.slow
def test_compiled_ranks_are_as_one_process(tmp_path):
    assert_equal_to_one_process(fork(tmp_path, ['compiled']), 'compiled')


def test_a_group_of_ranks_asks_no_other(results):
    assert_equal_to_one_process(results[:2], 'grouped')
    # the rank outside is alone
    own = ranks.run('local', 2)['running_normalizer']
    assert_equal(results[2]['grouped']['running_normalizer'], own)


def test_equal_samples_on_all_ranks_pass_unchanged(results):
    x, _ = ranks.make_batch(sum(ranks.SIZES), equal=True)
    y = torch.cat([result['equal']['y'] for result in results])
    assert torch.equal(y, x)


def test_one_small_collective_in_each_pass(results):
    for result in results:
        assert result['counting'] == dict(forward=[9], both=[9, 1])


def test_without_sync_each_rank_weights_its_own_samples(results):
    for rank, result in enumerate(results):
        expected = ranks.run('local', rank)
        for key in ('y', 'dx', 'running_normalizer'):
            assert_equal(result['local'][key], expected[key])
        expected = ranks.run('weighted_local', rank)['y']  # of losses
        assert_equal(result['weighted_local']['y'], expected)


def test_inference_asks_no_other_rank(results):
    for rank, result in enumerate(results[:-1]):
        expected = ranks.run('alone', rank)['y']
        assert_equal(result['alone']['y'], expected)
    x, _ = ranks.make_batch(sum(ranks.SIZES))
    assert not torch.allclose(expected, x[1:3])
