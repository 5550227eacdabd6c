"""Draws t-SNE of the features of classifiers, side by side (Fig. 1).

The features are what the classifier's head gets: those of its last stage,
averaged over positions. All networks see the same images. BA²M works as the
config sets it, by default with population weights, so that the features of an
image depend on no other.
"""

import argparse
import json
from pathlib import Path

import matplotlib

matplotlib.use('Agg')
import matplotlib.pyplot as plt
import numpy as np
import torch
from mmengine.dataset import pseudo_collate

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


def parse_args(argv=None):
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument(
        '--run',
        nargs='+',
        action='append',
        required=True,
        metavar='ARG',
        help='CONFIG CHECKPOINT and, to name it in the figure, LABEL; once '
        'for each network',
    )
    parser.add_argument(
        '--classes',
        nargs='+',
        metavar='CLASS',
        help=f'names or numbers of 2 to {len(MARKERS)} classes; by default '
        'all classes',
    )
    parser.add_argument(
        '--num-per-class',
        type=int,
        default=100,
        help='test images of each class, 100 by default',
    )
    parser.add_argument(
        '--perplexity',
        type=float,
        default=30,
        help='neighbours that t-SNE looks at, 30 by default',
    )
    parser.add_argument(
        '--batch-size', type=int, default=64, help='64 by default'
    )
    parser.add_argument(
        '--seed',
        type=int,
        default=0,
        help='of the choice of images and of t-SNE, 0 by default',
    )
    parser.add_argument(
        '--out',
        required=True,
        help='PNG to write; PDF and JSON of the same name go beside it',
    )
    args = parser.parse_args(argv)
    for run in args.run:
        if len(run) not in (2, 3):
            parser.error(f'--run {" ".join(run)}: CONFIG CHECKPOINT [LABEL]')
    labels = name_runs(args.run)
    if len(set(labels)) < len(labels):
        parser.error(f'--run: {", ".join(labels)}: give each another LABEL')
    if Path(args.out).suffix != '.png':
        parser.error(f'--out {args.out}: the name of a .png')
    return args


def find_classes(names, wanted=None):
    """Finds the labels of classes.

    Args:
        names (Sequence[str]): Of all classes of the data set.
        wanted (Sequence[str] | None): Names or numbers. Defaults to all.

    Returns:
        list[int]: The labels.

    Raises:
        ValueError: If there is no such class, or the number of classes
            cannot be drawn.
    """
    labels = []
    for one in range(len(names)) if wanted is None else wanted:
        if one in names:
            labels.append(names.index(one))
        elif str(one).isdecimal() and int(one) < len(names):
            labels.append(int(one))
        else:
            raise ValueError(
                f'the data set has no class {one!r}; it has '
                f'{", ".join(names[:20])}{", …" if len(names) > 20 else ""}'
            )
    labels = list(dict.fromkeys(labels))
    if not 2 <= len(labels) <= len(MARKERS):
        raise ValueError(
            f'{len(labels)} classes: choose 2 to {len(MARKERS)} with --classes'
        )
    return labels


def choose_images(dataset, labels, num_per_class, seed):
    """Draws images of each class.

    Args:
        dataset (Dataset): Of MMPretrain.
        labels (Sequence[int]): The classes.
        num_per_class (int): How many; all where there are fewer.
        seed (int): Of the choice.

    Returns:
        list[int]: Their indices in the data set.
    """
    of = np.array(dataset.get_gt_labels())
    random = np.random.RandomState(seed)
    chosen = []
    for label in labels:
        indices = np.flatnonzero(of == label)
        if len(indices) < 2:
            raise ValueError(
                f'the test set has {len(indices)} images of class '
                f'{dataset.CLASSES[label]}'
            )
        chosen += random.permutation(indices)[:num_per_class].tolist()
    return chosen


def identify(dataset, indices):
    """Says what the images are: file, or else content, and class."""
    infos = [dataset.get_data_info(index) for index in indices]
    return [
        (
            Path(info['img_path']).name
            if 'img_path' in info
            else np.asarray(info['img']).tobytes(),
            dataset.CLASSES[info['gt_label']],
        )
        for info in infos
    ]


@torch.no_grad()
def extract_features(model, dataset, indices, batch_size):
    """Extracts what the head of a classifier gets.

    Args:
        model (nn.Module): MMPretrain's ImageClassifier, in ``eval()``.
        dataset (Dataset): Its test set.
        indices (Sequence[int]): Of the images.
        batch_size (int): Images at once.

    Returns:
        ndarray: Shape (len(indices), C), in that order.
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


def name_runs(runs):
    """Names runs in the figure: a given label, the config, or both files."""
    stems = [Path(config).stem for config, *_ in runs]
    return [
        run[2]
        if len(run) == 3
        else stem
        if stems.count(stem) == 1
        else f'{stem}, {run[1]}'
        for run, stem in zip(runs, stems, strict=True)
    ]


def draw(panels, labels, names, title):
    """Draws the networks side by side.

    Args:
        panels (dict[str, dict]): For each network its points 'embedding',
            (N, 2), and its 'silhouette'.
        labels (ndarray): Classes of the points, (N,).
        names (dict[int, str]): Of the classes.
        title (str): Above the figure.

    Returns:
        Figure: The figure.
    """
    columns = min(len(panels), 3)
    rows = -(-len(panels) // columns)
    figure, axes = plt.subplots(
        rows,
        columns,
        squeeze=False,
        figsize=(1.5 + 4 * columns, 0.8 + 4.2 * rows),
        layout='constrained',
    )
    for axis in axes.flat[len(panels) :]:
        axis.axis('off')
    for axis, (label, panel) in zip(axes.flat, panels.items(), strict=False):
        for number, (of, name) in enumerate(names.items()):
            colour = PALETTE[number % len(PALETTE)]
            axis.scatter(
                *panel['embedding'][labels == of].T,
                s=24,
                marker=MARKERS[number],
                facecolors='none' if number % 2 else colour,
                edgecolors=colour if number % 2 else 'white',
                linewidths=1 if number % 2 else 0.3,
                label=name,
            )
        axis.set(
            title=f'{label}\nsilhouette of the features '
            f'{panel["silhouette"]:.3f}',
            xlabel='t-SNE 1 (no unit)',
            ylabel='t-SNE 2 (no unit)',
            xticks=(),
            yticks=(),
        )
        axis.set_box_aspect(1)
    handles, texts = axes.flat[0].get_legend_handles_labels()
    figure.legend(
        handles,
        texts,
        loc='outside right center',
        markerscale=1.6,
        title='class',
    )
    figure.suptitle(title, fontsize=10)
    return figure


def main(argv=None):
    args = parse_args(argv)
    images, panels = None, {}
    for run, label in zip(args.run, name_runs(args.run), strict=True):
        cfg, checkpoint = read_trained(*run[:2])
        if cfg.get('default_scope') != 'mmpretrain':
            raise ValueError(
                f'{run[0]} is no config of MMPretrain: t-SNE is drawn of '
                'classifiers, which have one feature for an image'
            )
        dataset = build_dataset(cfg)
        if images is None:
            found = find_classes(list(dataset.CLASSES), args.classes)
            indices = choose_images(
                dataset, found, args.num_per_class, args.seed
            )
            if len(indices) <= args.perplexity:
                raise ValueError(
                    f'--perplexity {args.perplexity:g} needs more than the '
                    f'{len(indices)} images'
                )
            images = identify(dataset, indices)
            names = {of: dataset.CLASSES[of] for of in found}
            labels = np.array(dataset.get_gt_labels())[indices]
        elif (
            max(indices) >= len(dataset)
            or identify(dataset, indices) != images
        ):
            raise ValueError(
                f'the test set of {run[0]} has other images or classes than '
                f'that of {args.run[0][0]}'
            )
        model = load_network(cfg, checkpoint, path=run[1])
        features = extract_features(model, dataset, indices, args.batch_size)
        tsne = TSNE(perplexity=args.perplexity, random_state=args.seed)
        panels[label] = dict(
            embedding=tsne.fit_transform(features),
            silhouette=float(silhouette_score(features, labels)),
        )
        print(f'{label}: silhouette {panels[label]["silhouette"]:.3f}')

    out = Path(args.out)
    out.parent.mkdir(parents=True, exist_ok=True)
    title = (
        f't-SNE of the pooled features of {len(indices)} test images, '
        f'perplexity {args.perplexity:g}\n'
        'silhouette: −1 to 1, the higher, the '
        'farther apart the classes'
    )
    figure = draw(panels, labels, names, title)
    figure.savefig(out, dpi=110)
    figure.savefig(out.with_suffix('.pdf'))
    plt.close(figure)
    numbers = dict(
        perplexity=args.perplexity,
        seed=args.seed,
        indices=indices,
        classes=[name for _, name in images],
        networks={
            label: dict(panel, embedding=panel['embedding'].tolist())
            for label, panel in panels.items()
        },
    )
    out.with_suffix('.json').write_text(json.dumps(numbers))
    print(f'figure: {out}')


if __name__ == '__main__':
    main()
