import pytest
import ranks
import torch
from torch import multiprocessing

from mmba2m.models.attentions.ba2m.batch_softmax import batch_exp_sum

pytestmark = pytest.mark.filterwarnings('ignore:BA2M')


def test_one_process_sums_exponentials():
    logits = torch.tensor([0.1, 0.9, 0.4], requires_grad=True)
    for sync in (False, True):  # without ranks there is nothing to add
        total, shift, count = batch_exp_sum(logits, sync)
        torch.testing.assert_close(total * shift.exp(), logits.exp().sum())
        assert (shift, count) == (logits.max(), 3)
        assert not shift.requires_grad and not count.requires_grad


@pytest.mark.parametrize('n', [1, 3, 7])
def test_equal_logits_sum_to_exactly_their_number(n):
    total, _, _ = batch_exp_sum(torch.full((n,), 0.3))
    assert total == n


# The global batch: ranks against one process with all of the batch


@pytest.fixture(scope='module', params=[(2, 2), (1, 2, 3)], ids=str)
def batch(request, tmp_path_factory):
    """The sizes of the ranks' batches, and the results of each rank."""
    folder = tmp_path_factory.mktemp('ranks')
    sizes = request.param
    multiprocessing.start_processes(
        ranks.work, (str(folder), sizes), len(sizes), start_method='forkserver'
    )
    return sizes, [
        torch.load(folder / f'{rank}.pt') for rank in range(len(sizes))
    ]


def assert_equal_to_one_process(batch, name):
    sizes, results = batch
    results = [result[name] for result in results]
    expected = ranks.run(name, *ranks.make_batch(sum(sizes)))
    for key, value in expected.items():
        actual = [result[key] for result in results]
        if key in ('y', 'dx'):  # each rank has its samples
            actual = [torch.cat(actual)]
        for own in actual:
            torch.testing.assert_close(own, value, rtol=0, atol=1e-10)


@pytest.mark.parametrize(
    'name', ['plain', 'as_printed', 'compiled', 'checkpointed', 'reentrant']
)
def test_outputs_and_gradients_are_those_of_one_process(batch, name):
    assert_equal_to_one_process(batch, name)


@pytest.mark.parametrize('name', ['ddp', 'accumulated'])
def test_trained_weights_are_those_of_one_process(batch, name):
    assert_equal_to_one_process(batch, name)


def test_the_running_normalizer_is_bitwise_equal_on_all_ranks(batch):
    for name in ('plain', 'as_printed', 'compiled'):
        values = {r[name]['running_normalizer'].item() for r in batch[1]}
        assert len(values) == 1


def test_equal_samples_on_all_ranks_pass_unchanged(batch):
    sizes, results = batch
    x, _ = ranks.make_batch(sum(sizes), equal=True)
    y = torch.cat([result['equal']['y'] for result in results])
    assert torch.equal(y, x)


def test_one_small_collective_in_each_pass(batch):
    sizes, results = batch
    for result in results:
        assert result['counting']['forward'] == [3 * len(sizes)]
        assert result['counting']['both'] == [3 * len(sizes), 1]


def test_without_sync_each_rank_weights_its_own_samples(batch):
    sizes, results = batch
    x, upstream = ranks.make_batch(sum(sizes))
    for rank, result in enumerate(results):
        own = [ranks.own_part(t, sizes, rank) for t in (x, upstream)]
        expected = ranks.run('local', *own)
        for key in ('y', 'dx', 'running_normalizer'):
            torch.testing.assert_close(
                result['local'][key], expected[key], rtol=0, atol=1e-10
            )


def test_inference_asks_no_other_rank(batch):
    sizes, results = batch
    x, upstream = ranks.make_batch(sum(sizes))
    for rank, result in enumerate(results[:-1]):
        own = [ranks.own_part(t, sizes, rank) for t in (x, upstream)]
        expected = ranks.run('alone', *own)['y']
        torch.testing.assert_close(result['alone']['y'], expected)
        if sizes[rank] > 1:
            assert not torch.allclose(expected, own[0])
