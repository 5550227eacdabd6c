import pytest
import torch

from mmba2m.checkpoints.benchmark.memory import count_bytes, measure_peak

CPU = torch.device('cpu')
MIB = 2**20


def test_peak_counts_what_lives_at_once():
    x = torch.zeros(MIB // 4)

    def step():
        a = x + 1
        b = a + 1  # two live
        del a
        c = b + 1
        del b
        torch.cat([c, c])  # three: c, and twice its size

    assert measure_peak(step, CPU) == 3 * MIB


def test_what_was_there_before_is_not_counted():
    held = [torch.zeros(MIB)]

    def step():
        held.clear()
        held.append(torch.zeros(MIB // 2))

    assert measure_peak(step, CPU) == 2 * MIB


def test_peak_sees_the_backward_pass_and_inside_of_operators():
    x = torch.zeros(1, MIB // 4, requires_grad=True)

    def step():
        # exp keeps its output, and its gradient is as large; sin keeps exp's
        x.exp().sin().sum().backward()
        x.grad = None

    # exp(x), and: sin(exp(x)), or its gradient and that of exp(x)
    peak = measure_peak(step, CPU)
    assert 3 * MIB <= peak < 3.1 * MIB

    # an im2col of 9 values for each one is no tensor that Python sees
    image = torch.zeros(1, 1, 128, 128, dtype=torch.float64)
    conv = torch.nn.Conv2d(1, 1, 3, padding=1, dtype=torch.float64)
    conv.requires_grad_(False)
    assert measure_peak(lambda: conv(image), CPU) >= 9 * count_bytes([image])


def test_bytes_of_tensors():
    tensors = [torch.zeros(3, 2), torch.zeros(5, dtype=torch.bfloat16)]
    assert count_bytes(tensors) == 3 * 2 * 4 + 5 * 2


@pytest.mark.skipif(not torch.cuda.is_available(), reason='needs CUDA')
def test_peak_on_a_gpu():
    x = torch.zeros(MIB // 4, device='cuda')
    peak = measure_peak(lambda: (x + 1, x + 2), x.device)
    assert peak == 2 * MIB
