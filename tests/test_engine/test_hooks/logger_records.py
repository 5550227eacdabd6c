"""What BA2MLoggerHook makes of a network, and what it has written."""

import json
from types import SimpleNamespace

import torch
from mmengine.visualization import Visualizer
from tensorboard.backend.event_processing.event_accumulator import (
    EventAccumulator,
)
from torch import nn

from mmba2m.engine.hooks import BA2MLoggerHook
from mmba2m.models.attentions.ba2m import BA2M


def backends_of(*names):
    return [dict(type=f'{name}VisBackend') for name in names]


def lines_of(work_dir, name='ba2m.json'):
    return [
        json.loads(line)
        for path in sorted(work_dir.glob(f'*/vis_data/{name}'))
        for line in path.read_text().splitlines()
    ]


def read_events(work_dir):
    """Scalars and histograms of TensorBoard, by tag and step."""
    scalars, histograms = {}, {}
    for path in sorted(work_dir.rglob('events.out.tfevents.*')):
        events = EventAccumulator(str(path), size_guidance=dict(histograms=0))
        tags = events.Reload().Tags()
        for tag in tags['scalars']:
            found = {event.step: event.value for event in events.Scalars(tag)}
            scalars.setdefault(tag, {}).update(found)
        for tag in tags['histograms']:
            found = {
                event.step: event.histogram_value
                for event in events.Histograms(tag)
            }
            histograms.setdefault(tag, {}).update(found)
    return scalars, histograms


def record(model, x, folder, backends=None, forward=None, cfg=None):
    """One iteration; returns the line of ba2m.json."""
    warnings = []
    runner = SimpleNamespace(
        model=model,
        iter=0,
        cfg=cfg or {},
        logger=SimpleNamespace(warning=warnings.append),
        visualizer=Visualizer(
            str(folder),
            vis_backends=backends or backends_of('Local', 'Tensorboard'),
            save_dir=str(folder),
        ),
    )
    model.train()
    hook = BA2MLoggerHook(interval=1)
    hook.before_train(runner)
    hook.before_train_iter(runner, 0)
    (forward or model)(x).sum().backward()
    hook.after_train_iter(runner, 0)
    runner.visualizer.close()
    path = folder / 'vis_data/ba2m.json'
    if not path.exists():
        return None, warnings
    (line,) = path.read_text().splitlines()
    return json.loads(line), warnings


def make_module(**kwargs):
    norm = dict(type='GN', num_groups=1)
    module = BA2M(8, 2, norm_cfg=norm, **kwargs).double()
    for parameter in module.parameters():
        nn.init.normal_(parameter, std=0.6)
    return module


def make_batch(n):
    scale = torch.linspace(0.5, 2, n, dtype=torch.float64).view(-1, 1, 1, 1)
    return torch.randn(n, 8, 6, 5, dtype=torch.float64) * scale
