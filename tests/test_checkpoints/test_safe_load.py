"""What load_checkpoint loads, and what it refuses."""

import os
import pickle
import zipfile
from functools import partial
from pathlib import Path

import numpy as np
import pytest
import torch
from mmengine.logging import HistoryBuffer
from mmengine.optim import MultiStepLR, OneCycleLR, ReduceOnPlateauLR

from mmba2m.checkpoints.files import load_checkpoint, save_checkpoint
from mmba2m.checkpoints.safe_load import safe_load


def checkpoint():
    """What MMEngine keeps, and hooks may add."""
    weight = torch.nn.Parameter(torch.randn(3, 2))
    optimizer = torch.optim.AdamW([weight], lr=0.1)
    weight.sum().backward()
    optimizer.step()
    schedulers = [
        MultiStepLR(optimizer, milestones=[2, 5]),
        OneCycleLR(optimizer, eta_max=0.1, total_steps=9),
        ReduceOnPlateauLR(optimizer, monitor='loss', begin=0, end=9),
    ]
    buffer = HistoryBuffer()
    buffer.update(0.25, 2)
    buffer.update(3, 1)
    return dict(
        meta=dict(
            epoch=3,
            dataset_meta=dict(classes=('a', 'b'), palette=[(1, 2, 3)]),
            matrix=np.arange(6, dtype=np.float32).reshape(2, 3),
        ),
        state_dict=torch.nn.BatchNorm2d(4).state_dict(),
        optimizer=optimizer.state_dict(),
        param_schedulers=[s.state_dict() for s in schedulers],
        message_hub=dict(log_scalars=dict(loss=buffer)),
        best=[np.float64(0.5), np.float32(2), np.int64(7), np.bool_(True)],
        random=[np.random.get_state(), torch.get_rng_state(), {1, 2}, b'ab'],
        half=torch.ones(2, dtype=torch.bfloat16),
    )


def flatten(value):
    """What a checkpoint holds and of which types, to be compared."""
    if isinstance(value, dict):
        return type(value), [(k, flatten(v)) for k, v in value.items()]
    if isinstance(value, (list, tuple)):
        return type(value), [*map(flatten, value)]
    if isinstance(value, HistoryBuffer):
        return flatten(dict(data=value.data, mean=value.mean()))
    if isinstance(value, (torch.Tensor, np.ndarray)):
        return type(value), value.dtype, value.tolist()
    return type(value), value


def equal(one, two):
    assert flatten(one) == flatten(two)


def test_what_mmengine_saves_loads_as_it_was(tmp_path):
    saved = checkpoint()
    save_checkpoint(saved, tmp_path / 'a.pth')
    equal(load_checkpoint(tmp_path / 'a.pth'), saved)
    saved = dict(state_dict=saved['state_dict'], meta=dict(epoch=1))
    torch_save_legacy(saved, tmp_path / 'a.pth')
    equal(load_checkpoint(tmp_path / 'a.pth'), saved)


def torch_save_legacy(value, path):
    torch.save(value, path, _use_new_zipfile_serialization=False)


def test_numpy_of_the_other_stack_loads(tmp_path):
    """NumPy 2 pickles numpy._core.multiarray, NumPy 1 numpy.core."""
    saved = dict(a=np.arange(3.0), b=np.float64(1.5))
    save_checkpoint(saved, tmp_path / 'a.pth')
    names = [b'numpy.core.', b'numpy._core.']
    if np.__version__ < '2':
        names.reverse()

    def rename(content):
        assert names[0] not in content and names[1] in content
        return content.replace(names[1], names[0])

    rewrite(tmp_path / 'a.pth', tmp_path / 'b.pth', rename)
    equal(load_checkpoint(tmp_path / 'b.pth'), saved)


def rewrite(source, target, change=lambda content: content, **kwargs):
    """Copies an archive with another pickle in it."""
    with (
        zipfile.ZipFile(source) as source,
        zipfile.ZipFile(target, 'w', **kwargs) as target,
    ):
        for name in source.namelist():
            content = source.read(name)
            if name.endswith('data.pkl'):
                content = change(content)
            target.writestr(name, content)


class Reduced:
    """Pickles as a call, with a state to be set."""

    def __init__(self, function, *args, state=()):
        self.call = (function, args, *state)

    def __reduce__(self):
        return self.call


def pickle_dump(value, path):
    Path(path).write_bytes(pickle.dumps(value))


@pytest.mark.parametrize('save', [torch.save, torch_save_legacy, pickle_dump])
@pytest.mark.parametrize(
    'function, name',
    [
        (os.system, f'{os.name}.system'),
        (eval, 'eval'),
        (partial, 'functools.partial'),
        (torch.load, 'torch.serialization.load'),
    ],
)
def test_a_pickle_that_runs_code_is_refused(tmp_path, save, function, name):
    proof = tmp_path / 'proof'
    text = f'__import__("pathlib").Path({str(proof)!r}).touch()'
    argument = text if function is eval else f'touch {proof}'
    save(dict(state_dict={}, meta=Reduced(function, argument)), tmp_path / 'a')
    with pytest.raises((pickle.UnpicklingError, ValueError)) as info:
        load_checkpoint(tmp_path / 'a')
    assert str(tmp_path / 'a') in str(info.value)
    if save is not pickle_dump:  # no checkpoint to start with
        assert info.type is pickle.UnpicklingError
        assert f'holds {name}, and pickled objects' in str(info.value)
        assert 'TORCH_FORCE_NO_WEIGHTS_ONLY_LOAD=1' in str(info.value)
    assert not proof.exists()


@pytest.mark.parametrize(
    'function, args',
    [
        # more than statistics
        (getattr, (HistoryBuffer, '__init__')),
        (getattr, (torch.Tensor, 'tofile')),
        (getattr, (dict, 'get')),
        # more than numbers
        *((np.dtype, [code]) for code in ('V8', 'O', 'M8', 'U2', ['a'])),
        # memory of the file as objects
        (np.ndarray, ((1,), 'O', bytearray(8))),
    ],
)
def test_what_reaches_further_is_refused(tmp_path, function, args):
    torch.save(dict(a=Reduced(function, *args)), tmp_path / 'a.pth')
    with pytest.raises((pickle.UnpicklingError, ValueError), match=r'a\.pth'):
        load_checkpoint(tmp_path / 'a.pth')


def test_the_state_of_a_dtype_changes_nothing(tmp_path):
    """Flags would say that memory holds pointers to objects."""
    flags = (4, '|', None, None, None, 8, 1, 63)
    dtype = Reduced(np.dtype, 'f8', False, True, state=[flags])
    state = (1, (1,), dtype, False, b'\x01' * 8)
    new = np.zeros(1).__reduce__()[0]
    array = Reduced(new, np.ndarray, (0,), b'b', state=[state])
    torch.save(dict(a=array), tmp_path / 'a.pth')
    found = load_checkpoint(tmp_path / 'a.pth')['a']
    assert found.dtype.flags == np.dtype('f8').flags == 0
    assert found.tobytes() == b'\x01' * 8


@pytest.mark.parametrize(
    'owner',
    [
        b'mmengine.logging.history_buffer\nHistoryBuffer',
        b'torch._utils\n_rebuild_tensor_v2',
        b'collections\nCounter',
    ],
)
def test_classes_and_functions_stay_as_they_are(tmp_path, owner):
    attack = b'\x80\x02c' + owner + b'\nN}X\4\0\0\0meanK\1s\x86b.'
    save_checkpoint(dict(a=1), tmp_path / 'a.pth')
    rewrite(tmp_path / 'a.pth', tmp_path / 'b.pth', lambda _: attack)
    with pytest.raises((pickle.UnpicklingError, ValueError), match=r'b\.pth'):
        load_checkpoint(tmp_path / 'b.pth')
    assert callable(HistoryBuffer.mean)
    assert not hasattr(torch._utils._rebuild_tensor_v2, 'mean')


def test_what_the_user_trusts_loads(tmp_path, monkeypatch):
    torch.save(dict(a=Reduced(len, 'four')), tmp_path / 'a.pth')
    with pytest.raises(pickle.UnpicklingError, match='holds len'):
        load_checkpoint(tmp_path / 'a.pth')
    monkeypatch.setenv('TORCH_FORCE_NO_WEIGHTS_ONLY_LOAD', '1')
    assert load_checkpoint(tmp_path / 'a.pth') == dict(a=4)


def test_damaged_files_are_named(tmp_path):
    path = tmp_path / 'bad.pth'
    save_checkpoint(checkpoint(), path)
    whole = path.read_bytes()
    lengths = (0, 1, 100, len(whole) // 2, len(whole) - 1)
    for content in (
        *(whole[:length] for length in lengths),
        # power failure: the length is there, the content is not
        whole[:2000] + bytes(len(whole) - 2000),
        b'<html>not found</html>',
    ):
        path.write_bytes(content)
        with pytest.raises(ValueError, match=r'bad\.pth is damaged') as info:
            load_checkpoint(path)
        assert 'weights_only' not in str(info.value)
    torch.save([1, 2], path)
    with pytest.raises(ValueError, match=r'bad\.pth .* it holds a list'):
        load_checkpoint(path)
    torch.jit.script(torch.nn.Linear(2, 2)).save(str(path))
    with pytest.raises(ValueError, match=r'd\.pth .*no checkpoint.*TorchScr'):
        load_checkpoint(path)
    with pytest.raises(FileNotFoundError, match=r'none\.pth'):
        load_checkpoint(tmp_path / 'none.pth')
    path.rename(tmp_path / 'a.safetensors')
    with pytest.raises(ValueError, match=r'a\.safetensors .*load_file'):
        load_checkpoint(tmp_path / 'a.safetensors')


def test_torchscript_behind_another_directory_is_refused(tmp_path):
    """Python finds the one before the end, torch the one at its offset."""
    script, path = tmp_path / 'script.pth', tmp_path / 'a.pth'
    torch.jit.script(torch.nn.Linear(2, 2)).save(str(script))
    rewrite(script, path)
    content = path.read_bytes()
    directory, end = content.index(b'PK\1\2'), content.index(b'PK\5\6')
    other = content[directory:end].replace(b'constants.pkl', b'constantz.pkl')
    path.write_bytes(content[:end] + other + content[end:])
    names = zipfile.ZipFile(path).namelist()
    assert not any('constants.pkl' in name for name in names)
    records = torch._C.PyTorchFileReader(str(path)).get_all_records()
    assert 'constants.pkl' in records
    for load in (load_checkpoint, partial(safe_load, map_location='cpu')):
        with pytest.raises((pickle.UnpicklingError, ValueError, RuntimeError)):
            load(str(path))


def test_each_flipped_bit_is_found(tmp_path):
    saved = dict(state_dict=dict(a=torch.arange(99.0)), meta=dict(epoch=1))
    save_checkpoint(saved, tmp_path / 'a.pth')
    whole = (tmp_path / 'a.pth').read_bytes()
    start = whole.index(saved['state_dict']['a'].numpy().tobytes())
    for place in (start + 3, start + 99, whole.index(b'epoch')):
        flipped = bytearray(whole)
        flipped[place] ^= 64
        (tmp_path / 'b.pth').write_bytes(flipped)
        torch.load(tmp_path / 'b.pth')  # sees nothing
        with pytest.raises(ValueError, match=r'b\.pth .*checksum.*data'):
            load_checkpoint(tmp_path / 'b.pth')


def test_what_unpacks_to_more_is_not_unpacked(tmp_path):
    save_checkpoint(dict(a=torch.zeros(99999)), tmp_path / 'a.pth')
    packed = dict(compression=zipfile.ZIP_DEFLATED)
    rewrite(tmp_path / 'a.pth', tmp_path / 'b.pth', **packed)
    with pytest.raises(ValueError, match=r'b\.pth .*unpacks to \d+ bytes'):
        load_checkpoint(tmp_path / 'b.pth')
