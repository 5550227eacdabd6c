"""Shows the source files that pages link to as pages of the site."""

from html import escape
from pathlib import Path

from docutils import nodes
from sphinx import addnodes
from sphinx.transforms import SphinxTransform

LEXERS = {
    '.py': 'python',
    '.sh': 'bash',
    '.yml': 'yaml',
    '.json': 'json',
}


class LinkSources(SphinxTransform):
    """Turns MyST's downloads of local files into links to their pages."""

    default_priority = 500

    def apply(self, **kwargs):
        """Notes each file, and rewrites the link to it."""
        for node in list(self.document.findall(addnodes.download_reference)):
            _, path = self.env.relfn2path(node['reftarget'], self.env.docname)
            name = Path(path).relative_to(self.env.srcdir).as_posix()
            if not hasattr(self.env, 'linked_sources'):
                self.env.linked_sources = set()
            self.env.linked_sources.add(name)
            uri = self.app.builder.get_relative_uri(
                self.env.docname, f'source/{name}'
            )
            node.replace_self(
                nodes.reference('', '', *node.children, refuri=uri)
            )


def collect_pages(app):
    """Yields a page for each file that was linked."""
    for name in sorted(getattr(app.env, 'linked_sources', ())):
        path = Path(app.srcdir, name)
        if not path.is_file():  # gone since an earlier build
            continue
        code = app.builder.highlighter.highlight_block(
            path.read_text(encoding='utf-8'),
            LEXERS.get(path.suffix, 'none'),
        )
        title = escape(name)
        body = f'<h1>{title}</h1>\n{code}'
        yield f'source/{name}', dict(title=title, body=body), 'page.html'


def setup(app):
    """Registers both halves."""
    app.add_transform(LinkSources)
    app.connect('html-collect-pages', collect_pages)
    return dict(parallel_read_safe=False, parallel_write_safe=True)
