import pickle

import pytest
import torch

from mmba2m.checkpoints.files import save_checkpoint
from mmba2m.checkpoints.resume import read_newest


@pytest.fixture
def make(tmp_path):
    """Makes a work dir; what is False is cut off."""

    def make(last=None, **files):
        for name, whole in files.items():
            path = tmp_path / f'{name}.pth'
            checkpoint = dict(meta=dict(iter=1), w=torch.zeros(9))
            save_checkpoint(checkpoint, path)
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


def path_of(folder):
    path, checkpoint = read_newest(folder)
    assert 'meta' in checkpoint
    return path


@pytest.mark.parametrize('last', [None, '', '/gone/epoch_11.pth'])
def test_without_a_pointer_the_number_says_which_is_newest(make, last):
    folder = make(last, epoch_9=True, epoch_10=True, best_acc_epoch_12=True)
    assert path_of(folder) == str(folder / 'epoch_10.pth')


def test_iterations_are_numbers_too(make):
    folder = make(iter_900=True, iter_1000=True)
    assert path_of(folder) == str(folder / 'iter_1000.pth')


def test_the_pointer_wins_over_files_of_an_earlier_run(make):
    folder = make('old/place/epoch_2.pth', epoch_2=True, epoch_8=True)
    assert path_of(folder) == str(folder / 'epoch_2.pth')


def test_an_unreadable_checkpoint_is_named_and_the_one_before_taken(
    make, warnings
):
    folder = make('epoch_3.pth', epoch_2=True, epoch_3=False, epoch_8=True)
    assert path_of(folder) == str(folder / 'epoch_2.pth')
    (warning,) = warnings
    assert f'{folder / "epoch_3.pth"} is damaged' in warning
    assert f'Going on from {folder / "epoch_2.pth"} instead' in warning


def test_without_a_pointer_an_unreadable_one_is_skipped_too(make, warnings):
    folder = make(iter_20=True, iter_40=False, iter_100=False)
    assert path_of(folder) == str(folder / 'iter_20.pth')
    assert ['iter_100.pth is' in w for w in warnings] == [True, False]
    assert ['iter_40.pth is' in w for w in warnings] == [False, True]


def test_weights_alone_are_no_run_to_resume(make, warnings):
    folder = make(epoch_1=True)
    save_checkpoint(dict(state_dict={}), folder / 'epoch_2.pth')
    assert path_of(folder) == str(folder / 'epoch_1.pth')
    assert 'epoch_2.pth has weights only' in warnings[0]


def test_checkpoints_outside_the_work_dir_are_found(make, tmp_path, warnings):
    folder = make(epoch_1=True, epoch_2=False)
    (tmp_path / 'run').mkdir()
    pointer = tmp_path / 'run/last_checkpoint'
    pointer.write_text(str(folder / 'epoch_2.pth'))
    assert path_of(tmp_path / 'run') == str(folder / 'epoch_1.pth')
    save_checkpoint(dict(meta={}), tmp_path / 'snapshot.pth')
    pointer.write_text(str(tmp_path / 'snapshot.pth'))
    assert path_of(pointer.parent) == str(tmp_path / 'snapshot.pth')


def test_a_new_run_has_none(make, tmp_path):
    assert read_newest(make()) is None
    assert read_newest(tmp_path / 'none') is None


def test_only_unreadable_ones_are_an_error(make):
    folder = make('epoch_2.pth', epoch_1=False, epoch_2=False)
    with pytest.raises(ValueError, match='can be read') as info:
        read_newest(folder)
    for text in ('epoch_1.pth is', 'epoch_2.pth is', '--resume PATH'):
        assert text in str(info.value)


def test_a_pointer_to_nothing_is_an_error(make):
    folder = make('/gone/epoch_9.pth')
    with pytest.raises(
        FileNotFoundError, match=r'last_checkpoint names /gone/epoch_9\.pth'
    ):
        read_newest(folder)


def test_epochs_and_iterations_without_a_pointer_are_ambiguous(make):
    folder = make(epoch_1=True, iter_5=True)
    with pytest.raises(ValueError, match=r'both epoch_.*--resume PATH'):
        read_newest(folder)
    folder = make('iter_5.pth')
    assert path_of(folder) == str(folder / 'iter_5.pth')


def test_what_may_run_code_is_not_skipped(make):
    folder = make(epoch_1=True)
    torch.save(dict(meta=print), folder / 'epoch_2.pth')
    with pytest.raises(pickle.UnpicklingError, match=r'epoch_2\.pth.*print'):
        read_newest(folder)
