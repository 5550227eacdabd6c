"""What the BA²M modules of a trained network make of a batch."""

from contextlib import ExitStack, contextmanager
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from mmba2m.models.attentions import BA2M


@dataclass
class Attention:
    """What one BA²M module makes of a batch.

    The maps are behind the sigmoid, so between 0 and 1, as Eq. 9 takes them,
    and ``None`` for branches that the module does not have.

    Attributes:
        name: Of the module in the network.
        sar: SARs (Eq. 9), shape (N,).
        weights: What the module multiplied the samples with, (N,).
        norm: Of the features of a sample before that, (N,).
        channel: Shape (N, C).
        local_spatial: Shape (N, H, W).
        global_spatial: Shape (N, ⌈H/2⌉, ⌈W/2⌉).
        note: What a reader of the weights has to know, or ''.
    """

    name: str
    sar: Tensor
    weights: Tensor
    norm: Tensor
    channel: Tensor | None
    local_spatial: Tensor | None
    global_spatial: Tensor | None
    note: str


@torch.no_grad()
def collect_attention(
    model: nn.Module, inputs: Tensor, over_batch: bool = True
) -> dict[str, Attention]:
    """Runs backbone and neck on a batch and watches the BA²M modules.

    Args:
        model: A detector or classifier, in ``eval()``.
        inputs: What its data preprocessor makes of a batch, (N, C, H, W).
        over_batch: Whether the modules weigh over this batch, as in training,
            except where they are in mode 'identity'; if not, they weigh as
            they are set. Defaults to True.

    Returns:
        By the name of the module, in the order in which they ran.

    Raises:
        ValueError: If there is no BA²M module, or one weighs something else
            than the images, as in a head that works on regions.
    """
    modules = {
        name: module
        for name, module in model.named_modules()
        if isinstance(module, BA2M)
    }
    if not modules:
        raise ValueError('the network has no BA2M module')
    collected = {}

    def watch(name):
        def hook(module, args):
            (x,) = args
            if len(x) != len(inputs):
                raise ValueError(
                    f'{name} weighs {len(x)} samples, but the batch has '
                    f'{len(inputs)} images'
                )
            collected[name] = _attend(name, module, x)

        return hook

    with ExitStack() as stack:
        for name, module in modules.items():
            handle = module.register_forward_pre_hook(watch(name))
            stack.callback(handle.remove)
            if over_batch and module.inference != 'identity':
                stack.enter_context(_weigh_over_batch(module))
        model.extract_feat(inputs)  # type: ignore[operator]
    return collected


def _attend(name, module, x):
    sar = module.sample_attention(x)
    off = module.inference == 'identity'
    weights = torch.ones_like(sar) if off else module.weigh(sar)
    maps = {}
    for branch in ('channel', 'local_spatial', 'global_spatial'):
        layer = getattr(module, branch)
        if layer is not None:
            maps[branch] = layer(x).float().sigmoid().cpu()
    if 'channel' in maps:
        maps['channel'] = maps['channel'].flatten(1)
    for branch in ('local_spatial', 'global_spatial'):
        if branch in maps:
            maps[branch] = maps[branch].squeeze(1)
    return Attention(
        name=name,
        sar=sar.cpu(),
        weights=weights.cpu(),
        norm=x.flatten(1).float().norm(dim=1).cpu(),
        channel=maps.get('channel'),
        local_spatial=maps.get('local_spatial'),
        global_spatial=maps.get('global_spatial'),
        note=_note(module),
    )


def _note(module):
    strength = module.strength.item()
    if module.inference == 'identity':
        return "switched off (inference='identity'): all weights are 1"
    if strength == 0:
        return 'switched off (annealed to strength 0): all weights are 1'
    notes = []
    if strength < 1:
        notes.append(f'annealed to strength {strength:.2g}')
    if not module.scale_by_batch:
        notes.append('weights sum to 1 (scale_by_batch=False)')
    return ', '.join(notes)


@contextmanager
def _weigh_over_batch(module):
    inference = module.inference
    module.inference = 'batch'
    try:
        yield
    finally:
        module.inference = inference
