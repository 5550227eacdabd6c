"""What the converters share: their command line, and how they fail."""

import argparse
import pickle
import sys
from collections.abc import Callable
from pathlib import Path


def create_parser(description: str, source: str = 'IN.pth'):
    """Creates a parser for a checkpoint and the name of a new one.

    Args:
        description: What the tool does.
        source: How its help calls the checkpoint. Defaults to 'IN.pth'.

    Returns:
        argparse.ArgumentParser: With ``checkpoint`` and ``out``.
    """
    parser = argparse.ArgumentParser(
        description=description,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument('checkpoint', metavar=source)
    parser.add_argument('out', metavar='OUT.pth', type=_checkpoint_name)
    return parser


def _checkpoint_name(name):
    if not name.endswith('.pth'):
        raise argparse.ArgumentTypeError(f'{name} must end in .pth')
    return Path(name)


def run(convert: Callable, args: argparse.Namespace) -> None:
    """Prints the lines that a tool reports, or ends with what is wrong."""
    try:
        report = convert(args)
    except (ValueError, OSError, pickle.UnpicklingError) as error:
        sys.exit(f'{convert.__name__}: {error}')
    print('\n'.join(report))
