"""What command lines of tools share."""

import argparse
import os
import pickle
import sys
from collections.abc import Callable
from pathlib import Path

from mmengine.config import Config, DictAction

from mmba2m.config_files import merge_options, read_config


def create_parser(description: str) -> argparse.ArgumentParser:
    """Creates a parser with the options of every tool that runs a config.

    Args:
        description: What the tool does.

    Returns:
        With ``config`` as its first argument.
    """
    parser = argparse.ArgumentParser(description=description)
    parser.add_argument('config', help='config file, or mmba2m:: and its name')
    parser.add_argument(
        '--work-dir',
        help='folder for logs and checkpoints, by default work_dir of the '
        'config, or else work_dirs/ and the name of the config',
    )
    parser.add_argument(
        '--cfg-options',
        nargs='+',
        action=DictAction,
        metavar='KEY=VALUE',
        help='settings that override the config, e.g. '
        'train_dataloader.batch_size=4; lists as key="[a,b]" or key=a,b',
    )
    parser.add_argument(
        '--launcher',
        choices=['none', 'pytorch', 'slurm', 'mpi'],
        default='none',
        help='job launcher, none by default',
    )
    # torch.distributed.launch passes either spelling
    parser.add_argument('--local_rank', '--local-rank', type=int, default=0)
    return parser


def load_config(args: argparse.Namespace) -> Config:
    """Loads the config that the command line names, and merges its options.

    Args:
        args: From :func:`create_parser`.

    Returns:
        With ``launcher`` and ``work_dir`` set, and ours as its runner
        if it names none.

    Raises:
        ValueError: If an option has no place in the config.
    """
    os.environ.setdefault('LOCAL_RANK', str(args.local_rank))
    cfg = read_config(args.config)
    merge_options(cfg, args.cfg_options)
    cfg.launcher = args.launcher
    cfg.setdefault('runner_type', 'mmba2m.Runner')
    # command line > config > name of the config
    if args.work_dir is not None:
        cfg.work_dir = args.work_dir
    elif cfg.get('work_dir') is None:
        cfg.work_dir = str(Path('work_dirs') / Path(args.config).stem)
    return cfg


def check_checkpoint(path: str) -> None:
    """Checks that a checkpoint is there, before anything is built.

    Args:
        path: A file or folder; what has a prefix, as 'https://' or 's3:',
            is left to MMEngine.

    Raises:
        FileNotFoundError: If it is not.
    """
    if ':' not in path and not Path(path).exists():
        raise FileNotFoundError(f'there is no checkpoint {path}')


def run_main(main: Callable[[], object]) -> None:
    """Runs a tool; what its user can mend ends it in one line."""
    try:
        main()
    except (OSError, ValueError, pickle.UnpicklingError) as error:
        sys.exit(f'{Path(sys.argv[0]).stem}: {error}')
