"""Pages of which a tool writes a part."""

END = '<!-- until here -->\n'


def replace_section(page, begin, section):
    """Puts what a tool writes between the marks of a page.

    Args:
        page (str): Markdown with the line ``begin`` and, behind it,
            ``<!-- until here -->``.
        begin (str): An HTML comment that names what is between the marks.
        section (str): Markdown.

    Returns:
        str: The page with this section.

    Raises:
        ValueError: If a mark is missing.
    """
    before, found, rest = page.partition(f'{begin}\n')
    _, closed, after = rest.partition(END)
    if not found or not closed:
        raise ValueError(f'the page has no {begin!r} … {END.strip()!r}')
    return f'{before}{begin}\n\n{section.strip()}\n\n{END}{after}'
