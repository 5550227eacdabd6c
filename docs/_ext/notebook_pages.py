"""Reads notebooks as pages: their text, code, and outputs as they are kept."""

import json
import re

from myst_parser.parsers.sphinx_ import MystParser

PICTURES = ('image/png', 'image/jpeg')


class NotebookParser(MystParser):
    """Turns a notebook into Markdown."""

    supported = ('ipynb',)

    def parse(self, inputstring, document):
        """Parses the notebook's text as a page."""
        cells = json.loads(inputstring)['cells']
        blocks = [block for cell in cells for block in _to_markdown(cell)]
        super().parse('\n\n'.join(blocks), document)


def _to_markdown(cell):
    source = ''.join(cell['source'])
    if cell['cell_type'] == 'markdown':
        yield source
        return
    yield f'```python\n{source}\n```'
    for output in cell['outputs']:
        data = output.get('data', {})
        kind = next((kind for kind in PICTURES if kind in data), None)
        text = ''.join(output.get('text') or data.get('text/plain', ''))
        if kind:
            picture = ''.join(data[kind]).replace('\n', '')
            yield f'![](data:{kind};base64,{picture})'
        elif text.strip():
            text = re.sub(r'\x1b\[[\d;]*m', '', text)  # colours
            yield f'````text\n{text}\n````'


def setup(app):
    """Registers the parser."""
    app.add_source_suffix('.ipynb', 'ipynb')
    app.add_source_parser(NotebookParser)
    return dict(parallel_read_safe=True, parallel_write_safe=True)
