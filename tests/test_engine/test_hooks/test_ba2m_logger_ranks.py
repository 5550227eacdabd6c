"""Two ranks with unequal batches against one process with all samples."""

import json
import math

import pytest
import torch
from logger_records import (
    make_batch,
    make_module,
    read_events,
    record,
)
from torch import distributed, multiprocessing, nn
from torch.nn.parallel import DistributedDataParallel

pytestmark = pytest.mark.filterwarnings('ignore:BA2M')

SIZES = (1, 3)


def make_pair():
    torch.manual_seed(3)
    modules = [make_module(sync_batch=sync) for sync in (True, False)]
    return nn.Sequential(*modules).train(), make_batch(sum(SIZES))


def record_on_a_rank(rank, folder):
    torch.set_num_threads(1)
    distributed.init_process_group(
        'gloo',
        init_method=f'file://{folder}/rendezvous',
        rank=rank,
        world_size=len(SIZES),
    )
    model, x = make_pair()
    line, _ = record(
        DistributedDataParallel(model),
        x.split(SIZES)[rank],
        folder / str(rank),
    )
    assert (line is None) == (rank > 0)
    distributed.destroy_process_group()


@pytest.mark.slow
def test_ranks_record_the_global_batch(tmp_path):
    multiprocessing.start_processes(
        record_on_a_rank, (tmp_path,), len(SIZES), start_method='forkserver'
    )
    (line,) = (tmp_path / '0/vis_data/ba2m.json').read_text().splitlines()
    line = json.loads(line)
    assert not list((tmp_path / '1').rglob('events.*'))

    (one, two), x = make_pair()
    with torch.no_grad():
        first = one.sample_attention(x)
        weight = len(x) * first.softmax(0)
        middle = x * weight.view(-1, 1, 1, 1)
        second = two.sample_attention(middle)
    p = first.softmax(0)
    expected = {
        'ba2m_sar_mean/0': first.mean(),
        'ba2m_weight_max/0': weight.max(),
        'ba2m_weight_std/0': weight.std(unbiased=False),
        'ba2m_weight_entropy/0': -(p * p.log()).sum() / math.log(len(x)),
        'ba2m_normalizer/0': first.exp().mean(),
        'ba2m_sar_std/1': second.std(unbiased=False),
    }
    # each rank on its own: of one sample, the weight is 1
    own = second[1:].softmax(0)
    weight = torch.cat([torch.ones(1), 3 * own])
    entropy = -(own * own.log()).sum() / math.log(3)
    expected.update(
        {
            'ba2m_weight_min/1': weight.min(),
            'ba2m_weight_max/1': weight.max(),
            'ba2m_weight_entropy/1': (1 + entropy) / 2,
            'ba2m_normalizer/1': second[0].exp(),
        }
    )
    for key, value in expected.items():
        assert line[key] == pytest.approx(value.item(), rel=1e-6), key
    _, histograms = read_events(tmp_path / '0')
    assert histograms['ba2m_weight/1'][1].num == 4
    assert histograms['ba2m_weight/1'][1].sum == pytest.approx(4)
