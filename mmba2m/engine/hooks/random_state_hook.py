"""Random numbers that a resumed run draws as if it had not been stopped."""

from mmengine.hooks import Hook
from mmengine.registry import DATA_SAMPLERS
from mmengine.runner import IterBasedTrainLoop
from torch.utils.data import BatchSampler

from mmba2m.engine.seeded_sampler import SeededBatchSampler, set_random_state
from mmba2m.registry import HOOKS

INFO = 'random_state'


@HOOKS.register_module()
class RandomStateHook(Hook):
    """Makes a run that was killed and resumed end as an uninterrupted one.

    MMEngine saves no random states, and those of worker processes, which draw
    the augmentation, cannot be saved with a checkpoint: they are batches
    ahead. Here all follow from what a checkpoint has, the seed and the number
    of the iteration. Before each iteration the generators of Python, NumPy
    and torch (on all devices) are set for the model, and before each batch is
    loaded, in the process that loads it, for the data. As a result neither
    validation nor the number of worker processes changes what is drawn.

    A resumed run goes on with the batch after the checkpoint's, also within
    an epoch (``CheckpointHook`` with ``by_epoch=False``), and loads none of
    the batches before. Without ``randomness.seed`` in the config, the seed
    that MMEngine drew is taken from the checkpoint, for the order of the
    samples too. In distributed runs the data's random numbers differ between
    ranks, the model's do with ``randomness.diff_rank_seed``, as in MMEngine.

    What differs after all, the first two with a warning: a run resumed with
    another number of processes or another batch size; gradients accumulated
    when the checkpoint was written, which are not in it; the other ranks'
    running statistics, if it was written within an epoch; transforms that keep
    samples (``CachedMosaic``) or generators of their own; on GPUs, kernels
    that sum in any order (see ``randomness.deterministic``).
    """

    # before any other hook can draw
    priority = 'HIGHEST'

    def before_train(self, runner):
        """Has the data loader set the random state of each batch."""
        loop = runner.train_loop
        loader = loop.dataloader
        endless = isinstance(loop, IterBasedTrainLoop)
        self.batches = None
        #: batches of the epoch that were trained on before the checkpoint
        self.done = 0
        if getattr(loader, 'batch_sampler', None) is None:
            runner.logger.warning(
                'RandomStateHook: train_dataloader has no batch sampler; '
                'when resumed, the data will be drawn otherwise'
            )
            return
        saved = self._read_info(runner) if runner.iter else None
        sampler, batch_sampler = _build_samplers(runner, loader, saved)
        self.info = dict(
            sampler_seed=int(getattr(sampler, 'seed', runner.seed)),
            world_size=runner.world_size,
            epoch_length=len(batch_sampler),
        )
        runner.message_hub.update_info(INFO, self.info)
        same = saved and self._is_same(runner, saved)
        if same and saved.get('epoch') == runner.epoch:
            self.done = runner.iter - saved['epoch_begin']

        self.batches = SeededBatchSampler(
            batch_sampler, runner.seed, runner.rank, endless
        )
        # a loader that has workers goes on with their indices, so its
        # attributes are locked; this one forgets the workers it may have
        loader._iterator = None
        if loader.sampler is getattr(loader.batch_sampler, 'sampler', None):
            object.__setattr__(loader, 'sampler', sampler)
        object.__setattr__(loader, 'batch_sampler', self.batches)
        if endless:
            self.batches.start = runner.iter
            ahead = getattr(loop, 'fast_forward_on_resume', False)
            loop.dataloader_iterator = _ResumedIterator(
                loader, 0 if ahead else runner.iter
            )

    def before_train_epoch(self, runner):
        """Tells the data loader with which iteration the epoch goes on."""
        if self.batches is None or self.batches.endless:
            return
        self.batches.first = runner.iter - self.done
        self.batches.start = runner.iter
        self.info.update(epoch=runner.epoch, epoch_begin=self.batches.first)
        self.done = 0

    def before_train_iter(self, runner, batch_idx, data_batch=None):
        """Sets the random state of the model."""
        set_random_state(runner.seed, runner.iter, 0)

    def _read_info(self, runner):
        saved = runner.message_hub.runtime_info.get(INFO)
        if saved is None:
            runner.logger.warning(
                'RandomStateHook: the checkpoint was written without this '
                'hook, so training goes on with other random numbers than '
                'it would have had'
            )
        counts = getattr(runner.optim_wrapper, '_accumulative_counts', 1)
        if runner.iter % counts:
            runner.logger.warning(
                'RandomStateHook: gradients are accumulated over '
                f'{counts} iterations, and those of the last '
                f'{runner.iter % counts} before the checkpoint are not in it'
            )
        return saved

    def _is_same(self, runner, saved):
        """Whether the samples fall into the same batches as before."""
        (ranks, length), now = (
            (info['world_size'], info['epoch_length'])
            for info in (saved, self.info)
        )
        if (ranks, length) == now:
            return True
        runner.logger.warning(
            f'RandomStateHook: the checkpoint is of a run with {ranks} '
            f'process(es) and {length} iterations an epoch, this one has '
            f'{now[0]} and {now[1]}: training goes on, but not with the '
            'batches it would have had'
        )
        return False


def _build_samplers(runner, loader, saved):
    """Builds the samplers of a loader again.

    The first ones have the seed from before resuming, and on older MMEngine
    the workers of iteration-based training have drawn from them.
    """
    batch_sampler = loader.batch_sampler
    if isinstance(batch_sampler, SeededBatchSampler):  # train() called again
        batch_sampler = batch_sampler.batch_sampler
    sampler = getattr(batch_sampler, 'sampler', None)
    cfg = runner._train_dataloader
    if not isinstance(cfg, dict) or not isinstance(cfg.get('sampler'), dict):
        return sampler, batch_sampler  # built by the user
    seed = getattr(sampler, 'seed', runner.seed)
    if saved:
        seed = saved['sampler_seed']
    sampler = DATA_SAMPLERS.build(
        cfg['sampler'], default_args=dict(dataset=loader.dataset, seed=seed)
    )
    default = dict(type=BatchSampler, drop_last=cfg.get('drop_last', False))
    return sampler, DATA_SAMPLERS.build(
        cfg.get('batch_sampler') or default,
        default_args=dict(
            sampler=sampler, batch_size=cfg.get('batch_size', 1)
        ),
    )


class _ResumedIterator:
    """Stands in for the iterator of IterBasedTrainLoop, which loads batches.

    Older MMEngine asks for as many batches as there were iterations, newer
    calls ``skip_iter``; here the batch sampler has left them out.
    """

    def __init__(self, loader, skipped):
        self.loader = loader
        self.skipped = skipped
        self.iterator = None

    def skip_iter(self, num_iters):
        self.skipped -= num_iters

    def __next__(self):
        if self.skipped > 0:
            self.skipped -= 1
            return None
        if self.iterator is None:
            self.iterator = iter(self.loader)
        return next(self.iterator)
