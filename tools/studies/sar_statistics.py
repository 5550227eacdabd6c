"""Prints how BA²M tells the samples of a batch apart, for each module.

SARs of 0 or 1 throughout are saturated: then the weights are 1, and nothing
is learned. It happens where nothing normalises the branches, see
docs/results.md.
"""

from mmengine.runner import Runner

from mmba2m.checkpoints.checks import check_checkpoint
from mmba2m.engine.cli import create_parser, load_config
from mmba2m.data_checks import check_data
from mmba2m.inspect import collect_attention


def parse_args():
    parser = create_parser(__doc__)
    parser.add_argument('checkpoint', help='checkpoint file')
    parser.add_argument(
        '--num', type=int, default=32, help='test images, 32 by default'
    )
    return parser.parse_args()


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
    model = runner.model.eval()
    inputs = model.data_preprocessor(data_batch, False)['inputs']
    collected = collect_attention(model, inputs, over_batch=False)
    print(
        '\n| module | SAR, mean | SAR, std | weights over the batch |'
        '\n| --- | --- | --- | --- |'
    )
    for name, attention in collected.items():
        sar = attention.sar
        weights = len(sar) * sar.softmax(0)
        print(
            f'| {name} | {sar.mean():.3f} | {sar.std():.4f} '
            f'| {weights.min():.3f} to {weights.max():.3f} |'
        )


if __name__ == '__main__':
    main()
