"""Trains one variant of a study with one seed, and writes its record."""

import json
from pathlib import Path
from statistics import median

import readings  # noqa: F401 (registers what study files name)
from mmengine.config import Config
from mmengine.dataset import pseudo_collate
from mmengine.runner import Runner
from shared_start import draw_shared
from study import ROOT, describe_training

from mmba2m.checkpoints.files import (
    atomic_write,
    save_checkpoint,
    use_safe_loading,
)
from mmba2m.checkpoints.resume import list_checkpoints
from mmba2m.inspect.complexity import count_flops, count_parameters
from mmba2m.inspect.environment import describe_environment
from mmba2m.registry import RUNNERS


def execute(run) -> None:
    """Trains, evaluates and writes the record, from where it was stopped.

    Args:
        run: Of run.py; its ``work_dir`` exists.

    Raises:
        ValueError: If the folder has the beginning of another run, or a
            metric of the study was never logged.
    """
    study, variant, work_dir = run.study, run.variant, run.work_dir
    started = _note_start(work_dir, describe_training(study, variant))
    use_safe_loading()
    resume = bool(list_checkpoints(work_dir))
    start = None if resume else _save_start(run)
    runner = build(run, work_dir, resume=resume, load_from=start)
    model = runner.train()
    names = [metric.name for metric in study.metrics]
    by_step = read_validations(work_dir, names)
    evaluations = {}
    for name in variant.evaluations:
        found = build(
            run,
            work_dir / 'evaluations' / name,
            study.evaluations[name]['options'],
            load_from=str(list_checkpoints(work_dir)[0]),
        ).test()
        evaluations[name] = {name: round(found[name], 6) for name in names}
    record = dict(
        dict(study=study.name, variant=variant.name, seed=run.seed, **started),
        metrics={name: by_step[name][max(by_step[name])] for name in names},
        by_step=by_step,
        evaluations=evaluations,
        cost=dict(
            parameters=count_parameters(model),
            multiply_adds=count_multiply_adds(runner),
            iteration_seconds=median(read_scalars(work_dir, 'time')),
        ),
    )
    run.record.parent.mkdir(parents=True, exist_ok=True)
    _write(run.record, record, indent=1)
    if run.seed != study.keep_seed:
        for path in work_dir.glob('*.pth'):
            path.unlink()


def build(
    run, work_dir: Path, options: dict | None = None, **settings
) -> Runner:
    """Builds the Runner of a run, to write to a folder.

    ``options`` are set by key after those of its variant, ``settings`` in the
    config as they are.
    """
    cfg = Config.fromfile(ROOT / run.variant.config)
    cfg.merge_from_dict({**run.variant.options, **(options or {})})
    cfg.merge_from_dict({'randomness.seed': run.seed})
    # MMEngine names what it logs to by this and the second; two of one name
    # in one process would write to one folder
    name = f'{run.variant.name}_{work_dir.name}'
    cfg.update(work_dir=str(work_dir), experiment_name=name, **settings)
    cfg.setdefault('runner_type', 'mmba2m.Runner')
    return RUNNERS.build(cfg)


def _save_start(run):
    """Saves the weights that the network shares with others, if it does."""
    if not run.study.start:
        return None
    cfg = Config.fromfile(ROOT / run.variant.config)
    cfg.merge_from_dict(run.variant.options)
    other = Config.fromfile(ROOT / run.study.start)
    path = run.work_dir / 'start.pth'
    save_checkpoint(dict(state_dict=draw_shared(cfg, other, run.seed)), path)
    return str(path)


def _note_start(work_dir, training):
    """What the run was started with, also if it goes on with another."""
    path = work_dir / 'started.json'
    if not path.is_file():
        # without the day and the variables of this process
        environment = {
            key: value
            for key, value in describe_environment().items()
            if key != 'date' and not key.isupper()
        }
        _write(path, dict(training, environment=environment))
    started = json.loads(path.read_text(encoding='utf-8'))
    if any(started[key] != value for key, value in training.items()):
        raise ValueError(
            f'{work_dir} has the beginning of another run, with {started}: '
            'delete it'
        )
    return started


def _write(path, content, indent=None):
    text = json.dumps(content, indent=indent, ensure_ascii=False)
    with atomic_write(path) as stream:
        stream.write(text.encode() + b'\n')


def count_multiply_adds(runner: Runner) -> int:
    """Counts those of backbone and neck for the first validation image."""
    model = runner.model.eval()
    batch = pseudo_collate([runner.val_dataloader.dataset[0]])
    images = model.data_preprocessor(batch)['inputs']
    return count_flops(model, lambda: model.extract_feat(images))


def read_scalars(work_dir: Path, name: str) -> list[float]:
    """Reads all values of a scalar from the logs of a training."""
    return [scalars[name] for scalars in _scalars(work_dir) if name in scalars]


def _scalars(work_dir):
    for file in sorted(work_dir.glob('*/vis_data/scalars.json')):
        for line in file.read_text(encoding='utf-8').splitlines():
            if line.endswith('}'):  # or it was killed while it was written
                yield json.loads(line)


def read_validations(
    work_dir: Path, metrics: list[str]
) -> dict[str, dict[int, float]]:
    """Reads the validations of a training, resumed or not, from its logs.

    Returns:
        For each metric its value by epoch (or by iteration, where the
        training counts these).

    Raises:
        ValueError: If a metric was never logged.
    """
    found = {name: {} for name in metrics}
    for scalars in _scalars(work_dir):
        for name in scalars.keys() & found:
            found[name][scalars['step']] = round(scalars[name], 6)
    for name, values in found.items():
        if not values:
            raise ValueError(
                f'{work_dir}: no validation has {name!r}; COCO logs none '
                'where nothing is detected, as after few iterations with a '
                'score_thr in model.test_cfg'
            )
    return {name: dict(sorted(v.items())) for name, v in found.items()}
