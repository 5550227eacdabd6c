"""What must hold for the values in a file of COCO's format."""

from collections.abc import Callable, Mapping
from typing import Any

from .common import is_number


def _is_box(value):
    is_list = isinstance(value, list) and len(value) == 4
    return is_list and all(map(is_number, value))


#: what holds for a value, and what is said of one for which it does not
Rule = tuple[Callable[[Any], bool], str]
# the metric keeps larger ids inexactly; COCO's own crowds are beyond 9e11
_ID: Rule = lambda x: isinstance(x, str) or is_number(x, 2**53), 'is no number'
_REFERENCE: Rule = lambda x: not isinstance(x, (list, dict)), 'is no id'
_TEXT: Rule = lambda x: isinstance(x, str), 'is no text'
_SIDE: Rule = lambda x: is_number(x) and x > 0, 'is no number of pixels'
#: of each entry by its kind, and of the annotations that are read as boxes
RULES: dict[str, dict[str, Rule]] = dict(
    images=dict(id=_ID, file_name=_TEXT, width=_SIDE, height=_SIDE),
    annotations=dict(id=_ID, image_id=_REFERENCE, category_id=_REFERENCE),
    categories=dict(id=_ID, name=_TEXT),
    boxes=dict(
        bbox=(_is_box, 'is not four finite numbers'),
        area=(is_number, 'is no finite number'),
    ),
)


def find_problem(entry: dict, rules: Mapping[str, Rule]) -> str:
    """Which key an entry lacks, or which value breaks its rule, if any."""
    for key, (holds, remark) in rules.items():
        if key not in entry:
            return f'has no {key!r}'
        if not holds(entry[key]):
            return f'has the {key} {entry[key]!r:.99}, which {remark}'
    return ''
