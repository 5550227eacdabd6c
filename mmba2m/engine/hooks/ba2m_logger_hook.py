"""Records the SARs and weights of BA²M while a network trains."""

import math
from functools import partial

import torch
from mmengine.dist import all_gather_object, is_main_process
from mmengine.hooks import Hook
from mmengine.model import is_model_wrapper
from mmengine.visualization import (
    LocalVisBackend,
    TensorboardVisBackend,
    WandbVisBackend,
)

from mmba2m.models.attentions.ba2m import BA2M
from mmba2m.registry import HOOKS

LOCAL_FILE = 'ba2m.json'


@HOOKS.register_module()
class BA2MLoggerHook(Hook):
    """Records the SARs and weights of each BA²M module while it trains.

    They go to all ``vis_backends`` of the visualizer, at the iterations at
    which LoggerHook counts them. For a module ``backbone.layer1.ba2m`` the
    scalars are

    - ``ba2m_sar_mean/backbone.layer1.ba2m`` and ``ba2m_sar_std/...``;
    - ``ba2m_weight_min/...``, ``ba2m_weight_max/...`` and
      ``ba2m_weight_std/...``, of the weights that scaled the samples, λ
      included (standard deviations are those of the batch, divided by N);
    - ``ba2m_weight_entropy/...``: the entropy of softmax(SAR), divided by
      log N: 1 where the samples are all equal, and for N = 1;
    - ``ba2m_normalizer/...``: the running normaliser;
    - ``ba2m_strength/...``: λ.

    TensorBoard and W&B get histograms as well, ``ba2m_sar/...`` and
    ``ba2m_weight/...``, of what is finite. LocalVisBackend writes to
    ``vis_data/ba2m.json``: the hosts' readers of ``scalars.json`` take lines
    of other hooks for training or validation.

    The values are those of the first forward pass of an iteration. In a
    distributed run they are those of all ranks, written by the first. With
    ``sync_batch=False`` the weights are those which each rank gave its own
    samples, the entropy is the mean over ranks, and the normaliser that of
    the first rank.

    Nothing listens to the modules in the iterations in between. Compiled code
    (``compile`` of the config) cannot be listened to: normaliser and λ are
    recorded, and a warning says so.

    Args:
        interval: Iterations from one record to the next. Defaults to 50.

    Raises:
        ValueError: If ``interval`` is no whole number from 1 on.
    """

    # before BA2MAnnealHook, which sets the strength of the next iteration
    priority = 'HIGH'

    def __init__(self, interval: int = 50):
        if not isinstance(interval, int) or interval < 1:
            raise ValueError(
                'BA2MLoggerHook needs a whole number from 1 on as interval, '
                f'got {interval!r}'
            )
        self.interval = interval
        self.modules = {}
        self.listens = True
        #: SARs and weights of this iteration, by the name of the module
        self.seen = {}

    def before_train(self, runner):
        """Finds the modules."""
        model = runner.model
        if is_model_wrapper(model):
            model = model.module
        self.modules = {
            name.replace('_orig_mod.', ''): module
            for name, module in model.named_modules()
            if isinstance(module, BA2M)
        }
        self.listens = not _is_compiled(runner)
        if self.modules and not self.listens:
            runner.logger.warning(
                'BA2MLoggerHook: the network is compiled, so of BA²M only '
                'the normaliser and the strength are recorded, no SARs and '
                'no weights'
            )

    def before_train_iter(self, runner, batch_idx, data_batch=None):
        """Listens to the modules, in an iteration that is recorded."""
        if self.listens and self.every_n_train_iters(runner, self.interval):
            self.seen = {}
            for name, module in self.modules.items():
                # the SARs are no output of the module, and a hook sees
                # outputs only
                module.weigh = partial(self._weigh, name, module)

    def _weigh(self, name, module, sar):
        weights = type(module).weigh(module, sar)
        # gradient checkpointing runs the forward pass again
        self.seen.setdefault(name, (sar.detach(), weights.detach()))
        return weights

    def after_train_iter(
        self, runner, batch_idx, data_batch=None, outputs=None
    ):
        """Records what was heard."""
        if not self.modules or not self.every_n_train_iters(
            runner, self.interval
        ):
            return
        for module in self.modules.values():
            vars(module).pop('weigh', None)
        own = {
            name: [values.cpu().double() for values in pair]
            for name, pair in self.seen.items()
        }
        # one collective, whichever modules have run
        seen = all_gather_object(own)
        self.seen = {}
        if not is_main_process():
            return
        scalars, samples = {}, {}
        for name, module in self.modules.items():
            ranks = [rank[name] for rank in seen if name in rank]
            if ranks:
                sar, weight = map(torch.cat, zip(*ranks, strict=True))
                samples[f'ba2m_sar/{name}'] = sar
                samples[f'ba2m_weight/{name}'] = weight
                apart = [one for one, _ in ranks]
                batches = [sar] if module.sync_batch else apart
                for key, value in _describe(sar, weight, batches).items():
                    scalars[f'ba2m_{key}/{name}'] = value
            normalizer = module.running_normalizer.item()
            scalars[f'ba2m_normalizer/{name}'] = normalizer
            scalars[f'ba2m_strength/{name}'] = module.strength.item()
        for backend in runner.visualizer._vis_backends.values():
            _write(backend, scalars, samples, runner.iter + 1)


def _is_compiled(runner):
    return bool(runner.cfg.get('compile')) or any(
        hasattr(module, '_orig_mod')
        or getattr(module, '_compiled_call_impl', None) is not None
        for module in runner.model.modules()
    )


def _describe(sar, weight, batches):
    """Scalars of a module; batches are the SARs, as they were normalised."""
    entropy = sum(map(_normalized_entropy, batches)) / len(batches)
    return dict(
        sar_mean=sar.mean().item(),
        sar_std=sar.std(unbiased=False).item(),
        weight_min=weight.min().item(),
        weight_max=weight.max().item(),
        weight_std=weight.std(unbiased=False).item(),
        weight_entropy=entropy,
    )


def _normalized_entropy(sar):
    if len(sar) == 1:
        return 1.0
    entropy = torch.special.entr(sar.softmax(0)).sum()
    return entropy.item() / math.log(len(sar))


def _write(backend, scalars, samples, step):
    samples = {
        name: values[values.isfinite()].numpy()
        for name, values in samples.items()
        if values.isfinite().any()
    }
    if isinstance(backend, LocalVisBackend):
        backend = LocalVisBackend(
            backend._save_dir, scalar_save_file=LOCAL_FILE
        )
    elif isinstance(backend, TensorboardVisBackend):
        for name, values in samples.items():
            backend.experiment.add_histogram(name, values, step)
    elif isinstance(backend, WandbVisBackend):
        # its own step counts the calls; LoggerHook logs the iteration, too
        histogram = backend.experiment.Histogram
        samples = {name: histogram(v) for name, v in samples.items()}
        scalars = dict(scalars, **samples, iter=step)
    backend.add_scalars(scalars, step)
