"""Draws t-SNE of the features of classifiers, side by side (Fig. 1).

The features are what the classifier's head gets: those of its last stage,
averaged over positions. All networks see the same images. BA²M works as the
config sets it, by default with population weights, so that the features of an
image depend on no other.
"""

import argparse
import json
import os
from pathlib import Path
from typing import Any

if 'OMP_WAIT_POLICY' not in os.environ:  # before torch loads
    os.environ.setdefault('GOMP_SPINCOUNT', '1000')

import numpy as np
import torch
from matplotlib.figure import Figure
from mmengine.dataset import pseudo_collate
from torch import nn

from mmba2m.engine.cli import run_main
from mmba2m.inspect import build_dataset, load_network, read_trained

try:
    from sklearn.manifold import TSNE
    from sklearn.metrics import silhouette_score
except ImportError as error:
    raise ImportError(
        'tsne.py needs scikit-learn: pip install "mmba2m[analysis]"'
    ) from error

# told apart by shape and filling as well, for readers without colours
MARKERS = 'o^sDvPX*<>pdhH'
PALETTE = ('#0072b2', '#d55e00', '#000000', '#009e73', '#56b4e9', '#aa4499')


def parse_args():
    kind = argparse.ArgumentDefaultsHelpFormatter
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=kind)
    add = parser.add_argument
    kwargs = dict(nargs=3, action='append', required=True)
    kwargs['metavar'] = ('CONFIG', 'CHECKPOINT', 'LABEL')
    add('--run', help='for each network; LABEL names it', **kwargs)
    add('--classes', nargs='+', metavar='CLASS', help='all, if not named')
    add('--num-per-class', type=int, default=100, help='images of each class')
    add('--perplexity', type=float, default=30, help='neighbours of a point')
    add('--batch-size', type=int, default=64, help='images at once')
    add('--seed', type=int, default=0, help='of the images and of t-SNE')
    add('--out', required=True, help='PNG; PDF and JSON go beside it')
    args = parser.parse_args()
    labels = [label for _, _, label in args.run]
    if len(set(labels)) < len(labels):
        parser.error(f'--run: {", ".join(labels)}: give each another LABEL')
    if Path(args.out).suffix != '.png':
        parser.error(f'--out {args.out}: the name of a .png')
    return args


def choose_images(
    dataset: Any, classes: list[str] | None, num_per_class: int, seed: int
) -> list[int]:
    """Chooses images of each class at random, all where there are too few.

    Args:
        dataset: Of MMPretrain.
        classes: Names of 2 to 14 classes, None for all of the data set.
        num_per_class: How many.
        seed: Of the choice.

    Raises:
        ValueError: If there is no such class or fewer than two images of it,
            or too many classes to be drawn.
    """
    names = list(dataset.CLASSES)
    classes = classes or names
    if not 2 <= len(set(classes)) <= len(MARKERS):
        raise ValueError(
            f'choose 2 to {len(MARKERS)} --classes, not {classes}'
        )
    of = np.array(dataset.get_gt_labels())
    random = np.random.RandomState(seed)
    chosen = []
    for name in dict.fromkeys(classes):
        if name not in names:
            raise ValueError(
                f'the data set has no class {name!r}; it has '
                f'{", ".join(names[:20])}{", …" if len(names) > 20 else ""}'
            )
        indices = np.flatnonzero(of == names.index(name))
        if len(indices) < 2:
            raise ValueError(
                f'the test set has {len(indices)} images of class {name}'
            )
        chosen += random.permutation(indices)[:num_per_class].tolist()
    return chosen


@torch.no_grad()
def extract_features(
    model: nn.Module, dataset: Any, indices: list[int], batch_size: int
) -> np.ndarray:
    """Extracts what the head of a classifier gets of images of its test set.

    Args:
        model: MMPretrain's ImageClassifier, in ``eval()``.
        dataset: Its test set.
        indices: Of the images.
        batch_size: Images at once.

    Returns:
        Shape (len(indices), C).
    """
    features = []
    for start in range(0, len(indices), batch_size):
        batch = [dataset[i] for i in indices[start : start + batch_size]]
        inputs = model.data_preprocessor(pseudo_collate(batch), False)
        pooled = model.extract_feat(inputs['inputs'], stage='neck')
        if isinstance(pooled, (list, tuple)):
            pooled = pooled[-1]
        if pooled.dim() == 4:  # (N, C, H, W): a network without neck
            pooled = pooled.mean((2, 3))
        features.append(pooled.flatten(1).float().cpu())
    return torch.cat(features).numpy()


def draw(panels: dict[str, dict], classes: list[str], title: str) -> Figure:
    """Draws the networks side by side.

    Args:
        panels: For each network its points 'embedding', (N, 2), and its
            'silhouette'.
        classes: Of the points.
        title: Above the figure.
    """
    columns = min(len(panels), 3)
    rows = -(-len(panels) // columns)
    size = (1.5 + 4 * columns, 0.8 + 4.2 * rows)
    figure = Figure(size, layout='constrained')
    for place, (label, panel) in enumerate(panels.items(), 1):
        axis = figure.add_subplot(rows, columns, place, box_aspect=1)
        for number, name in enumerate(dict.fromkeys(classes)):
            colour = PALETTE[number % len(PALETTE)]
            look = dict(fc=colour, ec='white', lw=0.3)
            if number % 2:
                look = dict(fc='none', ec=colour, lw=1)
            points = panel['embedding'][np.array(classes) == name].T
            axis.scatter(
                *points, 24, marker=MARKERS[number], label=name, **look
            )
        text = f'{label}\nsilhouette of the features '
        axis.set_title(f'{text}{panel["silhouette"]:.3f}')
        axis.set(xlabel='t-SNE 1 (no unit)', ylabel='t-SNE 2 (no unit)')
        axis.set(xticks=(), yticks=())
    handles = axis.get_legend_handles_labels()
    kwargs = dict(markerscale=1.6, title='class')
    figure.legend(*handles, loc='outside right center', **kwargs)
    figure.suptitle(title, fontsize=10)
    return figure


def main():
    args = parse_args()
    labels, panels = None, {}
    for config, file, label in args.run:
        cfg, checkpoint = read_trained(config, file)
        if cfg.get('default_scope') != 'mmpretrain':
            raise ValueError(
                f'{config} is no config of MMPretrain: t-SNE is drawn of '
                'classifiers, whose images have one class'
            )
        dataset = build_dataset(cfg)
        found = [dataset.CLASSES[i] for i in dataset.get_gt_labels()]
        if labels is None:
            labels = found
            indices = choose_images(
                dataset, args.classes, args.num_per_class, args.seed
            )
            classes = [labels[i] for i in indices]
        elif found != labels:
            raise ValueError(
                f'the test set of {config} has other images or classes than '
                f'that of {args.run[0][0]}'
            )
        model = load_network(cfg, checkpoint, path=file)
        features = extract_features(model, dataset, indices, args.batch_size)
        tsne = TSNE(perplexity=args.perplexity, random_state=args.seed)
        panels[label] = dict(
            embedding=tsne.fit_transform(features),
            silhouette=float(silhouette_score(features, classes)),
        )
        print(f'{label}: silhouette {panels[label]["silhouette"]:.3f}')

    out = Path(args.out)
    out.parent.mkdir(parents=True, exist_ok=True)
    title = (
        f't-SNE of the pooled features of {len(indices)} test images, '
        f'perplexity {args.perplexity:g}\n'
        'silhouette: −1 to 1, the higher, the farther apart the classes'
    )
    figure = draw(panels, classes, title)
    figure.savefig(out, dpi=110)
    figure.savefig(out.with_suffix('.pdf'))
    for panel in panels.values():
        panel['embedding'] = panel['embedding'].tolist()
    numbers = dict(perplexity=args.perplexity, seed=args.seed)
    numbers.update(indices=indices, classes=classes, networks=panels)
    out.with_suffix('.json').write_text(json.dumps(numbers))
    print(f'figure: {out}')


if __name__ == '__main__':
    run_main(main)
