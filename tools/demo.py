"""Makes the embedded data, trains a small detector on it, and shows it.

What ``make demo`` runs: the same tools as for real data, one after another.
"""

import argparse
import json
import os
import shutil
import subprocess
import sys
import time
from contextlib import contextmanager
from pathlib import Path

import torch
from mmcv.ops import get_compiling_cuda_version
from torchvision.io import read_image
from torchvision.utils import save_image

TOOLS = Path(__file__).parent
WORK_DIR = 'work_dirs/demo'
CONFIG = 'mmba2m::demo/faster-rcnn_ba2m-r18_fpn_shapes'
# of the same network; a checkout has it, a wheel begins from scratch
CELLS = TOOLS.resolve().parent / 'demo/cells.pth'
DATA = os.environ.get('SHAPES_ROOT', 'data/shapes')


def parse_args():
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument('--work-dir', default=WORK_DIR)
    text = 'settings that override the config of the training'
    kwargs = dict(nargs='+', default=[], metavar='KEY=VALUE')
    parser.add_argument('--cfg-options', help=text, **kwargs)
    return parser.parse_args()


def run(tool, *args):
    """Runs a tool of this repository, and shows its command."""
    command = [f'{TOOLS / tool}.py', *map(str, args)]
    print(f'\n$ python {" ".join(command)}', flush=True)
    env = dict(os.environ)
    if get_compiling_cuda_version() == 'not available':
        env['CUDA_VISIBLE_DEVICES'] = ''  # mmcv's ops are for the CPU only
    command = [sys.executable, *command]
    if subprocess.run(command, env=env, check=False).returncode:
        sys.exit(f'demo: {tool}.py failed, see above')


@contextmanager
def cleared(work_dir):
    """Removes what an older demo made, and notes what this one makes."""
    made = work_dir / '.made-by-demo'
    for name in made.read_text().splitlines() if made.exists() else []:
        path = work_dir / Path(name).name
        shutil.rmtree(path) if path.is_dir() else path.unlink(missing_ok=True)
    work_dir.mkdir(parents=True, exist_ok=True)
    others = set(os.listdir(work_dir)) - {made.name}
    if others:
        sys.exit(
            f'demo: {work_dir} has {", ".join(sorted(others)[:3])}, which no '
            'demo made, name another --work-dir'
        )
    try:
        yield
    finally:
        made.write_text('\n'.join(os.listdir(work_dir)))


def tile(folder, out):
    """Tiles the first 12 images, ground truth on the left of each."""
    files = sorted(Path(folder).glob('*.jpg'))[:12]
    images = torch.stack([read_image(str(file)) for file in files])
    save_image(images / 255, out, nrow=3, padding=4, pad_value=1)


def main():
    args = parse_args()
    work_dir = Path(args.work_dir)
    start = [f'load_from={CELLS}'] if CELLS.exists() else []
    settings = [*start, *args.cfg_options]
    options = ['--cfg-options', *settings] if settings else []
    with cleared(work_dir):
        demo(work_dir, options)


def demo(work_dir, options):
    start = time.time()
    run('dataset_converters/make_shapes', DATA)
    run('train', CONFIG, '--work-dir', work_dir, *options)
    checkpoint = max(
        work_dir.glob('epoch_*.pth'),
        key=lambda path: path.stat().st_mtime,
    )
    checkpoint = checkpoint.replace(work_dir / 'demo.pth')
    places = '--work-dir', work_dir / 'test', '--show-dir', 'detections'
    run('test', CONFIG, work_dir / checkpoint.name, *places, *options)
    run('analysis_tools/curves', work_dir, '--out', work_dir / 'curves.png')
    shown = next((work_dir / 'test').glob('*/detections'))
    tile(shown, work_dir / 'detections.png')
    (found,) = (work_dir / 'test').glob('*/*.json')
    metrics = json.loads(found.read_text())
    log = next(work_dir.glob('*/*.log'))
    minutes = (time.time() - start) / 60
    print(f"""
AP          {metrics['coco/bbox_mAP']:.3f}
AP50        {metrics['coco/bbox_mAP_50']:.3f}
minutes     {minutes:.1f}
checkpoint  {work_dir / checkpoint.name}
log         {log}
curves      {work_dir / 'curves.png'}
detections  {work_dir / 'detections.png'}""")


if __name__ == '__main__':
    main()
