"""Fixtures of the engine, whose toys stand beside this file."""

from pathlib import Path

import pytest
from mmengine.registry import RUNNERS
from toy_training import EPOCH, SGD, make_loader, train

from mmba2m.checkpoints import files
from mmba2m.engine.runner import Runner


@pytest.fixture
def assert_resumes(tmp_path, assert_same_checkpoints):
    """Compares a whole run, bit for bit, with one stopped here and there."""

    def compare(*stops, workers=({},), loader=None, **settings):
        for i, stop in enumerate([*stops, None]):
            own = dict(loader or {}, **workers[i % len(workers)])
            train(tmp_path / 'parts', stop, loader=own, **settings)
        by_iter = (tmp_path / 'parts/iter_1.pth').exists()
        last = f'iter_{3 * EPOCH}.pth' if by_iter else 'epoch_3.pth'
        parts = tmp_path / 'parts' / last
        # also where the first part has drawn it
        seed = files.load_checkpoint(parts)['meta']['seed']
        settings['randomness'] = dict(
            settings.get('randomness', {}), seed=seed
        )
        own = dict(loader or {}, **workers[0])
        train(tmp_path / 'whole', loader=own, **settings)
        assert_same_checkpoints(tmp_path / 'whole' / last, parts)

    return compare


@pytest.fixture
def run(tmp_path, monkeypatch):
    """Builds a runner as launchers do; ``reads`` has what it has read."""
    safe_load = files.safe_load

    def note(path, where):
        build.reads.append(Path(path).name)
        return safe_load(path, where)

    monkeypatch.setattr(files, 'safe_load', note)

    def build(shape=(1,), **changes):
        build.reads.clear()
        loader = make_loader(dict(type='EngineTestData', shape=shape))
        settings = dict(
            runner_type='mmba2m.Runner',
            work_dir=str(tmp_path),
            train_dataloader=loader,
            train_cfg=dict(by_epoch=True, max_epochs=2),
            optim_wrapper=SGD,
            test_dataloader=loader,
            test_cfg=dict(),
            test_evaluator=dict(
                type='EngineTestScores', scores=[dict(score=1)]
            ),
            default_scope='mmengine',
            experiment_name=f'{tmp_path.name}_{len(list(tmp_path.iterdir()))}',
        )
        runner = RUNNERS.build(dict(settings, **changes))
        assert type(runner) is Runner
        return runner

    build.reads = []
    return build
