"""Tensor files of any kind, read without ever running code from them: what `whydiff compare` is given."""

from __future__ import annotations

import pathlib
import warnings

import torch

from whydiff import limits
from whydiff.errors import Trouble, existing
from whydiff.evidence.traces.archives import is_archive
from whydiff.evidence.traces.image_file import read_image
from whydiff.evidence.traces.mapped_files import map_array
from whydiff.evidence.traces.strangers import reading, regular
from whydiff.evidence.traces.usable import from_safetensors, usable

TENSORS = (".pt", ".pth", ".bin", ".npy", ".npz", ".safetensors")
IMAGES = (".png", ".jpg", ".jpeg", ".webp", ".bmp", ".tif", ".tiff", ".gif")


def is_trace(path: pathlib.Path) -> bool:
    """A trace folder, or an archive (which only a trace can be here)."""
    return is_archive(path) or (path.is_dir() and (path / "trace.jsonl").is_file())


def read_tensors(path, as_suffix: str = "") -> dict[str, torch.Tensor]:
    """The tensors of a file by name; a file of one tensor or one image has the name "". Raises Trouble if unreadable.

    `as_suffix`: what the file is, where its own suffix does not say.
    """
    path = existing(path)
    if path.is_dir():
        raise Trouble(f"{path} is a folder; expected a file ({', '.join(TENSORS)}) or an image.")
    suffix = as_suffix or path.suffix.lower()
    if suffix in IMAGES:
        return {"": read_image(path)}
    readers = {".npy": _numpy, ".npz": _numpy, ".safetensors": from_safetensors}
    if suffix not in TENSORS:
        raise Trouble(f"{path}: the suffix {suffix or '(none)'} is not known. Readable: {', '.join(TENSORS + IMAGES)}, "
                      "and folders with a trace.jsonl.")  # fmt: skip
    return readers.get(suffix, _torch)(path)


def _torch(path: pathlib.Path) -> dict[str, torch.Tensor]:
    held = load_plain(path)
    found = dict(_named(held, "", path))
    if not found:
        raise Trouble(f"{path}: holds a {type(held).__name__} without tensors.")
    return found


def load_plain(path: pathlib.Path):
    """What `torch.save` wrote: tensors, and plain values in lists, tuples and dicts. Raises Trouble for anything else."""
    import pickle

    regular(path)
    _check_records(path)
    with reading(path, "a torch file that can be read", "Cut short? Copy it again."), warnings.catch_warnings():
        warnings.simplefilter("ignore")  # of kinds of tensors that may change: their values are what counts
        with torch.sparse.check_sparse_tensor_invariants():  # an index beyond the shape would write into foreign memory
            try:
                return _plain(torch.load(path, map_location="cpu", weights_only=True), path)
            except (pickle.UnpicklingError, RuntimeError) as error:
                if isinstance(error, pickle.UnpicklingError) or "weights_only" in str(error):
                    raise Trouble(f"{path}: holds more than tensors, and reading it could run code. Where it was made, save plain tensors: "
                                  "torch.save(tensor.cpu(), ...), or safetensors.torch.save_file({'name': tensor}, ...).") from None  # fmt: skip
                raise


def _check_records(path: pathlib.Path) -> None:
    """torch stores its tensors as they are. Records that unpack to many times the file were put there by somebody else."""
    import zipfile

    with path.open("rb") as file:
        if file.read(4) != b"PK\x03\x04":
            return
    with reading(path, "a torch file that can be read", "Cut short? Copy it again."), zipfile.ZipFile(path) as archive:
        limits.MEMBERS.check(len(archive.infolist()), path)
        limits.check_unpacked(sum(info.file_size for info in archive.infolist()), path.stat().st_size, path)


def _plain(held, path: pathlib.Path, depth: int = 0):
    """The same with every tensor dense and on the CPU. Raises Trouble for what is nested beyond the limit, or in itself."""
    limits.DEPTH.check(depth, path)
    if isinstance(held, torch.Tensor):
        return usable(held, str(path), path)
    if isinstance(held, dict):
        return {_key(key): _plain(value, path, depth + 1) for key, value in held.items()}
    if isinstance(held, (list, tuple)):
        return [_plain(value, path, depth + 1) for value in held]
    return held


def _key(key):
    return key if isinstance(key, (str, int)) else str(key)


def _named(held, name: str, path: pathlib.Path):
    """Tensors inside dicts, lists and tuples, as `key/0`."""
    if isinstance(held, torch.Tensor):
        yield name, held
    elif isinstance(held, (dict, list)):
        for key, value in held.items() if isinstance(held, dict) else enumerate(held):
            yield from _named(value, f"{name}/{key}".lstrip("/"), path)


def _numpy(path: pathlib.Path) -> dict[str, torch.Tensor]:
    import zipfile

    import numpy as np

    from whydiff.measure.tensors import as_tensor

    whole = regular(path).stat().st_size
    with reading(path, "numpy data that can be read", "Cut short, or objects? Save plain numbers again: numpy.save(file, array)."):
        with path.open("rb") as file:
            packed = file.read(4) == b"PK\x03\x04"
        if packed:
            with zipfile.ZipFile(path) as archive:
                limits.MEMBERS.check(len(archive.infolist()), path)
                for info in archive.infolist():  # before numpy makes room for what a header says
                    with archive.open(info) as member:
                        _check_header(member, info.file_size, path, info.filename)
                limits.check_unpacked(sum(info.file_size for info in archive.infolist()), whole, path)
        else:
            with path.open("rb") as file:
                _check_header(file, whole, path, "")
            if (found := map_array(path)) is not None:
                return {"": found}
        held = np.load(path, allow_pickle=False)
        arrays = {"": held} if isinstance(held, np.ndarray) else {name: held[name] for name in held.files}
        return {name: as_tensor(array, f"{path} {name}".strip()) for name, array in arrays.items()}


def _check_header(file, size: int, path: pathlib.Path, name: str) -> None:
    """Raise where an npy file promises more than it holds, or objects."""
    import math

    from numpy.lib import format as npy

    readers = {(1, 0): npy.read_array_header_1_0, (2, 0): npy.read_array_header_2_0}
    version = npy.read_magic(file)
    if version not in readers:
        return  # of names beyond Latin-1: numpy reads it, or does not
    shape, _, dtype = readers[version](file)
    if dtype.hasobject:
        raise ValueError("it holds Python objects, and reading those could run code")
    if math.prod(shape) * dtype.itemsize > size:
        raise ValueError(f"{name} promises {math.prod(shape) * dtype.itemsize:.3g} bytes and holds {size}".strip())
