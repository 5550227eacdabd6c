"""``mmba2m check CONFIG``: what is in data, and what is wrong."""

import argparse
import sys
from collections import Counter
from collections.abc import Sequence

from mmengine.config import DictAction

from mmba2m.config_files import merge_options, read_config

from .check_data import find_problems
from .datasets import Data

LOADERS = ('train_dataloader', 'val_dataloader', 'test_dataloader')


def main(argv: Sequence[str] | None = None) -> int:
    """Checks all data of a config, and returns 1 if there is an error."""
    parser = argparse.ArgumentParser('mmba2m check', description=__doc__)
    parser.add_argument('config', help='config file')
    parser.add_argument(
        '--cfg-options',
        nargs='+',
        action=DictAction,
        metavar='KEY=VALUE',
        help='settings that override the config',
    )
    args = parser.parse_args(argv)
    try:
        cfg = read_config(args.config)
        merge_options(cfg, args.cfg_options)
    except (FileNotFoundError, ValueError) as error:
        parser.error(str(error))
    names = list(LOADERS)
    same = cfg.get(LOADERS[1]) == cfg.get(LOADERS[2])
    if same and cfg.get('val_evaluator') == cfg.get('test_evaluator'):
        names.pop()
    seen, counts = [], Counter(error=0, warning=0)
    for name, finding in find_problems(cfg, names, seen):
        kind = 'error' if isinstance(finding, Exception) else 'warning'
        counts[kind] += 1
        print(f'{kind}: {name}: {finding}'.replace('\n', ' '))
    for name, data in seen:
        print(*summarize(name, data), sep='\n')
    print(f'{counts["error"]} errors, {counts["warning"]} warnings')
    return 1 if counts['error'] else 0


def summarize(name: str, data: Data) -> list[str]:
    """Describes in lines what a data set has, as far as it was read."""
    host = data.host
    place = host.ann_file or next(iter(host.data_prefix.values()), '')
    lines = [f'{name}: {type(host).__name__} {place}']
    if data.items is None:
        return [f'{lines[0]}: not read']
    lines.append(f'    {data.items} of {data.listed} images')
    if data.objects is not None:
        lines[-1] += f', {data.kept.total()} of {data.objects} objects'
        lines.append(f'    left out: {data.describe_dropped()}')
    for label, key in enumerate(data.classes or sorted(data.kept)):
        lines.append(f'    {label} {key}: {data.kept[key]}')
    return lines


if __name__ == '__main__':
    sys.exit(main())
