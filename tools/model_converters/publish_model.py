"""Makes a checkpoint ready to be published: OUT-<hash>.pth.

It keeps weights, config, classes and what else describes them, and drops what
only a resumed training needs. The hash is the start of the file's SHA-256, as
OpenMMLab and torch.hub name and check their files. After training with EMA,
the weights are the averaged ones.
"""

import hashlib

from common import create_parser, run

from mmba2m.checkpoints.checks import describe_non_finite, find_non_finite
from mmba2m.checkpoints.files import (
    get_weights,
    load_checkpoint,
    to_bytes,
    write_new_file,
)

KEYS = ('meta', 'state_dict')


def publish_model(args):
    checkpoint = load_checkpoint(args.checkpoint)
    missing = [key for key in KEYS if key not in checkpoint]
    if missing:
        raise ValueError(
            f'{args.checkpoint} is no checkpoint of a training: it has no '
            f'{" and no ".join(missing)}'
        )
    try:
        weights = get_weights(checkpoint)
    except ValueError as error:
        raise ValueError(f'{args.checkpoint}: {error}') from error
    broken = describe_non_finite(find_non_finite(weights))
    if broken:
        raise ValueError(f'{args.checkpoint}: {broken}')
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
    run(publish_model, create_parser(__doc__).parse_args())
