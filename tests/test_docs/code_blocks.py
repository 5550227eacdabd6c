"""Reads the code blocks of pages, and what their commands run.

A page says of a block that is not checked as its language says so, in a
comment right before it, why not, or which test runs it:

    <!-- not run: it needs a network -->
    <!-- run by: tests/test_docs/test_own_data.py::test_commands -->
"""

import os
import re
import subprocess
from dataclasses import dataclass
from itertools import chain
from pathlib import Path

from markdown_it import MarkdownIt

ROOT = Path(__file__).parents[2]
SHELL = ('bash', 'sh', 'shell', 'console')
MARK = re.compile(r'<!-- (not run|run by): (.+?) -->\s*$', re.S)

#: A command does nothing but note its words; names with a slash are not
#: looked for, so each script of tools/ gets a function.
PREAMBLE = r"""
set -u
PATH=/nowhere
record() { printf '%s\0' "$block" $# "$@" >&3; }
command_not_found_handle() { record "$@"; }
for name in cd python pip source SCRIPTS; do
    eval "$name() { record $name \"\$@\"; }"
done
"""


@dataclass
class Block:
    """A code block of a page."""

    page: str
    line: int
    language: str
    text: str
    mark: str = ''  # 'not run' or 'run by'
    reason: str = ''

    def __str__(self):
        return f'{self.page}:{self.line}'


def find_pages():
    """README.md, the pages of docs/, the READMEs of demo/ and configs."""
    pages = [ROOT / 'README.md', ROOT / 'demo/README.md']
    pages += sorted(ROOT.glob('docs/**/*.md'))
    pages += sorted(ROOT.glob('configs/*/README.md'))
    names = [page.relative_to(ROOT).as_posix() for page in pages]
    return [name for name in names if '_build' not in name]


def read_blocks(page):
    """Lists the code blocks of a page."""
    text = (ROOT / page).read_text(encoding='utf-8')
    blocks, mark = [], None
    for token in MarkdownIt().parse(text):
        is_code = token.type in ('fence', 'code_block')
        if is_code and not token.info.startswith('{'):  # not a directive
            language = token.info.strip() or 'shell'
            line = token.map[0] + 1
            block = Block(page, line, language, token.content)
            if mark:
                block.mark, block.reason = mark.groups()
            blocks.append(block)
        mark = None
        if token.type == 'html_block':
            mark = MARK.search(token.content)
    return blocks


def find_blocks(*languages, mark=''):
    """The blocks of all pages in these languages, with this mark."""
    blocks = chain.from_iterable(map(read_blocks, find_pages()))
    return [b for b in blocks if b.language in languages and b.mark == mark]


def link_root(folder):
    """Makes a folder that looks like the root of the repository."""
    for name in ('configs', 'demo', 'docs', 'tests', 'tools'):
        (folder / name).symlink_to(ROOT / name)


def run_shell(blocks, folder):
    """Lets bash read blocks of one page in a folder, and do nothing.

    Returns each command as its block and its words.
    """
    scripts = [f'tools/{path.name}' for path in ROOT.glob('tools/*.sh')]
    code = PREAMBLE.replace('SCRIPTS', ' '.join(scripts))
    for i, block in enumerate(blocks):
        code += f'block={i}\n{block.text}\n'
    noted = folder / 'noted'
    with open(noted, 'wb') as stream:
        done = subprocess.run(
            ['bash', '-c', f'exec 3>&{stream.fileno()}\n{code}'],
            cwd=folder,
            pass_fds=[stream.fileno()],
            env={k: v for k, v in os.environ.items() if k == 'HOME'},
            capture_output=True,
            text=True,
            check=False,
        )
    assert not done.stderr, f'{blocks[0].page}: {done.stderr}'
    words = noted.read_bytes().decode().split('\0')[:-1]
    commands = []
    while words:
        block, count = int(words[0]), int(words[1])
        commands.append((blocks[block], words[2 : 2 + count]))
        del words[: 2 + count]
    return commands
