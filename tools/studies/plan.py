"""How many seeds, and how long a schedule, fit into a time."""

import math
import time
from copy import deepcopy
from pathlib import Path
from statistics import median

from mmengine.config import Config
from scipy.stats import t

from mmba2m.registry import RUNNERS

SHORTEST = 0.25  #: share of the schedule that a budget may leave


def time_run(cfg: Config, work_dir: Path) -> float:
    """Measures the seconds of a whole plain run, from a few iterations."""
    cfg = deepcopy(cfg)  # the Runner completes it
    cfg.update(work_dir=str(work_dir), experiment_name='time', load_from=None)
    cfg.setdefault('runner_type', 'mmba2m.Runner')
    runner = RUNNERS.build(cfg)
    train, val = (
        runner.build_dataloader(loader)
        for loader in (cfg.train_dataloader, cfg.val_dataloader)
    )
    runner.optim_wrapper = runner.build_optim_wrapper(cfg.optim_wrapper)
    model = runner.model.train()
    step = _time(train, lambda b: model.train_step(b, runner.optim_wrapper))
    model.eval()
    validation = len(val) * _time(val, model.val_step)
    epochs = cfg.train_cfg.max_epochs
    validations = math.ceil(epochs / cfg.train_cfg.get('val_interval', 1))
    return epochs * len(train) * step + validations * validation


def _time(loader, call, count=10):
    seconds = []
    for _, batch in zip(range(count), loader, strict=False):
        start = time.perf_counter()
        call(batch)
        seconds.append(time.perf_counter() - start)
    return median(seconds[2:] or seconds)


def plan(run_hours: float, variants: int, jobs: int, budget: float):
    """Plans what fits: the seeds, and the share of the schedule.

    Raises:
        ValueError: If not even the shortest schedule fits with 3 seeds.
    """
    for seeds in (5, 4, 3):
        share = budget * jobs / (run_hours * variants * seeds)
        if share >= 1:
            return seeds, 1.0
    if share < SHORTEST:
        raise ValueError(
            f'{variants} variants with 3 seeds and {SHORTEST:.0%} of the '
            f'schedule take {budget * SHORTEST / share:.1f} hours: name fewer '
            'modules, or a larger budget'
        )
    return 3, share


def shorten(cfg: Config, share: float) -> None:
    """Shortens a schedule by epochs, with all that it says in epochs."""
    whole = cfg.train_cfg.max_epochs
    epochs = max(1, round(share * whole))
    cfg.train_cfg.max_epochs = epochs
    cfg.train_cfg.val_interval = min(
        epochs, cfg.train_cfg.get('val_interval', 1)
    )
    schedulers = cfg.get('param_scheduler') or []
    for scheduler in (
        [schedulers] if isinstance(schedulers, dict) else schedulers
    ):
        if not scheduler.get('by_epoch', True):
            continue
        for key in ('begin', 'end', 'T_max', 'milestones'):
            value = scheduler.get(key)
            if isinstance(value, (list, tuple)):
                scheduler[key] = [max(1, round(share * x)) for x in value]
            elif value:
                scheduler[key] = max(1, round(share * value))


def visible_effect(seeds: int) -> float:
    """The effect that an interval leaves 0 out for, in deviations.

    In standard deviations of the difference between two runs of one seed.
    """
    return float(t.ppf(0.975, seeds - 1)) / math.sqrt(seeds)
