"""Whether a forward pass is run or captured."""

import torch


def is_captured():
    """Whether the graph is being traced, exported or compiled.

    What is captured is the plain form of a layer: compilers have means of
    their own, and exporters know the common operators only.
    """
    if hasattr(torch.compiler, 'is_compiling'):
        compiling = torch.compiler.is_compiling()
    else:  # torch < 2.3
        compiling = torch._dynamo.is_compiling()
    return compiling or torch.jit.is_tracing()
