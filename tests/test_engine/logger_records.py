"""What BA2MLoggerHook makes of a network, and what it has written."""

import json
from types import SimpleNamespace

import numpy as np
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
        for path in sorted(work_dir.glob(f'**/vis_data/{name}'))
        for line in path.read_text().splitlines()
    ]


def read_events(work_dir):
    """Scalars and histograms of TensorBoard, by tag and step."""
    found = {}
    for path in sorted(work_dir.rglob('events.out.tfevents.*')):
        events = EventAccumulator(str(path), size_guidance=dict(histograms=0))
        events.Reload()
        fields = dict(Scalars='value', Histograms='histogram_value')
        for kind, field in fields.items():
            for tag in events.Tags()[kind.lower()]:
                for event in getattr(events, kind)(tag):
                    value = getattr(event, field)
                    found.setdefault(tag, {})[event.step] = value
    return found


def record(model, x, folder, backends=None, forward=None, cfg=None):
    """One iteration; returns the line of ba2m.json, if any, and warnings."""
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
    (line,) = lines_of(folder) or [None]
    return line, warnings


def scalars_by_hand(sar, weight, normalizer, strength, name, batches=None):
    """The scalars of a module, whose batches are the SARs in parts."""
    entropies = []
    for part in batches or [sar]:
        p = np.exp(part) / np.exp(part).sum()
        n = len(part)
        entropies.append(-(p * np.log(p)).sum() / np.log(n) if n > 1 else 1)
    values = dict(sar_mean=sar.mean(), normalizer=normalizer)
    values.update(sar_std=np.sqrt(((sar - sar.mean()) ** 2).mean()))
    values.update(weight_min=weight.min(), weight_max=weight.max())
    values.update(weight_std=weight.std(), weight_entropy=np.mean(entropies))
    values.update(strength=strength)
    return {f'ba2m_{key}/{name}': value for key, value in values.items()}


def make_module(**kwargs):
    norm = dict(type='GN', num_groups=1)
    module = BA2M(8, 2, norm_cfg=norm, **kwargs).double()
    for parameter in module.parameters():
        nn.init.normal_(parameter, std=0.6)
    return module


def make_batch(n):
    scale = torch.linspace(0.5, 2, n, dtype=torch.float64).view(-1, 1, 1, 1)
    return torch.randn(n, 8, 6, 5, dtype=torch.float64) * scale
