"""Writes the weights that a network starts with in a study.

They are drawn with the seed, then replaced by those of another network with
the same seed, wherever names and shapes agree. So two networks of which one
has an additional module differ in the module only.
"""

import torch
from mmengine.config import Config
from mmengine.registry import MODELS, init_default_scope
from mmengine.runner import set_random_seed

from mmba2m.checkpoints.files import atomic_write
from mmba2m.engine.cli import create_parser, load_config


def parse_args():
    parser = create_parser(__doc__)
    parser.add_argument('shared', help='config of the other network')
    parser.add_argument('out', help='checkpoint to write')
    parser.add_argument('--seed', type=int, required=True)
    return parser.parse_args()


def draw_weights(cfg, seed):
    """Builds a network and initialises it.

    Args:
        cfg (Config): With ``model`` and ``default_scope``.
        seed (int): Of all random numbers.

    Returns:
        dict[str, Tensor]: Its state dict.
    """
    init_default_scope(cfg.default_scope)
    set_random_seed(seed)
    preprocessor = cfg.get('data_preprocessor')
    if preprocessor is not None:  # as Runner.build_model does
        cfg.model.setdefault('data_preprocessor', preprocessor)
    model = MODELS.build(cfg.model)
    model.init_weights()
    return model.state_dict()


def share(own, other):
    """Takes the weights of another network where names and shapes agree.

    Args:
        own (dict[str, Tensor]): State dict of the network.
        other (dict[str, Tensor]): State dict of the other one.

    Returns:
        dict[str, Tensor]: With the keys of ``own``.
    """
    return {
        key: other[key]
        if key in other and other[key].shape == value.shape
        else value
        for key, value in own.items()
    }


def main():
    args = parse_args()
    own = draw_weights(load_config(args), args.seed)
    other = draw_weights(Config.fromfile(args.shared), args.seed)
    with atomic_write(args.out) as stream:
        torch.save(dict(state_dict=share(own, other)), stream)
    shared = [k for k in own if k in other and own[k].shape == other[k].shape]
    print(f'{len(shared)} of {len(own)} weights are those of {args.shared}')


if __name__ == '__main__':
    main()
