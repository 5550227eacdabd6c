"""Says which attention module helps on data of one's own, and how surely.

For a detector or classifier config without attention it trains the network
as it is, the same again with a learning rate 0.001 % larger, which is what
chance makes, and the network with each of the modules; the same starting
weights and images for all, several seeds. It can be stopped, and the same
command goes on. It ends with table.md and figure.png in its folder.
"""

import argparse
import inspect
import os
import sys
from copy import deepcopy
from pathlib import Path

if 'OMP_WAIT_POLICY' not in os.environ:  # before torch loads
    os.environ.setdefault('GOMP_SPINCOUNT', '1000')

import report
import run
import yaml
from comparison import compare, summarise
from figure import MINUS
from mmengine.config import Config, DictAction
from plan import plan, shorten, time_run, visible_effect
from study import load_study, read_records

import mmba2m  # noqa: F401 (registers what configs name)
from mmba2m.config_files import merge_options, read_config
from mmba2m.data_checks import check_data
from mmba2m.inspect.complexity import build_on_meta
from mmba2m.models.attentions.names import find_attention, list_attentions
from mmba2m.models.backbones.slots import AttentionMixin

MODULES = ['BA2M', 'SE', 'ECA', 'CBAM', 'GC']
#: the first metric of an evaluator, and how it is shown
METRICS = dict(
    CocoMetric=('coco/bbox_mAP', dict(label='AP, %', scale=100)),
    VOCMetric=('pascal_voc/mAP', dict(label='mAP, %', scale=100)),
    Accuracy=('accuracy/top1', dict(label='accuracy, %')),
)


def parse_args(argv: list[str] | None = None) -> argparse.Namespace:
    kind = argparse.RawDescriptionHelpFormatter
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=kind)
    add = parser.add_argument
    add('config', type=Path, help='config of the network without attention')
    text = f'attention modules, or all; {" ".join(MODULES)} by default'
    add('--modules', nargs='+', default=MODULES, help=text)
    add('--seeds', type=int, default=3, help='3 by default')
    add('--jobs', type=int, default=1, help='runs at a time, 1 by default')
    text = 'plan seeds (3 to 5) and length of the schedule to fit'
    add('--budget', type=float, metavar='HOURS', help=text)
    add('--metric', help='as in the log; by default that of the evaluator')
    text = 'by default work_dirs/try_attention/ and the name of the config'
    add('--work-dir', type=Path, help=text)
    text = 'settings that override the config'
    add('--cfg-options', nargs='+', action=DictAction, default={}, help=text)
    return parser.parse_args(argv)


def find_metric(cfg: Config, name: str | None) -> dict:
    """Finds the metric to compare by.

    Raises:
        ValueError: If there is no name, and none for the config's evaluator.
    """
    evaluators = cfg.get('val_evaluator') or []
    if isinstance(evaluators, dict):
        evaluators = [evaluators]
    types = [str(cfg['type']).rpartition('.')[2] for cfg in evaluators]
    known = [METRICS[type_] for type_ in types if type_ in METRICS]
    if name is None and not known:
        raise ValueError(
            f'no metric is known for the evaluators {types}: name one with '
            '--metric, as it stands in the log of a validation'
        )
    chosen, shown = known[0] if known else (name, {})
    return {name: {}} if name not in (None, chosen) else {chosen: shown}


def make_variant(cfg: Config, name: str) -> dict:
    """Makes what a study has for the network with a module.

    Raises:
        ValueError, TypeError: If the module does not fit the backbone.
    """
    cls = find_attention(name)
    backbone = build_on_meta(cfg).backbone
    slot = 'model.backbone.attention'
    options = {
        'model.backbone.type': 'mmba2m.AttentionBackbone',
        'model.backbone.base': cfg.model.backbone.type,
        f'{slot}.type': name,
    }
    frozen = getattr(backbone, 'frozen_stages', -1)
    if frozen > 0 and getattr(cls, 'positions', [''])[0] != 'after_stage':
        # within a frozen stage it would stay as it was drawn
        count = len(AttentionMixin._stages(backbone))
        options[f'{slot}.stages'] = [i >= frozen for i in range(count)]
    if (
        getattr(backbone, 'norm_eval', False)
        and 'norm_cfg' in inspect.signature(cls).parameters
        and not hasattr(cls, 'frozen_norm_cfg')
    ):  # a batch norm would keep its initial statistics
        options[f'{slot}.norm_cfg.type'] = 'mmba2m.RunningBN'
    changed = deepcopy(cfg)
    changed.merge_from_dict(options)
    build_on_meta(changed)
    return dict(label=name, options=options)


def make_study(args: argparse.Namespace, cfg: Config, config: Path) -> dict:
    """Makes the content of a study file.

    Args:
        args: Of the command line.
        cfg: What the config says.
        config: The file that the study is to name.

    Raises:
        ValueError: If the config has attention already, or nothing fits.
    """
    if any(key in cfg.model.backbone for key in ('attention', 'ba2m_cfg')):
        raise ValueError(
            f'{args.config} has attention already; name the plain config'
        )
    lr = cfg.optim_wrapper.optimizer.lr
    variants = dict(
        plain=dict(label='plain'),
        plain_again=dict(
            label='plain again',
            options={'optim_wrapper.optimizer.lr': lr * (1 + 1e-5)},
        ),
    )
    names = list_attentions() if args.modules == ['all'] else args.modules
    for name in names:
        try:
            variants[name] = make_variant(cfg, name)
        except (TypeError, ValueError) as error:
            if args.modules != ['all']:
                raise ValueError(f'{name} does not fit: {error}') from None
            print(f'left out, as it does not fit: {name}: {error}')
    if len(variants) == 2:
        raise ValueError('none of the modules fits')
    return dict(
        title=f'Attention modules in {args.config.stem}',
        config=str(config),
        # weights that the config loads are the same for all anyway
        start=None if cfg.get('load_from') else str(config),
        metrics=find_metric(cfg, args.metric),
        seeds=list(range(args.seeds)),
        reference='plain',
        variants=variants,
    )


def write_study(study: dict, cfg: Config, path: Path) -> None:
    """Writes a study file beside the config that it names.

    Raises:
        ValueError: If the runs there have begun with another config.
    """
    config = Path(study['config'])
    config.parent.mkdir(parents=True, exist_ok=True)
    if config.is_file() and config.read_text('utf-8') != cfg.pretty_text:
        raise ValueError(
            f'{path} has changed since {config.parent} was begun: name '
            'another --work-dir, or remove that one'
        )
    config.write_text(cfg.pretty_text, encoding='utf-8')
    text = yaml.safe_dump(study, sort_keys=False)
    config.with_name('study.yml').write_text(text, encoding='utf-8')


def conclude(row: report.Row, again: report.Row, metric: str) -> str:
    """Says in one sentence what the runs say about a module."""
    values, plain = row.values[metric], row.reference[metric]
    compared = compare(values, plain)
    if compared is None:
        return f'{row.label}: not trained.'
    mean, half, differences = compared
    if half is None or len(differences) < 3:
        return f'{row.label}: fewer than three seeds say nothing.'
    if again.values[metric] == plain:
        return (
            f'{row.label}: nothing can be said, as plain again is plain to '
            'the last digit: train longer.'
        )
    numbers = report.format_difference(values, plain)
    if abs(mean) <= half:
        text = f'no difference can be seen, {numbers}'
        return (
            f'{row.label}: {text}; one of less than {half:.2f} could not be '
            f'with {len(values)} seeds.'
        )
    side = 'better' if mean > 0 else 'worse'
    text = f'{side} than plain by {numbers}'
    second = compare(values, again.values[metric])
    if second is None or second[1] is None or abs(second[0]) <= second[1]:
        return (
            f'{row.label}: {text}, but not beyond doubt than plain trained '
            'again: take it for chance until more seeds say the same.'
        )
    return f'{row.label}: {text}, and than plain trained again.'


def summarise_study(path: Path, records: Path, out: Path) -> str:
    """Writes table.md and figure.png, and returns the table's text."""
    study = load_study(path)
    rows = report.collect_rows(study, read_records(records, study))
    report.draw(study.metrics, rows, out / 'figure.png')
    _, again, *modules = rows
    metric = study.metrics[0].name
    lines = [f'# {study.title}', '', report.format_table(study, rows), '']
    compared = compare(again.values[metric], again.reference[metric])
    spread = compared and summarise(compared[2])[1]
    if spread:  # of several seeds, and not all the same
        needed = visible_effect(len(compared[2])) * spread
        lines += [
            f'Chance alone makes differences of ±{spread:.2f} between two '
            'trainings of one seed (one standard deviation): an effect must '
            f'be beyond {MINUS}{needed:.2f} to {needed:.2f} to be seen. One '
            'in twenty intervals misses its value, and all share the luck of '
            'the plain runs.',
            '',
        ]
    lines += [f'- {conclude(row, again, metric)}' for row in modules]
    text = '\n'.join([*lines, '', '![each seed](figure.png)', ''])
    (out / 'table.md').write_text(text, encoding='utf-8')
    return text


def main(argv: list[str] | None = None) -> int:
    args = parse_args(argv)
    cfg = read_config(args.config)
    merge_options(cfg, args.cfg_options)
    if 'max_epochs' not in cfg.train_cfg and args.budget:
        raise ValueError('--budget plans schedules in epochs alone')
    check_data(cfg, ('train_dataloader', 'val_dataloader'))
    out = args.work_dir or Path('work_dirs/try_attention', args.config.stem)
    out = out.resolve()
    path, config = out / 'study.yml', out / 'config.py'
    study = make_study(args, cfg, config)
    if args.budget and not path.is_file():
        hours = time_run(cfg, out / 'time') / 3600
        count = len(study['variants'])
        args.seeds, share = plan(1.2 * hours, count, args.jobs, args.budget)
        shorten(cfg, share)
        study['seeds'] = list(range(args.seeds))
        print(
            f'A plain run takes about {60 * hours:.1f} min. Planned: '
            f'{args.seeds} seeds, {cfg.train_cfg.max_epochs} epochs. An '
            f'effect is seen beyond {visible_effect(args.seeds):.1f} times '
            'the standard deviation of what chance makes.'
        )
    elif args.budget:
        print('Planned before; the same seeds and schedule go on.')
    if not args.budget or not path.is_file():
        write_study(study, cfg, args.config)
    records = out / 'records'
    argv = [str(path), '--results', str(records), '--jobs', str(args.jobs)]
    argv += ['--work-dir', str(out / 'runs')]
    # what plain cannot do, none can
    failed = run.main([*argv, '--variant', 'plain']) or run.main(argv)
    print(summarise_study(path, records, out))
    print(f'written: {out}/table.md and figure.png')
    return failed


if __name__ == '__main__':
    try:
        sys.exit(main())
    except (FileNotFoundError, ValueError) as error:
        sys.exit(f'error: {error}')
