"""Is there anything at all that could make a difference? Fingerprints of what runs: code, weights, configuration.

A comparison of a thing with itself, or with a copy of itself, proves nothing; a real investigation once reported
"noise matches, 0.00" after drawing twice from one generator. Two sides are the same thing when code, weights, `build`,
`call`, settings and environment are all the same.
"""

from __future__ import annotations

import functools
import hashlib
import importlib.metadata
import inspect
import re
import sys
import types
from collections.abc import Mapping

import torch

from whydiff.evidence.surroundings.offloaded import named_tensors
from whydiff.measure.tensors import raw_bytes

DEPTH = 6
RECORDS = "__whydiff_records__"  # a wrapper that only records is no code of the side's
_PLAIN = (str, bytes, int, float, bool, complex, type(None))
# Bookkeeping that differs between two loads of one thing without any effect on what it computes.
_IGNORED = {"_name_or_path", "_use_default_values", "_diffusers_version", "name_or_path", "_commit_hash", "_internal_dict",
            "_progress_bar_config", "training_step", "_backward_hooks", "_backward_pre_hooks", "_forward_hooks_always_called",
            "_non_persistent_buffers_set", "_is_full_backward_hook", "_parameters", "_buffers", "_modules", "__doc__",
            "transformers_version", "_attn_implementation_autoset", "_load_state_dict_pre_hooks",
            "_hf_hook", "_old_forward"}  # fmt: skip  (those two say where weights lie between calls: they are read as weights)


@functools.cache
def package_version(package: str) -> str | None:
    try:
        return importlib.metadata.version(package)
    except importlib.metadata.PackageNotFoundError:
        return None


@functools.cache
def _class_source(cls: type) -> str:
    """Hash of the source of a class's module, or of its name where there is no source, and of the methods it has now.

    A class made or patched at run time says the same module and name as the one it was made from; its methods tell.
    """
    return hashlib.sha256(f"{cls.__qualname__}\n{_source(cls)}\n{_methods(cls)}".encode()).hexdigest()


@functools.cache
def _source(cls: type) -> str:
    try:
        return inspect.getsource(inspect.getmodule(cls))
    except (TypeError, OSError):
        return f"{cls.__module__}.{cls.__qualname__} {package_version(cls.__module__.split('.')[0])}"


@functools.cache
def _methods(cls: type) -> str:
    """The code of every method of a class and of what it derives from, by name, the first in the order of lookup."""
    found: dict[str, str] = {}
    for kind in cls.__mro__:
        for name, value in vars(kind).items():
            if _put_in_by_others(kind, name):
                continue
            inner = getattr(value, "__func__", None) or getattr(value, "fget", None) or value
            if isinstance(inner, types.FunctionType) and (chain := _wrapped(inner)):
                found.setdefault(name, "".join(map(_code, chain)))
    return repr(sorted(found.items()))


def _put_in_by_others(kind: type, name: str) -> bool:
    """Was a method put into a class from outside, where it takes no other's place? transformers does that to `torch.nn.Module`;
    nothing that was there before calls it."""
    words = _words(kind.__module__)
    return bool(words) and name not in words and not any(hasattr(base, name) for base in kind.__mro__[1:])


@functools.cache
def _words(module: str) -> frozenset[str]:
    """Every word in the source of a module; none where there is no source."""
    try:
        return frozenset(re.findall(r"\w+", inspect.getsource(sys.modules[module])))
    except (TypeError, OSError, KeyError):
        return frozenset()


def _wrapped(function) -> list:
    """A function and what it says it wraps: a decorator is code, too."""
    chain = [function]
    while (inner := getattr(chain[-1], "__wrapped__", None)) is not None and inner not in chain:
        chain.append(inner)
    return [f for f in chain if hasattr(f, "__code__") and not getattr(f, RECORDS, False)]


def _code(function) -> str:
    code = function.__code__
    return repr((code.co_code.hex(), _constants(code), code.co_names))


def _constants(code: types.CodeType) -> list:
    return [(c.co_code.hex(), _constants(c), c.co_names) if isinstance(c, types.CodeType) else _constant(c) for c in code.co_consts]


def _constant(value) -> str:
    """In every process the same: the order of a set of words is not."""
    return repr(sorted(map(repr, value))) if isinstance(value, frozenset) else repr(value)


def _function(function, seen, depth) -> str:
    """A function by its code, constants, defaults and what it closes over."""
    chain = _wrapped(function)
    if not chain:
        return repr(getattr(function, "__qualname__", function))
    parts = []
    for inner in chain:
        cells = []
        for cell in inner.__closure__ or ():
            try:
                cells.append(_walk(cell.cell_contents, seen, depth - 1))
            except ValueError:
                cells.append("empty")
        bound = _walk(inner.__self__, seen, depth - 1) if inspect.ismethod(inner) else ""
        parts.append((_code(inner), _walk(inner.__defaults__, seen, depth - 1), _walk(inner.__kwdefaults__, seen, depth - 1), cells, bound))
    return repr(parts)


def tensor_fingerprint(tensor: torch.Tensor) -> str:
    """Values, dtype and memory layout of a tensor."""
    raw = tensor.detach() if tensor.is_meta else tensor.detach().cpu().contiguous()
    digest = hashlib.sha256(raw_bytes(raw)).hexdigest() if raw.numel() and not raw.is_meta else ""
    return f"{tensor.dtype} {tuple(tensor.shape)} {tensor.stride()} {tensor.device} {digest}"


def _walk(value, seen: dict, depth: int) -> str:
    if isinstance(value, _PLAIN):
        return repr(value)
    if isinstance(value, (torch.dtype, torch.device, torch.Size)):
        return repr(value)
    if isinstance(value, types.ModuleType):  # what it holds is the library's, not the side's
        return f"module {value.__name__}"
    if id(value) in seen:
        return seen[id(value)][1]
    if depth <= 0:
        return type(value).__qualname__
    seen[id(value)] = (value, "cycle")  # the value is kept alive: an id is only unique among living objects
    if isinstance(value, torch.Tensor):
        text = tensor_fingerprint(value)
    elif isinstance(value, torch.nn.Module):
        text = _module(value, seen, depth)
    elif isinstance(value, Mapping):
        text = repr(sorted((str(k), _walk(v, seen, depth - 1)) for k, v in value.items() if k not in _IGNORED))
    elif isinstance(value, (list, tuple)):
        text = repr([_walk(v, seen, depth - 1) for v in value])
    elif isinstance(value, (set, frozenset)):
        text = repr(sorted(_walk(v, seen, depth - 1) for v in value))
    elif inspect.isroutine(value):
        text = _function(value, seen, depth)
    elif isinstance(value, type):
        text = f"class {_class_source(value)}"
    elif isinstance(value, torch.Generator):
        text = f"generator {value.device} {tensor_fingerprint(value.get_state())}"
    elif type(value).__module__.startswith("tokenizers") or hasattr(value, "backend_tokenizer"):
        text = _tokenizer(value)
    else:
        attributes = getattr(value, "__dict__", {})
        text = repr((_class_source(type(value)), [(k, _walk(v, seen, depth - 1)) for k, v in sorted(attributes.items())
                                                  if k not in _IGNORED]))  # fmt: skip
    digest = hashlib.sha256(text.encode()).hexdigest()
    seen[id(value)] = (value, digest)
    return digest


def _module(module: torch.nn.Module, seen: dict, depth: int) -> str:
    """Classes, attributes, hooks and weights of a module and all modules in it."""
    parts = []
    for name, inner in module.named_modules():
        own = {k: v for k, v in vars(inner).items() if k not in _IGNORED and not (k.startswith("_") and not v)}
        parts.append((name, _class_source(type(inner)), [(k, _walk(v, seen, min(depth - 1, 3))) for k, v in sorted(own.items())]))
    return repr((parts, [(name, tensor_fingerprint(t)) for name, t in named_tensors(module)]))


def _tokenizer(value) -> str:
    backend = getattr(value, "backend_tokenizer", value)
    text = backend.to_str() if hasattr(backend, "to_str") else repr(value)
    return hashlib.sha256(text.encode()).hexdigest() + repr(getattr(value, "model_max_length", ""))


def _forget() -> None:
    """Classes may have been patched since the last question."""
    _methods.cache_clear()
    _class_source.cache_clear()


def code_fingerprint(subject) -> str:
    """A short hash of the code that runs: the callable's class or function, and its components' classes."""
    _forget()
    parts = [_function(subject, {}, 2) if inspect.isroutine(subject) else _class_source(type(subject))]
    for name, component in sorted((getattr(subject, "components", None) or {}).items()):
        parts.append(f"{name} {_class_source(type(component))}")
    return hashlib.sha256("\n".join(parts).encode()).hexdigest()[:16]


def fingerprint(subject) -> str:
    """A hash of everything about a side that could make a difference: code, configuration, weights, hooks."""
    _forget()
    return _walk(subject, {}, DEPTH)
