import pickle
import re

import pytest
import torch

from mmba2m.checkpoints.files import save_checkpoint
from mmba2m.checkpoints.resume import read_newest


def checkpoint(**changes):
    weights = dict(w=torch.zeros(9), count=torch.tensor(3))
    meta = dict(epoch=1, iter=1)
    return dict(meta=meta, state_dict=weights, message_hub={}) | changes


@pytest.fixture
def make(tmp_path):
    """Makes a work dir; what is False is cut off."""

    def make(last=None, **files):
        for name, whole in files.items():
            path = tmp_path / f'{name}.pth'
            save_checkpoint(checkpoint(), path)
            if not whole:
                path.write_bytes(path.read_bytes()[:-99])
        if last is not None:
            (tmp_path / 'last_checkpoint').write_text(last)
        return tmp_path

    return make


@pytest.fixture
def warnings(monkeypatch):
    lines = []
    monkeypatch.setattr(
        'mmba2m.checkpoints.resume.print_log',
        lambda message, logger, level: lines.append(message),
    )
    return lines


def name_of(folder):
    path, checkpoint = read_newest(folder)
    assert 'meta' in checkpoint
    return path.removeprefix(f'{folder}/')


@pytest.mark.parametrize(
    'last, whole, newest',
    [
        *(
            (last, 'epoch_9 epoch_10 best_acc_epoch_12', 'epoch_10')
            for last in (None, '', '/gone/epoch_11.pth')
        ),
        (None, 'iter_900 iter_1000', 'iter_1000'),
        # the pointer wins over files of an earlier run, and one of both kinds
        ('old/place/epoch_2.pth', 'epoch_2 epoch_8', 'epoch_2'),
        ('iter_5.pth', 'epoch_1 iter_5', 'iter_5'),
    ],
)
def test_the_pointer_or_else_the_number_says_which(make, last, whole, newest):
    folder = make(last, **dict.fromkeys(whole.split(), True))
    assert name_of(folder) == f'{newest}.pth'


def test_what_cannot_be_resumed_is_named_and_the_one_before_taken(
    make, warnings
):
    folder = make('epoch_3.pth', epoch_2=True, epoch_3=False, epoch_8=True)
    assert name_of(folder) == 'epoch_2.pth'
    (warning,) = warnings
    assert f'{folder / "epoch_3.pth"} is damaged' in warning
    assert f'Going on from {folder / "epoch_2.pth"} instead' in warning
    weight = torch.zeros(99)
    weight[7] = float('nan')
    for changes, named in (
        (dict(message_hub=None), 'no training to go on with: .*load_from'),
        (dict(meta=[1]), 'no training to go on with'),
        (dict(state_dict=dict(a=1)), 'no weights, but a'),
        (dict(state_dict=dict(a=weight)), '1 weights that are NaN or .*: a$'),
        (dict(state_dict=dict(a=-1 / weight)), 'NaN or infinite: a$'),
    ):
        save_checkpoint(checkpoint(**changes), folder / 'epoch_3.pth')
        assert name_of(folder) == 'epoch_2.pth'
        reason = warnings[-1].partition('. Going on')[0]
        assert re.search(rf'epoch_3\.pth.*{named}', reason)
    torch.save(dict(meta=print), folder / 'epoch_3.pth')
    with pytest.raises(pickle.UnpicklingError, match=r'epoch_3\.pth.*print'):
        read_newest(folder)


def test_without_a_pointer_unreadable_ones_are_skipped_too(make, warnings):
    folder = make(iter_20=True, iter_40=False, iter_100=False)
    assert name_of(folder) == 'iter_20.pth'
    for warning, iteration in zip(warnings, (100, 40), strict=True):
        assert f'iter_{iteration}.pth is' in warning


def test_checkpoints_outside_the_work_dir_are_found(make, tmp_path, warnings):
    folder = make(epoch_1=True, epoch_2=False)
    (tmp_path / 'run').mkdir()
    pointer = tmp_path / 'run/last_checkpoint'
    pointer.write_text(str(folder / 'epoch_2.pth'))
    assert name_of(tmp_path / 'run') == str(folder / 'epoch_1.pth')
    save_checkpoint(checkpoint(), tmp_path / 'snapshot.pth')
    pointer.write_text(str(tmp_path / 'snapshot.pth'))
    assert name_of(pointer.parent) == str(tmp_path / 'snapshot.pth')


@pytest.mark.parametrize('content', [b'\xff\xfe', b'a' * 5000, b'a\0b'])
def test_a_pointer_that_is_no_name_points_to_nothing(make, content):
    folder = make('', epoch_1=True)
    (folder / 'last_checkpoint').write_bytes(content)
    assert name_of(folder) == 'epoch_1.pth'
    (folder / 'epoch_1.pth').unlink()
    with pytest.raises(
        FileNotFoundError, match='last_checkpoint names'
    ) as info:
        read_newest(folder)
    assert len(str(info.value)) < 500


def test_a_new_run_has_none(make, tmp_path):
    assert read_newest(make()) is None
    assert read_newest(tmp_path / 'none') is None


@pytest.mark.parametrize(
    'last, files, error',
    [
        (
            'epoch_2.pth',
            dict(epoch_1=False, epoch_2=False),
            r'can be read.*epoch_2\.pth is.*epoch_1\.pth is.*--resume PATH',
        ),
        ('/gone/epoch_9.pth', {}, r'last_checkpoint names /gone/epoch_9\.pth'),
        (None, dict(epoch_1=True, iter_5=True), 'both epoch_.*--resume PATH'),
    ],
)
def test_where_none_is_sure_it_is_an_error(make, last, files, error):
    folder = make(last, **files)
    kind = ValueError if files else FileNotFoundError
    with pytest.raises(kind, match=error):
        read_newest(folder)
