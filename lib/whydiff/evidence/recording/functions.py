"""What torch functions return while the modules of a side run: the values that its code makes between its modules."""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterator

import torch
from torch.overrides import TorchFunctionMode


class _Results(TorchFunctionMode):
    def __init__(self, look: Callable[[str, torch.Tensor], None], stack: list[str]):
        super().__init__()
        self.look, self.stack, self.busy = look, stack, False

    def __torch_function__(self, func, types, args=(), kwargs=None):
        result = func(*args, **(kwargs or {}))
        if self.stack and not self.busy:
            self.busy = True  # looking at a tensor calls functions, too
            try:
                for tensor in result if isinstance(result, (tuple, list)) else (result,):
                    if isinstance(tensor, torch.Tensor):
                        self.look(f"{self.stack[-1]} {getattr(func, '__name__', 'function')}", tensor)
            finally:
                self.busy = False
        return result


@contextlib.contextmanager
def functions_of(components: dict[str, torch.nn.Module], look: Callable[[str, torch.Tensor], None] | None) -> Iterator[None]:
    """Call `look("component/module function", tensor)` with all that functions return inside modules of these components."""
    if look is None:
        yield
        return
    stack: list[str] = []
    with contextlib.ExitStack() as hooks:
        for component, root in components.items():
            for dotted, module in root.named_modules() if isinstance(root, torch.nn.Module) else ():
                name = f"{component}/{dotted}" if dotted else component
                hooks.callback(module.register_forward_pre_hook(lambda *_, name=name: stack.append(name)).remove)
                hooks.callback(module.register_forward_hook(lambda *_: stack.pop() and None, always_call=True).remove)
        with _Results(look, stack):
            yield
