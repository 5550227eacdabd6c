"""Checks of the data sets of a config, before anything is built from it.

What is wrong with data shows late and without a name in the hosts: a missing
file after the model was built, half an annotation file without its path, a
misspelt class as a silent shift of the labels.
"""

from .check_data import check_data
from .datasets import only_formats
from .heads import check_trained
from .palette import complete_palette, complete_palettes

__all__ = [
    'check_data',
    'check_trained',
    'complete_palette',
    'complete_palettes',
    'only_formats',
]
