"""Prints how BA²M tells the samples of a batch apart, for each module.

SARs of 0 or 1 throughout are saturated: then the weights are 1, and nothing
is learned. It happens where nothing normalises the branches, see
docs/results.md.
"""

import torch
from mmengine.runner import Runner

from mmba2m.models.layers import BA2M
from mmba2m.utils.checkpoint_checks import check_checkpoint
from mmba2m.utils.cli import create_parser, load_config
from mmba2m.utils.data_checks import check_data


def parse_args():
    parser = create_parser(__doc__)
    parser.add_argument('checkpoint', help='checkpoint file')
    parser.add_argument(
        '--num', type=int, default=32, help='test images, 32 by default'
    )
    return parser.parse_args()


@torch.no_grad()
def collect_sars(model, data_batch):
    """Runs a batch.

    Args:
        model (nn.Module): A detector or classifier.
        data_batch (dict): A batch of its data loader.

    Returns:
        dict[str, Tensor]: The SARs, shape (N,), of each module by name.
    """
    sars = {}
    handles = [
        module.register_forward_pre_hook(
            lambda module, args, name=name: sars.update(
                {name: module.sample_attention(*args)}
            )
        )
        for name, module in model.named_modules()
        if isinstance(module, BA2M)
    ]
    model.eval().test_step(data_batch)
    for handle in handles:
        handle.remove()
    return sars


def main():
    args = parse_args()
    cfg = load_config(args)
    cfg.load_from = args.checkpoint
    cfg.test_dataloader.batch_size = args.num
    check_data(cfg, ('test_dataloader',))
    runner = Runner.from_cfg(cfg)
    check_checkpoint(runner.model, args.checkpoint, strict=True)
    runner.load_or_resume()
    data_batch = next(iter(runner.build_dataloader(cfg.test_dataloader)))
    print(
        '\n| module | SAR, mean | SAR, std | weights over the batch |'
        '\n| --- | --- | --- | --- |'
    )
    for name, sar in collect_sars(runner.model, data_batch).items():
        weights = len(sar) * sar.softmax(0)
        print(
            f'| {name} | {sar.mean():.3f} | {sar.std():.4f} '
            f'| {weights.min():.3f} to {weights.max():.3f} |'
        )


if __name__ == '__main__':
    main()
