import pytest
import torch
from mmengine.registry import DefaultScope


@pytest.fixture(autouse=True)
def _isolate():
    """The same random numbers, and no scope left by the Runner of a test."""
    torch.manual_seed(0)
    scopes = dict(DefaultScope._instance_dict)
    yield
    DefaultScope._instance_dict.clear()
    DefaultScope._instance_dict.update(scopes)
