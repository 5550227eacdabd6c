"""The examples of docs/inference.md in Python."""

import re
import shutil

import pytest
from random_checkpoints import CLASSES, ROOT, load_config

from mmba2m import HOSTS

pytest.importorskip('mmdet')
pytest.importorskip('mmpretrain')


@pytest.mark.parametrize('host', HOSTS)
def test_the_examples_of_the_page_run(
    images, checkpoints, tmp_path, monkeypatch, capsys, host
):
    page = (ROOT / 'docs/inference.md').read_text(encoding='utf-8')
    blocks = re.findall(r'```python\n(.+?)```', page, re.S)
    (block,) = (block for block in blocks if host in block)
    assert len(block.strip().splitlines()) == 5
    monkeypatch.chdir(tmp_path)
    shutil.copy(checkpoints['mmdet'], 'detector.pth')
    shutil.copy(checkpoints['mmpretrain'], 'classifier.pth')
    load_config('mmpretrain').dump('classifier.py')
    shutil.copy(images / 'a.png', 'image.jpg')
    exec(block, {})
    printed = capsys.readouterr().out
    if host == 'mmdet':
        assert (tmp_path / 'outputs/vis/image.jpg').exists()
        assert '[[' in printed
    else:
        assert printed.split()[-1] in CLASSES
