"""Writes the table of docs/any_backbone.md: our lines over stock configs.

Six detectors of MMDetection, each with another backbone, are trained for a
few iterations at a small size, with the lines of the page and the config's own
optimizer. From scratch, as nothing is downloaded: so their norms are trained.
With ``--thin``, two with a pre-trained ResNet whose norms stay frozen as well.
"""

import argparse
import tempfile
from pathlib import Path

from mmengine.config import Config
from mmengine.registry import RUNNERS
from paper_tables import ROOT
from terminaltables import GithubFlavoredMarkdownTable

from mmba2m.inspect import collect_attention
from mmba2m.inspect.environment import describe_environment
from mmba2m.inspect.pages import replace_section

PAGE = ROOT / 'docs/any_backbone.md'
BEGIN = '<!-- written by tools/tables/stock_configs_table.py -->'
CONFIGS = [
    'faster_rcnn/faster-rcnn_r50_fpn_1x_coco.py',
    'regnet/retinanet_regnetx-800MF_fpn_1x_coco.py',
    'yolox/yolox_tiny_8xb8-300e_coco.py',
    'rtmdet/rtmdet_tiny_8xb32-300e_coco.py',
    'yolo/yolov3_mobilenetv2_8xb24-320-300e_coco.py',
    'swin/mask-rcnn_swin-t-p4-w7_fpn_1x_coco.py',
]
#: with a pre-trained ResNet-50 of half the width
FROZEN = [CONFIGS[0], 'retinanet/retinanet_r50_fpn_1x_coco.py']
THIN = dict(depth=50, stem_channels=64, base_channels=32, style='caffe')
BATCH = 2
#: images whose SARs are compared
IMAGES = 16


def parse_args(argv: list[str] | None = None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__)
    add = parser.add_argument
    add('data', type=Path, help="folder of COCO's layout, or a part of COCO")
    add('--iterations', type=int, default=200, help='200 by default')
    text = 'longer side of the images, 128 by default'
    add('--size', type=int, default=128, help=text)
    add('--configs', nargs='*', default=CONFIGS, help='below mmdet::')
    text = 'ResNet-50 of half the width, as in configs/studies'
    add('--thin', type=Path, help=text)
    add('--page', type=Path, default=PAGE, help=argparse.SUPPRESS)
    return parser.parse_args(argv)


def add_lines(path: str, folder: Path) -> Config:
    """Puts the lines of the page over a stock config."""
    (folder / 'stock.py').write_text(f"_base_ = 'mmdet::{path}'\n")
    base = Config.fromfile(folder / 'stock.py').model.backbone.type
    (folder / 'config.py').write_text(
        "_base_ = './stock.py'\nmodel = dict(backbone=dict("
        f"type='mmba2m.AttentionBackbone', base={base!r}, "
        "attention=dict(type='BA2M')))\n"
    )
    return Config.fromfile(folder / 'config.py')


def take_thin(model: dict, checkpoint: Path) -> None:
    """Gives a detector the ResNet of half the width."""
    init = dict(type='Pretrained', checkpoint=str(checkpoint))
    model.backbone.update(THIN, init_cfg=init)
    model.neck.in_channels = [128, 256, 512, 1024]
    pixels = dict(mean=[104, 117, 123], std=[1, 1, 1], bgr_to_rgb=False)
    model.data_preprocessor.update(pixels)


def shrink(cfg: Config, args: argparse.Namespace) -> None:
    """Makes a training of it that a CPU does in minutes."""
    # as small images have any size, which CSPNeXt does not join
    cfg.model.data_preprocessor.pad_size_divisor = 32
    step = dict(type='Resize', scale=(args.size,) * 2, keep_ratio=True)
    load = dict(type='LoadAnnotations', with_bbox=True, with_mask=False)
    load['with_mask'] = 'mask_head' in cfg.model.get('roi_head', {})
    flip = dict(type='RandomFlip', prob=0.5)
    pack = dict(type='PackDetInputs')
    for split, steps in (('train', [load, step, flip]), ('val', [step])):
        cfg[f'{split}_dataloader'] = dict(
            batch_size=BATCH if split == 'train' else IMAGES,
            num_workers=0,
            sampler=dict(type='DefaultSampler', shuffle=split == 'train'),
            dataset=dict(
                type='CocoDataset',
                data_root=str(args.data),
                ann_file=f'annotations/instances_{split}2017.json',
                data_prefix=dict(img=f'{split}2017/'),
                pipeline=[dict(type='LoadImageFromFile'), *steps, pack],
            ),
        )
    cfg.train_cfg = dict(by_epoch=False, max_iters=args.iterations)
    for name in ('val_cfg', 'val_evaluator', 'test_dataloader'):
        cfg[name] = None
    cfg.test_cfg = cfg.test_evaluator = None
    cfg.param_scheduler, cfg.custom_hooks = [], []
    cfg.auto_scale_lr.enable = True
    cfg.default_hooks = dict(logger=dict(type='LoggerHook', interval=20))
    cfg.randomness, cfg.visualizer.name = dict(seed=0), str(cfg.work_dir)
    cfg.runner_type, cfg.data_checks = 'mmba2m.Runner', False


def prepare_network(node: dict, frozen: bool) -> None:
    """Takes out most regions, and what would be downloaded or is frozen."""
    if not frozen and 'checkpoint' in (node.get('init_cfg') or ()):
        node.pop('init_cfg')
    if not frozen and 'frozen_stages' in node:
        node.update(norm_eval=False, frozen_stages=-1)
    if node.get('type') == 'SyncBN':
        node['type'] = 'BN'
    if node.get('type') == 'RandomSampler':  # of regions, which take the time
        node['num'] = 64
    for child in node.values():
        for one in child if isinstance(child, list) else [child]:
            if isinstance(one, dict):
                prepare_network(one, frozen)


def measure(
    path: str, args: argparse.Namespace, thin: Path | None = None
) -> list[str]:
    """Trains one config, from scratch or from weights, and gives its row."""
    with tempfile.TemporaryDirectory() as folder:
        cfg = add_lines(path, Path(folder))
        base = cfg.model.backbone.base
        cfg.work_dir = folder
        if thin:
            take_thin(cfg.model, thin)
        prepare_network(cfg.model, frozen=bool(thin))
        shrink(cfg, args)
        val = cfg.pop('val_dataloader')
        runner = RUNNERS.build(cfg)
        model = runner.train().eval()
        losses = runner.message_hub.get_scalar('train/loss').data[0]
        batch = next(iter(runner.build_dataloader(val)))
        inputs = model.data_preprocessor(batch)['inputs']
        sars = [a.sar for a in collect_attention(model, inputs).values()]
    spread = ' '.join(f'{sar.std():.4f}' for sar in sars)
    level = ' '.join(f'{sar.mean():.2f}' for sar in sars)
    name = type(model).__name__ + ', norms frozen' * bool(thin)
    lines = f"`base='{base}'`"
    loss = f'{losses[0]:.2f} → {losses[-20:].mean():.2f}'
    print(f'{path}: {loss}; {spread}; {level}', flush=True)
    return [f'`mmdet::{path}`', name, lines, loss, spread, level]


def main(argv: list[str] | None = None) -> None:
    args = parse_args(argv)
    cells = [
        ['over', 'detector', 'its line', 'loss', 'SD of the SARs', 'mean']
    ]
    cells += [measure(path, args) for path in args.configs]
    if args.thin:
        cells += [measure(path, args, args.thin) for path in FROZEN]
    found = describe_environment()
    names = [
        name for name in found if name.startswith(('torch', 'onedl', 'mm'))
    ]
    versions = ', '.join(f'{name} {found[name]}' for name in names)
    text = (
        f'Loss of the first iteration, and mean of the last 20 of '
        f'{args.iterations}; SARs of {IMAGES} other images, by stage. '
        f'{BATCH} images a step, {args.size} pixels; '
        f'{args.data.name}, {found["date"]}, {versions}.'
    )
    table = GithubFlavoredMarkdownTable(cells).table
    page = args.page.read_text('utf-8')
    page = replace_section(page, BEGIN, f'{table}\n\n{text}')
    args.page.write_text(page, 'utf-8')
    print(f'wrote {args.page}')


if __name__ == '__main__':
    main()
