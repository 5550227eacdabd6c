"""The weights that a network starts with in a study.

They are drawn with the seed, then replaced by those of another network with
the same seed, wherever names and shapes agree. So two networks of which one
has an additional module differ in the module only.
"""

from mmengine.config import Config
from mmengine.registry import MODELS, init_default_scope
from mmengine.runner import set_random_seed
from torch import Tensor


def draw_shared(cfg: Config, other: Config, seed: int) -> dict[str, Tensor]:
    """Draws the state dict of ``cfg``, most of it that of ``other``."""
    own, shared = _draw(cfg, seed), _draw(other, seed)
    for key, value in own.items():
        if key in shared and shared[key].shape == value.shape:
            own[key] = shared[key]
    return own


def _draw(cfg, seed):
    init_default_scope(cfg.default_scope)
    set_random_seed(seed)
    preprocessor = cfg.get('data_preprocessor')
    if preprocessor is not None:  # as Runner.build_model does
        cfg.model.setdefault('data_preprocessor', preprocessor)
    model = MODELS.build(cfg.model)
    model.init_weights()
    return model.state_dict()
