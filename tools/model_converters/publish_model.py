"""Makes a checkpoint ready to be published: OUT-<hash>.pth.

It keeps weights, config, classes and what else describes them, and drops what
only a resumed training needs. The hash is the start of the file's SHA-256, as
OpenMMLab and torch.hub name and check their files. After training with EMA,
the weights are the averaged ones.
"""

import hashlib
import os

if __name__ == '__main__':  # before mmba2m is imported
    os.environ['MMBA2M_WITHOUT_HOSTS'] = '1'

from common import create_parser, run

from mmba2m.checkpoints.checks import read_weights
from mmba2m.checkpoints.files import load_checkpoint, to_bytes, write_new_file

KEYS = ('meta', 'state_dict')


def parse_args():
    parser = create_parser(__doc__)
    text = 'weights of 16 bits, half the file: test what it costs'
    parser.add_argument('--half', action='store_true', help=text)
    return parser.parse_args()


def publish_model(args):
    checkpoint = load_checkpoint(args.checkpoint)
    missing = [key for key in KEYS if key not in checkpoint]
    if missing:
        raise ValueError(
            f'{args.checkpoint} is no checkpoint of a training: it has no '
            f'{" and no ".join(missing)}'
        )
    weights = read_weights(checkpoint, args.checkpoint)
    if args.half:
        weights = {
            key: value.half() if value.is_floating_point() else value
            for key, value in weights.items()
        }
        read_weights(weights, f'{args.checkpoint} in 16 bits')
    content = to_bytes(dict(meta=checkpoint['meta'], state_dict=weights))
    digest = hashlib.sha256(content).hexdigest()[:8]
    out = args.out.with_name(f'{args.out.stem}-{digest}.pth')
    write_new_file(content, out)
    dropped = [key for key in checkpoint if key not in KEYS]
    return [
        f'dropped: {", ".join(dropped) or "nothing"}',
        f'wrote {out} ({len(weights)} weights, {len(content) / 2**20:.1f} '
        'MiB)',
    ]


if __name__ == '__main__':
    run(publish_model, parse_args())
