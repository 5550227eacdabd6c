"""Draws how BA²M weighs the images of a batch, and where it looks.

Runs a network once on a batch of a config's images, weighted over that batch
as in training. For each BA²M module there is one page: the images in the
order of their weight, each with the three attention maps that its SAR comes
from. Writes PNG, PDF, and the numbers as JSON and CSV.
"""

import argparse
import csv
import json
import re
from pathlib import Path

import matplotlib

matplotlib.use('Agg')
import matplotlib.pyplot as plt
import numpy as np
import torch
from matplotlib.backends.backend_pdf import PdfPages
from mmengine.config import DictAction
from mmengine.dataset import pseudo_collate
from mmengine.runner import set_random_seed

from mmba2m.inspect import (
    build_dataset,
    collect_attention,
    load_network,
    read_trained,
)

COLUMNS = {
    'image': 'image',
    'channel': 'channel, 0 to 1',
    'local_spatial': 'local spatial',
    'global_spatial': 'global spatial',
}
# inches
TILE, GAP, CAPTION, MARGIN, HEAD, FOOT = 1.2, 0.08, 0.2, 0.3, 1.1, 0.9
TICKS = 0.12  # room for those of the channels


ABOUT_SAR = (
    'SAR: mean, over channels and positions, of the largest of the three maps.'
)
ABOUT_WEIGHT = 'Weight: N·softmax(SAR) over these N images, 1 on average.'


def parse_args(argv=None):
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument('config', help='config file')
    parser.add_argument('checkpoint', help='checkpoint file')
    parser.add_argument('--out', required=True, help='folder to write to')
    parser.add_argument(
        '--num', type=int, default=16, help='images, 16 by default'
    )
    parser.add_argument(
        '--split',
        choices=['train', 'val', 'test'],
        default='test',
        help='whose images: those of train_dataloader, with its augmentation, '
        'val_dataloader or test_dataloader, the default',
    )
    parser.add_argument(
        '--seed', type=int, default=0, help='which images, 0 by default'
    )
    parser.add_argument(
        '--modules',
        nargs='+',
        metavar='NAME',
        help='modules to draw, e.g. layer2.ba2m, or all; by default the last '
        'one of each stage',
    )
    parser.add_argument(
        '--cfg-options',
        nargs='+',
        action=DictAction,
        metavar='KEY=VALUE',
        help='settings that override the config',
    )
    args = parser.parse_args(argv)
    if args.num < 2:
        parser.error(f'--num {args.num}: weights compare two images at least')
    return args


def load_batch(dataset, num, seed):
    """Draws images of a data set.

    Args:
        dataset (Dataset): Of MMEngine.
        num (int): How many; all where there are fewer.
        seed (int): Of the choice and of random transforms.

    Returns:
        list[dict]: What the pipeline makes of each.
    """
    set_random_seed(seed)
    chosen = np.random.permutation(len(dataset))[:num]
    return [dataset[int(index)] for index in chosen]


def choose_modules(names, wanted=None):
    """Chooses modules by name.

    Args:
        names (Sequence[str]): Of all modules, e.g. 'backbone.layer1.ba2m'.
        wanted (Sequence[str] | None): Names or the ends of names, or 'all'.
            Defaults to the last module of each stage.

    Returns:
        list[str]: The names, in their order in the network.

    Raises:
        ValueError: If there is no module of a wanted name.
    """
    if wanted is None:  # up to the first number, a name says which stage
        stages = {re.match(r'\D*\d*', name)[0]: name for name in names}
        return list(stages.values())
    if list(wanted) == ['all']:
        return list(names)
    for one in wanted:
        if not any(f'.{name}'.endswith(f'.{one}') for name in names):
            raise ValueError(
                f'the network has no BA2M module {one!r}; it has '
                f'{", ".join(names)}'
            )
    return [
        name
        for name in names
        if any(f'.{name}'.endswith(f'.{one}') for one in wanted)
    ]


def to_picture(raw, bgr):
    """Turns an image as it goes into the data preprocessor into a picture.

    Args:
        raw (Tensor): Shape (C, H, W), not normalised, not padded.
        bgr (bool): Whether its channels are blue, green, red.

    Returns:
        ndarray: Shape (H, W, 3), 0 to 1.
    """
    picture = raw.permute(1, 2, 0).float().numpy()
    if raw.dtype == torch.uint8:
        picture = picture / 255
    else:  # normalised in the pipeline, by whatever numbers
        low, high = picture.min(), picture.max()
        picture = (picture - low) / max(high - low, 1e-6)
    if bgr:
        picture = picture[..., ::-1]
    return np.broadcast_to(picture, (*picture.shape[:2], 3))


def loads_bgr(dataset):
    """Whether images come from files, which the hosts load as BGR.

    Data sets that keep arrays, as CIFAR does, keep them as RGB.
    """
    while hasattr(dataset, 'datasets') or hasattr(dataset, 'dataset'):
        inner = getattr(dataset, 'datasets', None)
        dataset = inner[0] if inner else dataset.dataset
    return 'LoadImage' in str(dataset.pipeline)


def describe(samples, dataset):
    """Finds path and class of each image, as far as they are known."""
    classes = dataset.metainfo.get('classes')
    described = []
    for sample in samples:
        label = getattr(sample, 'gt_label', None)
        if label is not None:
            label = label.tolist()
            label = ', '.join(classes[i] if classes else str(i) for i in label)
        described.append(
            dict(image=str(sample.get('img_path', '')), label=label)
        )
    return described


def tabulate(attention, described):
    """Puts the numbers of a module into rows, the largest weight first.

    Args:
        attention (Attention): Of N images.
        described (list[dict]): What is known of each image.

    Returns:
        list[dict]: For each image its rank from 1, its index in the batch,
        weight, SAR and the mean of each map, and what is known of it.
    """
    order = attention.sar.argsort(descending=True, stable=True).tolist()
    rows = []
    for rank, index in enumerate(order, 1):
        row = dict(
            rank=rank,
            index=index,
            weight=attention.weights[index].item(),
            sar=attention.sar[index].item(),
        )
        for branch in list(COLUMNS)[1:]:
            maps = getattr(attention, branch)
            row[f'mean_{branch}'] = (
                None if maps is None else maps[index].mean().item()
            )
        rows.append(dict(row, **described[index]))
    return rows


def draw(attention, rows, pictures, padded, subtitle):
    """Draws the page of a module.

    Args:
        attention (Attention): Of the module, for N images.
        rows (list[dict]): What :func:`tabulate` makes of it.
        pictures (list[ndarray]): The N images, (H, W, 3) each.
        padded (tuple[int, int]): Height and width that the images were
            padded to, which the maps cover.
        subtitle (str): Of which network and images.

    Returns:
        Figure: The page.
    """
    columns = [
        column
        for column in COLUMNS
        if column == 'image' or getattr(attention, column) is not None
    ]
    ratio = max(p.shape[0] / p.shape[1] for p in pictures)
    tile = TILE * min(max(ratio, 0.4), 1.5)  # height of a row
    half = -(-len(rows) // 2)
    block = len(columns) * (TILE + GAP) + TICKS
    width = 2 * (block + MARGIN) + MARGIN
    height = HEAD + half * (tile + CAPTION + GAP) + FOOT
    figure = plt.figure(figsize=(width, height))

    def add_axes(left, top, w, h):
        return figure.add_axes(
            (left / width, 1 - (top + h) / height, w / width, h / height)
        )

    def write(left, top, text, **kwargs):
        figure.text(
            left / width, 1 - top / height, text, va='baseline', **kwargs
        )

    write(MARGIN, 0.3, attention.name, fontsize=13, fontweight='bold')
    write(MARGIN, 0.52, subtitle, fontsize=8)
    about = ABOUT_SAR if attention.note else f'{ABOUT_SAR} {ABOUT_WEIGHT}'
    write(MARGIN, 0.68, about, fontsize=8)
    if attention.note:
        write(
            width - MARGIN,
            0.3,
            attention.note,
            fontsize=10,
            fontweight='bold',
            ha='right',
        )
    order = channel_order(attention.channel)
    for place, row in enumerate(rows):
        side, line = divmod(place, half)
        left = MARGIN + side * (block + MARGIN)
        top = HEAD + line * (tile + CAPTION + GAP)
        write(
            left,
            top + 0.15,
            f'{row["rank"]}.  weight {row["weight"]:.3f}'
            f'   SAR {row["sar"]:.3f}   {row["label"] or ""}',
            fontsize=8.5,
        )
        picture = pictures[row['index']]
        for number, column in enumerate(columns):
            x = left + number * (TILE + GAP) + (TICKS if number else 0)
            if line == 0:
                write(x, HEAD - 0.08, COLUMNS[column], fontsize=8, alpha=0.7)
            axes = add_axes(x, top + CAPTION, TILE, tile)
            if column == 'channel':
                values = attention.channel[row['index']][order]
                draw_channels(axes, values, last=line == half - 1)
                continue
            axes.axis('off')
            if column == 'image':
                axes.imshow(picture)
            else:
                maps = getattr(attention, column)[row['index']]
                colours = draw_map(axes, picture, maps, padded)
    if set(columns) & {'local_spatial', 'global_spatial'}:
        axes = add_axes(width / 2 - 2, height - 0.55, 4, 0.12)
        bar = figure.colorbar(colours, cax=axes, orientation='horizontal')
        bar.set_label(
            'local and global spatial: sigmoid of attention, 0 to 1 (no unit)',
            fontsize=8,
        )
        bar.ax.tick_params(labelsize=7)
        bar.ax.set_facecolor('0.5')  # as behind the maps
    return figure


def channel_order(channel):
    """Orders channels by their mean over the batch, the largest first."""
    if channel is None:
        return None
    return channel.mean(0).argsort(descending=True)


def draw_channels(axes, values, last):
    """Draws the attention to each channel.

    A channel has no place in the image, so this is no heat map but a curve.
    All images of a page have the channels in the same order, so that they can
    be compared.
    """
    values = values.numpy()
    axes.stairs(values, fill=True, color='0.75')
    axes.stairs(values, color='0.2', linewidth=0.8, baseline=None)
    axes.set(xlim=(0, len(values)), ylim=(0, 1), xticks=(), yticks=(0, 1))
    axes.tick_params(labelsize=7, length=0, pad=2)
    axes.axhline(0.5, color='0.5', linewidth=0.4)
    if last:
        axes.set_xlabel(f'{len(values)} channels', fontsize=7, labelpad=2)


def draw_map(axes, picture, maps, padded):
    """Draws a spatial map over a pale grey image; its cells stay visible."""
    height, width = picture.shape[:2]
    grey = picture @ (0.299, 0.587, 0.114)
    grey = (grey - grey.min()) / max(np.ptp(grey), 1e-6)  # full contrast
    axes.imshow(
        grey, cmap='gray', vmin=-0.6, vmax=1.6, extent=(0, width, height, 0)
    )
    # of the padded input; what lies in the padding is cut off
    colours = axes.imshow(
        maps.numpy(),
        cmap='viridis',
        vmin=0,
        vmax=1,
        alpha=0.7,
        interpolation='nearest',
        extent=(0, padded[1], padded[0], 0),
    )
    axes.set(xlim=(0, width), ylim=(height, 0))
    return colours


def write_pages(pages, rows, out):
    """Writes a PNG for each module, and one PDF, JSON and CSV for all.

    Args:
        pages (dict[str, Figure]): By the name of the module.
        rows (dict[str, list[dict]]): What :func:`tabulate` gives.
        out (str | Path): The folder.
    """
    out = Path(out)
    out.mkdir(parents=True, exist_ok=True)
    with PdfPages(out / 'weights.pdf') as pdf:
        for name, figure in pages.items():
            figure.savefig(out / f'{name}.png', dpi=100)
            pdf.savefig(figure)
            plt.close(figure)
    (out / 'weights.json').write_text(json.dumps(rows, indent=1))
    table = [dict(module=name, **row) for name in rows for row in rows[name]]
    with open(out / 'weights.csv', 'w', newline='') as stream:
        writer = csv.DictWriter(stream, table[0])
        writer.writeheader()
        writer.writerows(table)


def main(argv=None):
    args = parse_args(argv)
    cfg, checkpoint = read_trained(args.config, args.checkpoint)
    cfg.merge_from_dict(args.cfg_options or {})
    model = load_network(cfg, checkpoint, path=args.checkpoint)
    dataset = build_dataset(cfg, args.split)
    batch = load_batch(dataset, args.num, args.seed)
    if len(batch) < 2:
        raise ValueError(f'the {args.split} set has {len(batch)} image')

    inputs = model.data_preprocessor(pseudo_collate(batch), False)['inputs']
    collected = collect_attention(model, inputs)
    chosen = choose_modules(list(collected), args.modules)
    bgr = loads_bgr(dataset)
    pictures = [to_picture(one['inputs'], bgr) for one in batch]
    described = describe([one['data_samples'] for one in batch], dataset)
    subtitle = (
        f'{args.checkpoint}: {len(batch)} {args.split} images, sorted by '
        'SAR and so by weight, down the left half, then down the right'
    )
    rows = {name: tabulate(collected[name], described) for name in chosen}
    pages = {
        name: draw(
            collected[name], rows[name], pictures, inputs.shape[-2:], subtitle
        )
        for name in chosen
    }
    write_pages(pages, rows, args.out)
    for name in chosen:
        weights = [row['weight'] for row in rows[name]]
        print(
            f'{name}: weights {min(weights):.3f} to {max(weights):.3f} '
            f'{collected[name].note}'.rstrip()
        )
    print(f'pages: {args.out}')


if __name__ == '__main__':
    main()
