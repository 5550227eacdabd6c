"""MMEngine's Runner, guarded against wrong data and wrong checkpoints."""

import warnings

from mmengine.dataset import Compose
from mmengine.device import get_device
from mmengine.runner import BaseLoop
from mmengine.runner import Runner as _Runner

from mmba2m.checkpoints.checks import check_checkpoint, check_pretrained
from mmba2m.checkpoints.files import (
    handed_on,
    load_checkpoint,
    use_safe_loading,
)
from mmba2m.checkpoints.resume import (
    check_resumable,
    list_checkpoints,
    read_newest,
)
from mmba2m.checkpoints.work_dir_lock import hold
from mmba2m.data_checks import (
    check_data,
    check_trained,
    complete_palettes,
    only_formats,
)
from mmba2m.engine import distributed
from mmba2m.registry import RUNNERS


@RUNNERS.register_module()
class Runner(_Runner):
    """MMEngine's Runner, guarded against wrong data and wrong checkpoints.

    ``runner_type='mmba2m.Runner'`` in a config has the tools of MMDetection
    and MMPretrain take it, as ours do.

    - Data are checked before a data set is built (``data_checks = False`` in
      the config switches that off), and an error while an image is loaded
      names the image: OpenCV knows no path.
    - Checkpoints are loaded by :func:`mmba2m.checkpoints.files.
      load_checkpoint`, each once, and refused where they do not fit the
      model. Resuming passes over those that cannot be read.
    - Distributed runs need no GPU: with ``launcher='pytorch'`` they take
      gloo, and batch norms instead of SyncBN.

    Raises:
        FileNotFoundError: If data or a checkpoint are not there.
        ValueError: If data contradict themselves or the config, or a
            checkpoint is damaged or of another network.
        pickle.UnpicklingError: If a checkpoint would run code.
    """

    _trains = False

    def setup_env(self, env_cfg):
        """Sets up loading and, for ranks on the CPU, their group."""
        use_safe_loading()
        if self.distributed:
            distributed.join_group(self.launcher, get_device(), env_cfg)
        super().setup_env(env_cfg)

    def wrap_model(self, model_wrapper_cfg, model):
        """Wraps the model as MMEngine does, on the CPU as well."""
        if self.distributed and get_device() == 'cpu':
            return distributed.wrap_on_cpu(self.cfg, model_wrapper_cfg, model)
        return super().wrap_model(model_wrapper_cfg, model)

    @staticmethod
    def build_dataloader(dataloader, seed=None, diff_rank_seed=False):
        """Builds a data loader whose errors name the image.

        A warning tells of an image that has not the size which its annotation
        gives, as when boxes were drawn before an EXIF rotation.
        """
        if isinstance(dataloader, dict):
            complete_palettes(dataloader['dataset'])
        loader = _Runner.build_dataloader(dataloader, seed, diff_rank_seed)
        for dataset in _leaf_datasets(loader.dataset):
            if isinstance(getattr(dataset, 'pipeline', None), Compose):
                dataset.pipeline = _NamingPipeline(dataset.pipeline)
        return loader

    def train(self):
        """Trains, after a look at the data."""
        check_data(self.cfg, ('train_dataloader', 'val_dataloader'))
        self._trains = True
        with hold(self.work_dir):
            return super().train()

    def val(self):
        """Validates, after a look at the data."""
        check_data(self.cfg, ('val_dataloader',))
        return super().val()

    def test(self):
        """Tests, after a look at the data.

        Raises:
            RuntimeError: If the model finds nothing, so there is no metric.
        """
        check_data(self.cfg, ('test_dataloader',))
        metrics = super().test()
        if not metrics and not only_formats(self.cfg.get('test_evaluator')):
            raise RuntimeError(
                f'{self._load_from or "the model"} found nothing in any test '
                'image, so there is no metric. Is it trained, and on these '
                'classes?'
            )
        return metrics

    def load_or_resume(self):
        """Loads as MMEngine does; resumes from the newest that is whole."""
        found = None
        if self._resume and self._load_from is None and not self._has_loaded:
            found = read_newest(self.work_dir)
        if found is None:
            return super().load_or_resume()
        self._load_from = found[0]
        with handed_on(dict([found])):
            return super().load_or_resume()

    def load_checkpoint(self, filename, *args, **kwargs):
        """Loads a checkpoint that fits the model.

        Training may start from another task, with new heads; what resumes or
        evaluates is the same network.
        """
        checkpoint = load_checkpoint(filename)
        if isinstance(checkpoint.get('meta'), dict):
            checkpoint['meta'].pop('config', None)  # MMEngine would run it
        strict = self._resume or not self._trains
        if self._resume:
            check_resumable(checkpoint, filename)
        check_checkpoint(self.model, checkpoint, filename, strict)
        loops = self._train_loop, self._test_loop, self._val_loop
        built = [loop for loop in loops if isinstance(loop, BaseLoop)]
        if built:
            dataset = built[0].dataloader.dataset
            check_trained(checkpoint.get('meta'), dataset, filename, strict)
        with handed_on({filename: checkpoint}):
            return super().load_checkpoint(filename, *args, **kwargs)

    def _init_model_weights(self):
        # what is loaded afterwards replaces them
        if self._load_from or (
            self._resume and list_checkpoints(self.work_dir)
        ):
            return super()._init_model_weights()
        with handed_on(check_pretrained(self.model)):
            return super()._init_model_weights()


def _leaf_datasets(dataset):
    """Yields the data sets inside wrappers like RepeatDataset."""
    if hasattr(dataset, 'datasets'):
        for child in dataset.datasets:
            yield from _leaf_datasets(child)
    elif hasattr(dataset, 'dataset'):
        yield from _leaf_datasets(dataset.dataset)
    else:
        yield dataset


class _NamingPipeline(Compose):
    def __init__(self, pipeline):
        self.pipeline = pipeline
        self.transforms = pipeline.transforms  # read by some hooks
        self.warned = False

    def __call__(self, data):
        path = data.get('img_path')
        size = data.get('width'), data.get('height')
        try:
            result = self.pipeline(data)
        except Exception as error:
            if path is None or str(path) in str(error):
                raise
            raise RuntimeError(
                f'image {path}: {type(error).__name__}: {error}'
            ) from error
        # left in the same dict by the transform that loads
        height, width = data.get('ori_shape', (0, 0))
        if all(size) and width and size != (width, height) and not self.warned:
            self.warned = True
            warnings.warn(
                f'image {path} is {width}×{height}, but {size[0]}×{size[1]} '
                'in its annotation, so its boxes may not fit. Images are '
                'turned as their EXIF tag says. (Told once per process)',
                stacklevel=2,
            )
        return result
