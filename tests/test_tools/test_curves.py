import math
import runpy

import pytest
from mmengine.visualization import LocalVisBackend
from tool_runs import ROOT, run_tool

PATH = 'analysis_tools/curves.py'
TOOL = runpy.run_path(str(ROOT / 'tools' / PATH))
read_scalars, draw = TOOL['read_scalars'], TOOL['draw']


def write(work_dir, run, lines, **kwargs):
    """Writes scalars as MMEngine does."""
    backend = LocalVisBackend(str(work_dir / run / 'vis_data'), **kwargs)
    for line in lines:
        backend.add_scalars(line, step=line.pop('step'))


def train(iteration, loss, lr=0.1, **more):
    tags = dict(lr=lr, loss=loss, time=0.2, iter=iteration)
    return dict(tags, step=iteration, **more)


def val(epoch, value, name='coco/bbox_mAP', **more):
    return {name: value, 'step': epoch, **more}


@pytest.fixture
def detector(tmp_path):
    work_dir = tmp_path / 'detector'
    first = [train(10, 4.0), train(20, 3.0), val(1, 0.1)]
    # killed in the second epoch, resumed from the first one's checkpoint
    first += [train(32, 9.0), train(43, 9.0), val(2, 0.9)]
    second = [train(30, 2.0, 0.01), train(40, 1.0, 0.01)]
    second += [val(2, 0.2, **{'coco/bbox_mAP_50': 0.4})]
    write(work_dir, '20250101_000000', first)
    write(work_dir, '20250102_000000', second)
    # resumed only for the last validation
    write(work_dir, '20250103_000000', [val(2, 0.3)])
    return work_dir


def test_a_resumed_training_is_one_curve(detector):
    series = read_scalars(detector)
    assert list(series['loss'].items()) == [(10, 4), (20, 3), (30, 2), (40, 1)]
    assert series['lr'] == {10: 0.1, 20: 0.1, 30: 0.01, 40: 0.01}
    assert series['coco/bbox_mAP'] == {20: 0.1, 40: 0.3}
    assert series['coco/bbox_mAP_50'] == {40: 0.4}


def test_statistics_of_weights_count_iterations(tmp_path):
    first, second = (f'ba2m_weight_std/backbone.layer{i}.ba2m' for i in (1, 2))
    write(tmp_path, 'a', [train(10, 4.0), val(1, 0.0), train(20, 3.0)])
    lines = [{first: 0.5, second: 0.25, 'step': 14}]
    lines += [{first: 0.75, second: 0.5, 'step': 28}]
    write(tmp_path, 'a', lines, scalar_save_file='ba2m.json')
    # killed after 28, resumed from the checkpoint of 20
    write(tmp_path, 'b', [train(25, 2.0)])
    series = read_scalars(tmp_path)
    assert series[first] == {14: 0.5}
    assert series['loss'] == {10: 4, 20: 3, 25: 2}
    assert series['coco/bbox_mAP'] == {10: 0}
    _, *spread, _ = draw([series], ['a'], ['ba2m_weight_std/*']).axes
    assert [axis.get_ylabel() for axis in spread] == [first, second]
    points = [axis.lines[0].get_xydata().tolist() for axis in spread]
    assert points == [[[14, 0.5]], [[14, 0.25]]]


def test_a_line_cut_off_at_the_end_is_left_out(tmp_path):
    line = train(20, math.nan)
    line |= {'generator.lr': line.pop('lr'), 'critic.lr': 0.3}
    write(tmp_path, 'a', [train(10, 4.0), line])
    with open(tmp_path / 'a/vis_data/scalars.json', 'a') as stream:
        stream.write('{"lr": 0.1, "lo')
    series = read_scalars(tmp_path)
    assert list(series['loss']) == [10, 20]
    assert math.isnan(series['loss'][20])
    # of several optimizers
    labels = [axis.get_ylabel() for axis in draw([series], ['a']).axes]
    assert set(labels) == {'loss', 'lr', 'generator.lr', 'critic.lr'}


def test_each_run_has_its_own_look_in_every_panel(detector, tmp_path):
    lines = [train(10, 2.0), val(1, 50.0, 'accuracy/top1'), train(20, 1.0)]
    write(tmp_path / 'classifier', 'a', lines)
    runs = [read_scalars(detector), read_scalars(tmp_path / 'classifier')]
    figure = draw(runs, ['R-50', 'BA²M'])
    labels = ['loss', 'AP of boxes [0 to 1]', 'AP50 of boxes [0 to 1]']
    labels += ['top-1 accuracy [%]', 'lr']
    assert [axis.get_ylabel() for axis in figure.axes] == labels
    looks = {
        (number, line.get_color(), line.get_linestyle())
        for axis in figure.axes
        for number, line in enumerate(axis.lines)
    }
    assert len(looks) == 2 == len({style for *_, style in looks})
    points = [line.get_xydata().tolist() for line in figure.axes[3].lines]
    assert points == [[], [[10, 50]]]


def test_files_of_each_kind_are_written_or_what_lacks_is_named(
    detector, tmp_path
):
    out = [tmp_path / 'out/curves.png', tmp_path / 'out/curves.pdf']
    text = run_tool(PATH, detector, '--out', *out)
    assert text == f'curves: {out[0]}, {out[1]}\n'
    assert out[0].read_bytes().startswith(b'\x89PNG')
    assert out[1].read_bytes().startswith(b'%PDF')
    for args, message in (
        ([detector, '--labels', 'a', 'b'], '1 work dirs, 2 labels'),
        ([detector, '--metrics', 'nms'], "no run has ['nms'], but ['lr', "),
        ([tmp_path], f'{tmp_path} has no loss'),
    ):
        assert message in run_tool(PATH, *args, '--out', *out, fails=True)
