import os
import pickle
import re
import resource
import signal
from unittest.mock import ANY, Mock, call
from urllib.error import URLError

import pytest
import torch
from mmengine.runner import CheckpointLoader

from mmba2m.checkpoints import files

# Loading


@pytest.fixture
def safe_loading(monkeypatch):
    monkeypatch.setattr(
        CheckpointLoader, '_schemes', dict(CheckpointLoader._schemes)
    )
    files.use_safe_loading()


def test_mmengine_loads_so_where_a_program_says(tmp_path, safe_loading):
    path = str(tmp_path / 'a.pth')
    torch.save(dict(a=torch.ones(2)), path)
    loaded = CheckpointLoader.load_checkpoint(path, 'cpu')
    assert loaded['a'].tolist() == [1, 1]
    torch.save(dict(a=print), path)
    with pytest.raises(pickle.UnpicklingError, match='holds print'):
        CheckpointLoader.load_checkpoint(path, 'cpu')
    # what was handed on is not read again
    read = dict(meta={})
    with files.handed_on({path: read}), files.handed_on({'b.pth': dict()}):
        assert files.load_checkpoint(path) is read
        assert CheckpointLoader.load_checkpoint(path) is read
    with pytest.raises(pickle.UnpicklingError):
        files.load_checkpoint(path)


def test_a_download_is_kept_and_loaded_safely(
    tmp_path, monkeypatch, safe_loading
):
    urls = []

    def download(url, file):
        urls.append(url)
        torch.save(dict(a=torch.ones(2)), file)

    monkeypatch.setattr(torch.hub, 'download_url_to_file', download)
    monkeypatch.setattr(torch.hub, 'get_dir', lambda: str(tmp_path))
    for path in ('https://x.org/r18-1a2b.pth?b=1', 'torchvision://resnet18'):
        for _ in range(2):
            loaded = CheckpointLoader.load_checkpoint(path)
            assert loaded['a'].tolist() == [1, 1]
    assert urls[0] == 'https://x.org/r18-1a2b.pth?b=1'
    assert re.search(r'resnet18-\w+\.pth$', urls[1])
    assert len(urls) == 2
    assert (tmp_path / 'checkpoints/r18-1a2b.pth').is_file()
    with pytest.raises(ValueError, match="has no 'resnet19'"):
        files.load_checkpoint('torchvision://resnet19')
    with pytest.raises(ValueError, match=r's3://a/b\.pth: download it'):
        files.load_checkpoint('s3://a/b.pth')

    def fail(url, file):
        raise URLError('no route')

    monkeypatch.setattr(torch.hub, 'download_url_to_file', fail)
    told = r'^https://x.org/b.pth cannot .*no route.*by hand: .*points/b.pth$'
    with pytest.raises(ConnectionError, match=told):
        files.load_checkpoint('https://x.org/b.pth')


def test_weights_are_found_in_each_container():
    weights = {'a.b': torch.ones(2), 'c': torch.zeros(1)}
    wrapped = {f'module.{key}': value for key, value in weights.items()}
    for checkpoint in (weights, wrapped, dict(state_dict=weights, meta={})):
        assert files.get_weights(checkpoint) == weights


@pytest.mark.parametrize(
    ('checkpoint', 'named'),
    [
        ({}, 'nothing'),
        (dict(epoch=3, arch='resnet'), 'epoch, arch'),
        (dict(state_dict=dict(a=torch.ones(1), b=2)), 'but b'),
        (dict(state_dict={}), 'nothing'),
        (dict(state_dict=[torch.ones(1)]), 'but a list'),
        ({1: torch.ones(1)}, 'but 1'),
        (dict(a=[1.0]), 'but a'),
        # a number for each of many, and none
        (dict(a=torch.ones(1).expand(9**9, 9**9)), 'but a'),
        (dict(a=torch.ones(1, device='meta')), 'but a'),
        (dict(a=torch.ones(2).to_sparse()), 'but a'),
    ],
)
def test_what_are_no_weights_is_named(checkpoint, named):
    with pytest.raises(ValueError, match=f'no weights.* {named}$'):
        files.get_weights(checkpoint)


def test_one_weight_under_two_names_is_refused():
    one = torch.ones(1)
    with pytest.raises(ValueError, match='with and without module'):
        files.get_weights({'a': one, 'module.a': one})


# Writing


def test_a_write_replaces_the_file_at_its_end_and_a_link_stays(tmp_path):
    (tmp_path / 'elsewhere').mkdir()
    path, link = tmp_path / 'elsewhere/a.pth', tmp_path / 'a.pth'
    path.write_bytes(b'old')
    link.symlink_to(path)
    with files.atomic_write(link) as stream:
        stream.write(b'new')
        stream.flush()
        assert path.read_bytes() == b'old'
    assert path.read_bytes() == b'new'
    assert link.is_symlink()
    assert os.listdir(path.parent) == ['a.pth']


def test_a_full_disk_leaves_the_old_file_and_nothing_else(tmp_path):
    path = tmp_path / 'a.pth'
    files.save_checkpoint(dict(a=1), path)
    limits = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (100_000, limits[1]))
    try:
        with pytest.raises(OSError, match=r'a\.pth was not saved') as info:
            files.save_checkpoint(dict(a=torch.zeros(100_000)), path)
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, limits)
    assert 'MiB are free there' in str(info.value)
    assert info.value.filename == str(path)
    assert files.load_checkpoint(path) == dict(a=1)
    assert os.listdir(tmp_path) == ['a.pth']


def test_the_file_is_on_disk_before_it_has_its_name(tmp_path, monkeypatch):
    calls = Mock()
    calls.fsync.side_effect, calls.replace.side_effect = os.fsync, os.replace
    monkeypatch.setattr(os, 'fsync', calls.fsync)
    monkeypatch.setattr(os, 'replace', calls.replace)
    path = str(tmp_path / 'a.pth')
    files.save_checkpoint(dict(a=1), path)
    sync = call.fsync(ANY)
    renamed = call.replace(path + files.PART_SUFFIX, path)
    assert calls.mock_calls == [sync, renamed, sync]


def test_a_killed_write_leaves_the_old_file(tmp_path):
    path = tmp_path / 'a.pth'
    files.save_checkpoint(dict(a=1), path)
    child = os.fork()
    if not child:
        with files.atomic_write(path) as stream:
            stream.write(bytes(99999))
            stream.flush()
            os.kill(os.getpid(), signal.SIGKILL)
    _, status = os.waitpid(child, 0)
    assert os.WTERMSIG(status) == signal.SIGKILL
    assert files.load_checkpoint(path) == dict(a=1)
    assert (tmp_path / f'a.pth{files.PART_SUFFIX}').stat().st_size == 99999
    files.save_checkpoint(dict(a=2), path)
    assert os.listdir(tmp_path) == ['a.pth']
    assert files.load_checkpoint(path) == dict(a=2)


def test_a_new_file_has_the_same_bytes_and_overwrites_none(tmp_path):
    content = dict(state_dict=dict(a=torch.arange(3.0)), meta=dict(b=1))
    path = tmp_path / 'a.pth'
    files.write_new_file(files.to_bytes(content), path)
    assert path.read_bytes() == files.to_bytes(content)
    assert files.load_checkpoint(path)['state_dict']['a'].tolist() == [0, 1, 2]
    with pytest.raises(FileExistsError, match=r'a\.pth exists'):
        files.write_new_file(b'new', path)
    assert path.read_bytes() == files.to_bytes(content)
    link = tmp_path / 'dangling.pth'
    link.symlink_to(tmp_path / 'gone.pth')
    with pytest.raises(FileExistsError, match=r'dangling\.pth'):
        files.check_new_file(link)
    with pytest.raises(FileNotFoundError, match='nowhere is no folder'):
        files.check_new_file(tmp_path / 'nowhere' / 'a.pth')
