import pytest

from mmba2m.inspect.pages import replace_section


def test_only_what_is_between_the_marks_changes():
    other = '<!-- other -->\nx\n<!-- until here -->\n'
    page = f'a\n{other}<!-- mine -->\nold\n<!-- until here -->\nb\n'
    replaced = replace_section(page, '<!-- mine -->', 'new\n')
    assert replaced == (
        f'a\n{other}<!-- mine -->\n\nnew\n\n<!-- until here -->\nb\n'
    )
    assert replace_section(replaced, '<!-- mine -->', 'new') == replaced


@pytest.mark.parametrize('page', ['a\n', 'a\n<!-- mine -->\nb\n'])
def test_a_page_without_marks_is_refused(page):
    with pytest.raises(ValueError, match=r'the page has no .*<!-- mine -->'):
        replace_section(page, '<!-- mine -->', 'new')
