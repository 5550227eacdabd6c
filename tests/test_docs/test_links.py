"""Links of pages: files that are there.

``make docs`` also checks the headings that links name. Whether an address on
the web answers is not tested: tests have no network.
"""

from urllib.parse import urlsplit

import pytest
from code_blocks import ROOT, find_pages
from markdown_it import MarkdownIt


def find_links(page):
    """The targets of links and pictures of a page."""
    text = (ROOT / page).read_text(encoding='utf-8')
    for block in MarkdownIt().enable('table').parse(text):
        for token in block.children or ():
            target = token.attrs.get('href') or token.attrs.get('src')
            if target:
                yield target


@pytest.mark.parametrize('page', find_pages())
def test_links(page):
    for target in find_links(page):
        url = urlsplit(target)
        if url.scheme:
            assert url.scheme == 'https' and '.' in url.netloc, target
        elif url.path:  # in the site, a folder has no page
            path = (ROOT / page).parent / url.path
            assert path.is_file(), f'{page}: {target} is not there'
