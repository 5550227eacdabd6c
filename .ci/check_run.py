"""Fails unless a work dir holds finite losses and an evaluation."""

import json
import math
import sys
from pathlib import Path


def main(work_dir, metric):
    """Reads the scalars that MMEngine logged, and prints a summary."""
    files = Path(work_dir).glob('*/vis_data/scalars.json')
    lines = [
        json.loads(line)
        for file in files
        for line in file.read_text().splitlines()
    ]
    losses = [line['loss'] for line in lines if 'loss' in line]
    values = [line[metric] for line in lines if metric in line]
    if not losses or not all(map(math.isfinite, losses)):
        sys.exit(f'{work_dir}: losses are {losses}')
    if not values:
        sys.exit(f'{work_dir}: {metric} was not evaluated')
    print(
        f'{work_dir}: {len(losses)} logged losses from {losses[0]:.3f} to '
        f'{losses[-1]:.3f}, {metric} {values}'
    )


if __name__ == '__main__':
    main(*sys.argv[1:])
