import pytest


@pytest.fixture
def tool(load_tools):
    return load_tools('benchmark')['benchmark_backbone']
