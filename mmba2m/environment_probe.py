"""Imports packages, and writes down what comes of it.

``environment_report`` runs the source of this file in a process of its own,
which a broken package may end: ``python -c SOURCE FILE NAME...``. Two lines of
JSON are appended to the file for each name, the second when it is imported.
"""

import importlib
import importlib.util
import json
import sys
import warnings


def find_file(name):
    """Finds from where a package would be imported."""
    try:
        spec = importlib.util.find_spec(name.partition('.')[0])
    except (ImportError, ValueError):
        return {}
    if spec is None:
        return {}
    # a folder that is no package has no origin
    file = spec.origin or next(iter(spec.submodule_search_locations))
    return dict(file=file)


def look_at(name):
    """Imports a package.

    Args:
        name (str): Its name.

    Returns:
        dict: Its ``version``, its ``warnings``, and what :data:`DETAILS`
        adds; or an ``error``.
    """
    try:
        with warnings.catch_warnings(record=True) as caught:
            warnings.simplefilter('always')
            module = importlib.import_module(name)
        return dict(
            version=getattr(module, '__version__', None),
            warnings=[str(one.message) for one in caught],
            **DETAILS[name](module) if name in DETAILS else {},
        )
    except (Exception, SystemExit) as error:
        text = str(error).strip() or 'without a message'
        return dict(error=f'{type(error).__name__}: {text.splitlines()[0]}')


def find_gpus(torch):
    """Lists what PyTorch sees."""
    gpus = [
        torch.cuda.get_device_properties(i)
        for i in range(torch.cuda.device_count())
    ]
    return dict(
        cuda=torch.version.cuda,
        gpus=[
            f'{gpu.name}, {gpu.total_memory / 2**30:.1f} GiB, '
            f'compute capability {gpu.major}.{gpu.minor}'
            for gpu in gpus
        ],
    )


def try_ops(ops):
    """Runs one of MMCV's ops on each kind of device."""
    import torch

    boxes = torch.tensor([[0.0, 0, 4, 4], [0, 0, 4, 3.9], [5, 5, 9, 9]])
    scores = torch.tensor([0.9, 0.8, 0.7])
    devices = dict(CPU='cpu')
    if torch.cuda.is_available():
        devices['GPU'] = 'cuda'
    works, fails = [], {}
    for label, device in devices.items():
        try:
            kept = ops.nms(boxes.to(device), scores.to(device), 0.5)[1]
            assert kept.tolist() == [0, 2], f'wrong result: {kept.tolist()}'
            works.append(label)
        except Exception as error:
            fails[label] = str(error).strip().partition('\n')[0]
    return dict(
        works=works, fails=fails, compiled=ops.get_compiling_cuda_version()
    )


def find_compilers(_):
    """Takes from MMEngine's own report what is not in this one."""
    from mmengine.utils.dl_utils import collect_env

    found = collect_env()
    names = ('CUDA_HOME', 'NVCC', 'GCC', 'OpenCV')
    return dict(tools={n: str(found[n]) for n in names if found.get(n)})


DETAILS = {
    'torch': find_gpus,
    'mmcv.ops': try_ops,
    'mmengine': find_compilers,
    'mmba2m': lambda module: dict(hosts=module.HOSTS),
}

if __name__ == '__main__':
    for name in sys.argv[2:]:
        # the file first: what comes then may be the end
        for look in (find_file, look_at):
            line = json.dumps([name, look(name)])
            with open(sys.argv[1], 'a', encoding='utf-8') as stream:
                stream.write(f'{line}\n')
