import json
import re
from dataclasses import replace
from pathlib import Path

import matplotlib.image as mpimg
import pytest

from mmba2m.inspect.pages import replace_section

ROOT = Path(__file__).parents[3]
RISING = dict(
    plain={0: 80.0, 1: 82.0, 2: 84.0}, ba2m={0: 81.0, 1: 84.0, 2: 87.0}
)


@pytest.fixture
def write(toy):
    """Writes records of the toy study, by variant and seed."""

    def write(variant, values, **changes):
        entry = toy.study['variants'][variant] or {}
        for seed, value in values.items():
            path = toy.record(variant, seed)
            path.parent.mkdir(parents=True, exist_ok=True)
            record = dict(config=str(toy.config), start=str(toy.config))
            record['options'] = entry.get('options', {})
            record['metrics'] = {'accuracy/top1': value}
            record['evaluations'] = {'off': {'accuracy/top1': value - 10}}
            path.write_text(json.dumps({**record, **changes}))

    return write


@pytest.fixture
def report(study_tools, toy):
    """Table and rows of the toy study as it is."""

    def report(**changes):
        study = study_tools['study'].load_study(toy.write(**changes))
        folder = toy.folder / 'results'
        records = study_tools['study'].read_records(folder, study)
        rows = study_tools['report'].collect_rows(study, records)
        return study, rows, study_tools['report'].format_table(study, rows)

    return report


def test_table_by_hand(write, report):
    for variant, values in RISING.items():
        write(variant, values)
    # by seed 1, 2 and 3 more: 2 ± 4.302653 / √3
    assert report(seeds=[0, 1, 2])[2].splitlines() == [
        '| variant | seeds | accuracy, %: mean ± std '
        '| difference, 95 % interval |',
        '| --- | --- | --- | --- |',
        '| plain | 3 | 82.00 ± 2.00 |  |',
        '| BA²M | 3 | 84.00 ± 3.00 | +2.00 (−0.48 to +4.48) |',
        '| BA²M; off | 3 | 74.00 ± 3.00 | −8.00 (−10.48 to −5.52) |',
    ]
    table = report(metrics={'accuracy/top1': {'scale': 0.5}})[2]
    assert '| accuracy/top1: mean ± std |' in table
    assert '| plain | 1 | 40.00 |  |' in table


def test_best_epochs_are_a_switch(write, study_tools, toy, capsys):
    for variant, offset in (('plain', 0), ('ba2m', 3)):
        for seed, best in enumerate((70.0, 90.0, 74.0)):
            steps = {'1': best + offset, '2': 50.0}
            by_step = {'accuracy/top1': steps}
            write(variant, {seed: 50.0}, by_step=by_step)
    report = study_tools['report']
    args = [str(toy.write(seeds=[0, 1, 2])), '--best-epoch']
    args += ['--results', str(toy.folder / 'results')]
    report.main(args)
    lines = capsys.readouterr().out.splitlines()
    assert '| accuracy, %: median of the best epochs |' in lines[2]
    # another seed is the median than the mean; evaluations are of the last
    assert lines[4:7] == [
        '| plain | 3 | 74.00 |  |',
        '| BA²M | 3 | 77.00 | +3.00 (+3.00 to +3.00) |',
        '| BA²M; off | 3 | 40.00 | −38.00 (−64.29 to −11.71) |',
    ]
    with pytest.raises(SystemExit):
        report.main([*args, '--page', 'docs/study.md'])


def test_table_says_what_is_missing(write, report):
    assert '| BA²M | 0 of 3 | – | – |' in report(seeds=[0, 1, 2])[2]
    write('ba2m', {1: 81.0, 2: 82.0})
    write('plain', {0: 80.0, 2: 81.0})
    lines = report(seeds=[0, 1, 2])[2].splitlines()
    assert lines[2:4] == [
        '| plain | 2 of 3 | 80.50 ± 0.71 |  |',
        '| BA²M | 2 of 3 | 81.50 ± 0.71 | +1.00 (1 seed) |',
    ]
    write('ba2m', {0: 1.0}, options={'lr': 3})
    with pytest.raises(ValueError, match="'ba2m', seed 0, is of another"):
        report()


def test_figure_has_every_seed(write, report, study_tools, tmp_path):
    draw = study_tools['figure'].draw
    study, rows, _ = report()
    assert draw(study.metrics, rows, tmp_path / 'none') is None
    for variant, values in RISING.items():
        write(variant, values)
    study, rows, _ = report(seeds=[0, 1, 2])
    left, right = draw(study.metrics, rows, tmp_path / 'figure.png').axes

    def dots(axes):
        return [
            sorted(line.get_xdata())
            for line in axes.lines
            if line.get_marker() == 'o'
        ]

    assert dots(left) == [[80, 82, 84], [81, 84, 87], [71, 74, 77]]
    assert dots(right) == [[1, 2, 3], [-9, -8, -7]]
    assert left.get_xlabel() == 'accuracy, %'
    assert right.get_xlabel() == 'difference of accuracy,\npercentage points'
    labels = [text.get_text() for text in left.get_yticklabels()]
    assert labels == ['plain', 'BA²M', 'BA²M; off']
    # half a row above the first and below the last, which the frame would cut
    assert left.get_ylim() == right.get_ylim() == (2.5, -0.5)
    image = mpimg.imread(tmp_path / 'figure.png')[..., :3]
    assert image.std() > 0.05  # there is something
    # readable in grey: it is grey
    assert abs(image - image.mean(-1, keepdims=True)).max() < 0.02


def test_figure_tells_of_what_is_far_away(
    write, report, study_tools, tmp_path
):
    write('plain', {0: 80.0, 1: 82.0})
    write('ba2m', {0: 81.0, 1: 83.0})
    study, rows, _ = report(seeds=[0, 1])
    rows[2].values['accuracy/top1'] = {0: 10.0, 1: 11.0}
    # and what has failed in training
    failed = replace(rows[1], values={'accuracy/top1': {0: 20.0, 1: 22.0}})
    tested, other = (
        study_tools['figure']
        .draw(study.metrics, drawn, tmp_path / 'out.png')
        .axes
        for drawn in (rows, [rows[0], failed, rows[1]])
    )
    # all others, with a margin of a twentieth
    assert tested[0].get_xlim() == pytest.approx((79.85, 83.15))
    assert [
        [text.get_text() for text in axes.texts] for axes in tested + other
    ] == [['← 10.5'], ['← −70.5'], ['← 21.0'], ['← −60.0']]
    # compared with one that has failed, too
    values = {'accuracy/top1': {0: 21.0, 1: 24.0}}
    again = replace(failed, values=values, reference=failed.values)
    drawn = [*rows[:2] * 2, failed, again]
    draw = study_tools['figure'].draw
    left, right = draw(study.metrics, drawn, tmp_path / 'out.png').axes
    assert [text.get_text() for text in left.texts] == ['← 21.0', '← 22.5']
    assert [text.get_text() for text in right.texts] == ['← −60.0']
    dots = [line for line in right.lines if line.get_marker() == 'o']
    assert sorted(dots[-1].get_xdata()) == [1, 2]


def test_a_step_on_a_busy_or_faster_machine_does_not_count(write, report):
    for variant, more, seconds in (
        ('plain', 0, [9.0, 1.0, 2.0]),
        ('ba2m', 5, [3.0, 2.4, 0.9]),
    ):
        for seed, time in enumerate(seconds):
            cost = dict(parameters=100 + more, multiply_adds=2e6 * (1 + more))
            cost['iteration_seconds'] = time
            write(variant, {seed: 80.0}, cost=cost)
    rows = report(seeds=[0, 1, 2])[2].splitlines()
    assert rows[2].endswith('|  | 100 | 2.0 | 1 |')
    assert rows[3].endswith('| +5 | +10.0 | 1.20 × |')
    for seed in range(3):  # an old record: nothing to compare with
        write('plain', {seed: 80.0})
    assert 'parameters' not in report(seeds=[0, 1, 2])[2]


def test_chance_is_told_where_the_spread_is_known(write, report, study_tools):
    format_chance = study_tools['report'].format_chance
    for variant, values in RISING.items():
        write(variant, values)
    study, rows, _ = report(seeds=[0, 1, 2])
    assert format_chance(study, rows) == ''  # of four degrees of freedom
    for variant, step in (('plain', 1.0), ('ba2m', 3.0)):
        write(variant, {seed: 80 + step * seed for seed in range(6)})
    study, rows, _ = report(seeds=[*range(6)])
    # variances 3.5 and 31.5; t of ten degrees is 2.228139
    assert format_chance(study, rows) == (
        'The rows together: one run has a standard deviation of 4.18 '
        '(accuracy; 10 degrees of freedom). So by chance alone two means of '
        '6 seeds differ by up to 5.38 in 95 % of cases.'
    )
    names = ['a'], ['a', 'b'], ['a', 'b', 'c']
    join = study_tools['report']._enumerate
    assert [*map(join, names)] == ['a', 'a and b', 'a, b and c']


def test_findings_are_beyond_plain_and_its_repetition(
    write, report, study_tools, toy
):
    again = {'model.backbone.ba2m_stages': [False] * 4}
    toy.study['variants']['plain_again'] = {'options': again}
    toy.study['variants']['se'] = {'label': 'SE', 'options': again}

    def find():
        study, rows, _ = report(seeds=[0, 1, 2])
        return study_tools['report'].format_findings(study, rows)

    write('plain', {0: 80.0, 1: 82.0, 2: 84.0})
    assert find() == ''
    write('plain_again', {0: 81.0, 1: 82.0, 2: 83.3})
    write('ba2m', {0: 85.0, 1: 87.1, 2: 89.0})
    # better by 2.17 ± 0.72 than plain, by 2.07 ± 2.74 than its repetition
    write('se', {0: 82.0, 1: 84.0, 2: 86.5})
    assert find().endswith('to the reference): accuracy: BA²M +5.03.')
    write('plain_again', {0: 90.0, 1: 92.0, 2: 94.0})  # other sides
    assert find().endswith('to the reference): accuracy: none.')


def test_page_gets_the_table_between_its_lines(
    toy, write, study_tools, capsys
):
    write('plain', {0: 80.0})
    page = toy.folder / 'page.md'
    before = '# Title\n\n<!-- study: other -->\n\nx\n\n<!-- until here -->\n\n'
    own = '<!-- study: toy -->\nold\n<!-- until here -->\nend\n'
    page.write_text(before + own)
    args = [str(toy.write()), '--results', str(toy.folder / 'results')]
    args += ['--page', str(page)]
    for _ in range(2):  # the second time there is nothing to change
        study_tools['report'].main(args)
        text = page.read_text(encoding='utf-8')
        assert text.startswith(before + '<!-- study: toy -->\n\n| variant |')
        assert '| plain | 1 | 80.00 |  |' in text
        assert text.endswith(
            '|\n\n![A toy: each seed](results/toy/figure.png)\n\n'
            '<!-- until here -->\nend\n'
        )
        assert 'old' not in text
    assert 'figure.png' in capsys.readouterr().out
    page.write_text('nothing')
    with pytest.raises(ValueError, match=r'the page has no .*study: toy'):
        study_tools['report'].main(args)


def test_published_tables_are_those_of_the_records(study_tools):
    """If not: see docs/study.md on how to write them."""
    module, report = study_tools['study'], study_tools['report']
    folder = ROOT / 'docs/studies'
    published = []
    for path in (ROOT / 'docs').glob('*.md'):
        page = path.read_text(encoding='utf-8')
        for name in re.findall('<!-- study: (.+) -->', page):
            published.append(name)
            study = module.load_study(ROOT / f'configs/studies/{name}.yml')
            records = module.read_records(folder, study)
            rows = report.collect_rows(study, records)
            section = report.format_section(study, rows, f'studies/{name}')
            begin = f'<!-- study: {name} -->'
            assert page == replace_section(page, begin, section)
            figure = folder / name / 'figure.png'
            assert figure.is_file() == any(records.values())
    assert len({*published}) == len(published) > 3
