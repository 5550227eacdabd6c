import json
import math
import runpy
import sys
from pathlib import Path

import pytest
from mmengine.visualization import LocalVisBackend

TOOL = Path(__file__).parents[2] / 'tools/analysis_tools/curves.py'
curves = runpy.run_path(str(TOOL))
read_scalars, draw = curves['read_scalars'], curves['draw']


def write(work_dir, run, lines):
    """Writes scalars as MMEngine does."""
    backend = LocalVisBackend(str(work_dir / run / 'vis_data'))
    for line in lines:
        backend.add_scalars(line, step=line.pop('step'))


def train(iteration, loss, lr=0.1, **more):
    tags = dict(lr=lr, data_time=0.1, loss=loss, time=0.2, iter=iteration)
    return dict(tags, memory=5, step=iteration, **more)


def val(epoch, **metrics):
    metrics = {name.replace('__', '/'): v for name, v in metrics.items()}
    return dict(metrics, data_time=0.1, time=0.2, step=epoch)


@pytest.fixture
def detector(tmp_path):
    work_dir = tmp_path / 'detector'
    first = [train(10, 4.0), train(20, 3.0), val(1, coco__bbox_mAP=0.1)]
    # killed in the second epoch, resumed from the first one's checkpoint
    first += [train(32, 9.0), train(43, 9.0), val(2, coco__bbox_mAP=0.9)]
    second = [train(30, 2.0, 0.01), train(40, 1.0, 0.01)]
    second += [val(2, coco__bbox_mAP=0.2, coco__bbox_mAP_50=0.4)]
    write(work_dir, '20250101_000000', first)
    write(work_dir, '20250102_000000', second)
    return work_dir


def test_a_resumed_training_is_one_curve(detector):
    series = read_scalars(detector)
    assert series['loss'] == {10: 4, 20: 3, 30: 2, 40: 1}
    assert list(series['loss']) == [10, 20, 30, 40]
    assert series['lr'] == {10: 0.1, 20: 0.1, 30: 0.01, 40: 0.01}
    assert series['coco/bbox_mAP'] == {20: 0.1, 40: 0.2}
    assert series['coco/bbox_mAP_50'] == {40: 0.4}
    assert not {'time', 'data_time', 'memory', 'step', 'iter'} & {*series}


def test_statistics_of_weights_are_no_metrics_and_count_iterations(tmp_path):
    first, second = (f'ba2m_weight_std/backbone.layer{i}.ba2m' for i in (1, 2))
    lines = [train(10, 4.0), val(1, coco__bbox_mAP=0.0), train(20, 3.0)]
    write(tmp_path, 'a', lines)
    backend = LocalVisBackend(
        str(tmp_path / 'a/vis_data'), scalar_save_file='ba2m.json'
    )
    backend.add_scalars({first: 0.5, second: 0.25}, step=14)
    backend.add_scalars({first: 0.75, second: 0.5}, step=28)
    # killed after 28, resumed from the checkpoint of 20
    write(tmp_path, 'b', [train(25, 2.0)])
    series = read_scalars(tmp_path)
    assert series[first] == {14: 0.5}
    assert series['loss'] == {10: 4, 20: 3, 25: 2}
    assert series['coco/bbox_mAP'] == {10: 0}
    assert list(curves['choose_metrics']([series])) == [
        'average precision [0 to 1]'
    ]
    figure = draw([series], ['a'], ['ba2m_weight_std/*'])
    loss, spread, _ = figure.axes
    assert spread.get_ylabel() == 'ba2m_weight_std'
    points = [line.get_xydata().tolist() for line in spread.lines]
    assert points == [[[14, 0.5]], [[14, 0.25]]]
    assert [text.get_text() for text in spread.get_legend().get_texts()] == [
        'backbone.layer1.ba2m',
        'backbone.layer2.ba2m',
    ]
    assert loss.lines[0].get_xydata().tolist() == [[10, 4], [20, 3], [25, 2]]


def test_names_with_their_loop_are_read_without_it(tmp_path):
    line = train(10, 4.0)
    for name in ('loss', 'lr'):
        line[f'train/{name}'] = line.pop(name)
    write(tmp_path, 'a', [line, {'val/accuracy/top1': 60.0, 'step': 1}])
    series = read_scalars(tmp_path)
    assert series['loss'] == {10: 4}
    assert series['accuracy/top1'] == {10: 60}


def test_a_line_cut_off_at_the_end_is_left_out_elsewhere_it_fails(tmp_path):
    write(tmp_path, 'a', [train(10, 4.0), train(20, math.nan)])
    file = tmp_path / 'a/vis_data/scalars.json'
    whole = file.read_text()
    file.write_text(whole + '{"lr": 0.1, "lo')
    series = read_scalars(tmp_path)
    assert list(series['loss']) == [10, 20]
    assert math.isnan(series['loss'][20])
    file.write_text('{"lr": 0.1, "lo\n' + whole)
    with pytest.raises(ValueError, match=r'scalars\.json, line 1: '):
        read_scalars(tmp_path)


@pytest.mark.parametrize('lines', [None, [], [val(1, coco__bbox_mAP=0.1)]])
def test_a_folder_without_training_is_named(tmp_path, lines):
    if lines is not None:
        (tmp_path / 'a/vis_data').mkdir(parents=True)
        (tmp_path / 'a/vis_data/scalars.json').touch()
        write(tmp_path, 'a', [dict(line) for line in lines])
    error = FileNotFoundError if lines is None else ValueError
    with pytest.raises(error, match=f'{tmp_path} has no'):
        read_scalars(tmp_path)


def test_smoothing_is_a_weighted_mean_of_all_before():
    values = [3.0, 1.0, math.nan, 4.0]
    weight = 0.75
    expected = [
        3,
        (weight * 3 + 1) / (weight + 1),
        (weight * 3 + 1) / (weight + 1),
        (weight**2 * 3 + weight * 1 + 4) / (weight**2 + weight + 1),
    ]
    assert curves['smooth'](values, weight) == pytest.approx(expected)
    assert curves['smooth']([1.0, 5.0], 0) == [1, 5]


def test_each_run_has_its_own_look_in_every_panel(detector, tmp_path):
    write(
        tmp_path / 'classifier',
        'a',
        [train(10, 2.0), val(1, accuracy__top1=50.0), train(20, 1.0)],
    )
    runs = [read_scalars(detector), read_scalars(tmp_path / 'classifier')]
    figure = draw(runs, ['R-50', 'BA²M'], weight=0.5)
    loss, ap, accuracy, rate = figure.axes
    labels = [axis.get_ylabel() for axis in figure.axes]
    assert labels == [
        'training loss, smoothed by 0.5',
        'average precision [0 to 1]',
        'top 1: accuracy [%]',
        'learning rate',
    ]
    assert {axis.get_xlabel() for axis in figure.axes} == {'iteration'}
    raw, smoothed, other_raw, other = loss.lines
    assert raw.get_ydata().tolist() == [4, 3, 2, 1]
    assert smoothed.get_ydata()[1] == pytest.approx((0.5 * 4 + 3) / 1.5)
    assert raw.get_alpha() < 0.5 and not smoothed.get_alpha()
    assert smoothed.get_linestyle() != other.get_linestyle()
    assert [line.get_linestyle() for line in rate.lines] == [
        smoothed.get_linestyle(),
        other.get_linestyle(),
    ]
    # AP and AP50 of the one run differ by their markers
    assert len({line.get_marker() for line in ap.lines}) == 2
    assert accuracy.lines[0].get_xydata().tolist() == [[10, 50]]
    assert accuracy.lines[0].get_linestyle() == other_raw.get_linestyle()
    (legend,) = figure.legends
    assert [text.get_text() for text in legend.get_texts()] == ['R-50', 'BA²M']


def test_of_one_run_colours_tell_its_scalars_apart(detector):
    _, ap, *_ = draw([read_scalars(detector)], ['R-50']).axes
    colours = [line.get_color() for line in ap.lines]
    assert len(set(colours)) == 2
    shown = ap.get_legend().get_lines()
    assert [line.get_color() for line in shown] == colours


def test_rates_of_several_groups_and_optimizers(tmp_path):
    lines = [train(10, 4.0, base_lr=0.1), train(20, 3.0, base_lr=0.2)]
    write(tmp_path, 'a', lines)
    write(tmp_path / 'b', 'b', [train(10, 4.0, base_lr=0.1)])
    line = train(10, 4.0)
    rate = line.pop('lr')
    line |= {'generator.lr': rate, 'generator.base_lr': rate}
    write(tmp_path / 'c', 'c', [dict(line, **{'critic.lr': 0.3})])
    choose = curves['choose_rates']
    assert list(choose([read_scalars(tmp_path)])) == ['lr', 'base_lr']
    assert list(choose([read_scalars(tmp_path / 'b')])) == ['lr']
    assert list(choose([read_scalars(tmp_path / 'c')])) == [
        'generator.lr',
        'critic.lr',
    ]


def run_main(monkeypatch, *args):
    monkeypatch.setattr(sys, 'argv', ['curves.py', *map(str, args)])
    curves['main']()


def test_files_of_each_kind_are_written(detector, tmp_path, monkeypatch):
    out = [tmp_path / 'out/curves.png', tmp_path / 'out/curves.pdf']
    run_main(monkeypatch, detector, '--out', *out, '--smooth', 0.9)
    assert out[0].read_bytes().startswith(b'\x89PNG')
    assert out[1].read_bytes().startswith(b'%PDF')


def test_bad_options_are_named(detector, tmp_path, monkeypatch, capsys):
    out = ['--out', tmp_path / 'c.png']
    for options, message in (
        (['--labels', 'a', 'b'], '1 work dirs, 2 labels'),
        (['--smooth', '1'], r'--smooth must be in [0, 1), got 1.0'),
    ):
        with pytest.raises(SystemExit):
            run_main(monkeypatch, detector, *out, *options)
        assert message in capsys.readouterr().err
    with pytest.raises(ValueError, match='no run has nms, but lr, loss'):
        run_main(monkeypatch, detector, *out, '--metrics', 'nms')


def test_runs_in_folders_of_one_name_keep_their_paths(
    detector, tmp_path, monkeypatch
):
    other = tmp_path / 'x/detector'
    write(other, 'a', [train(10, 4.0)])
    seen = {}

    def keep(runs, labels, *args):
        seen.update(zip(labels, runs, strict=True))
        return draw(runs, labels, *args)

    monkeypatch.setitem(curves['main'].__globals__, 'draw', keep)
    run_main(monkeypatch, detector, other, '--out', tmp_path / 'c.png')
    assert [*seen] == [str(detector), str(other)]
    assert json.dumps(seen[str(other)]['loss']) == '{"10": 4.0}'
