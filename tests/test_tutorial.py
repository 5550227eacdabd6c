import re
import shutil
import sys
from pathlib import Path

import nbformat
import pytest
from ipykernel.kernelspec import write_kernel_spec
from nbclient import NotebookClient

NOTEBOOK = Path(__file__).parents[1] / 'demo/ba2m_tutorial.ipynb'
SMALL = 'num_images, epochs = 12, 2'


def outputs(notebook):
    for cell in notebook.cells:
        yield from cell.get('outputs', ())


def text_of(notebook):
    return ''.join(
        output.get('text', '') + output.get('data', {}).get('text/plain', '')
        for output in outputs(notebook)
    )


def check(notebook, epochs):
    for cell in notebook.cells:
        if cell.cell_type == 'code':
            assert cell.execution_count is not None, cell.source
    kinds = {output.output_type for output in outputs(notebook)}
    assert kinds == {'stream', 'display_data', 'execute_result'}
    assert 'stderr' not in {o.get('name') for o in outputs(notebook)}
    text = text_of(notebook)
    # what the tutorial is about
    for stage in (1, 2, 3):
        assert re.search(rf'layer{stage}\.ba2m: weights 0\.\d+ to 1\.', text)
        assert f'backbone.layer{stage}.ba2m λ = 0.0' in text
    assert f'epoch_{epochs}.pth' in text
    assert 'BA2MResNet → ResNet' in text
    sizes = re.findall(r'^\w+ +(BA2MResNet|ResNet) [\d,]+$', text, re.M)
    assert sizes == ['BA2MResNet', 'ResNet']
    # detections, shapes, curves, weights
    kinds = [str([*output.get('data', ())]) for output in outputs(notebook)]
    assert sum('image/' in kind for kind in kinds) == 4
    assert not re.search(r'(?<![\w.}])/(?:[\w.-]+/)+', text), 'a path'
    assert sys.prefix not in nbformat.writes(notebook)


def test_what_is_published_ran_from_top_to_bottom():
    notebook = nbformat.read(NOTEBOOK, as_version=4)
    nbformat.validate(notebook)
    check(notebook, epochs=6)
    counts = [c.execution_count for c in notebook.cells if 'outputs' in c]
    assert counts == list(range(1, len(counts) + 1))
    assert NOTEBOOK.stat().st_size < 1e6


@pytest.fixture
def kernel(tmp_path, monkeypatch):
    """Has 'python3' mean this Python, whichever kernels are installed."""
    write_kernel_spec(tmp_path / 'jupyter/kernels/python3')
    monkeypatch.setenv('JUPYTER_PATH', str(tmp_path / 'jupyter'))


@pytest.mark.slow
def test_it_runs(kernel, tmp_path):
    shutil.copytree(NOTEBOOK.parent / 'cells', tmp_path / 'cells')
    shutil.copy(NOTEBOOK.parent / 'cells.pth', tmp_path)
    notebook = nbformat.read(NOTEBOOK, as_version=4)
    (at,) = (
        index
        for index, cell in enumerate(notebook.cells)
        if 'parameters' in cell.metadata.get('tags', ())
    )
    cells = [SMALL, 'import sys; print(sys.executable)']
    new = [nbformat.v4.new_code_cell(source) for source in cells]
    notebook.cells[at + 1 : at + 1] = new
    client = NotebookClient(
        notebook, timeout=300, resources=dict(metadata=dict(path=tmp_path))
    )
    client.execute()
    assert new[1].outputs[0].text.strip() == sys.executable
    notebook.cells.remove(new[1])
    check(notebook, epochs=2)
