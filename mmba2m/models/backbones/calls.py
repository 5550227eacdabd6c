"""The check that a backbone calls the modules that it was given."""

from functools import partial
from typing import Any

import torch


def check_calls(backbone: Any, inputs: tuple) -> None:
    """Lets the first training step fail if a module is not called.

    A forward pre-hook. A module that is never called, as the host's forward
    goes around it, would be as if it were not there, without a word.

    Raises:
        RuntimeError: Behind the forward pass, if a module with parameters
            that train was not called.
    """
    if backbone._calls_checked or not backbone.training or _is_captured():
        return
    backbone._calls_checked = True
    called: set[str] = set()
    handles = []
    for name in backbone.attention_names:
        module = backbone.get_submodule(name)
        if any(p.requires_grad for p in module.parameters()):
            mark = partial(_mark, called, name)
            handles.append((name, module.register_forward_hook(mark)))

    def finish(backbone, inputs, output):
        last.remove()
        for _, handle in handles:
            handle.remove()
        left = [name for name, _ in handles if name not in called]
        if left:
            raise RuntimeError(
                f'{", ".join(left)}: never called, so nothing trains there. '
                f'The forward of {type(backbone).__name__} goes around '
                f'{"it" if len(left) == 1 else "them"}; its _stages has to '
                'say which layers it calls'
            )

    last = backbone.register_forward_hook(finish)


def _mark(called, name, module, inputs, output):
    called.add(name)


def _is_captured() -> bool:
    if hasattr(torch.compiler, 'is_compiling'):
        return torch.compiler.is_compiling() or torch.jit.is_tracing()
    return torch._dynamo.is_compiling() or torch.jit.is_tracing()
