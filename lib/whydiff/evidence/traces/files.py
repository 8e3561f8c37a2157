"""Tensor files of any kind, read without ever running code from them: what `whydiff compare` is given."""

from __future__ import annotations

import pathlib

import torch

from whydiff.errors import Trouble, did_you_mean
from whydiff.evidence.traces.archives import is_archive
from whydiff.evidence.traces.mapped_files import map_array, map_tensors
from whydiff.measure.mapped import large

TENSORS = (".pt", ".pth", ".bin", ".npy", ".npz", ".safetensors")
IMAGES = (".png", ".jpg", ".jpeg", ".webp", ".bmp", ".tif", ".tiff", ".gif")


def is_trace(path: pathlib.Path) -> bool:
    """A trace folder, or an archive (which only a trace can be here)."""
    return is_archive(path) or (path.is_dir() and (path / "trace.jsonl").is_file())


def existing(path) -> pathlib.Path:
    """The path, or Trouble that names the nearest file beside it."""
    path = pathlib.Path(path)
    if not path.exists():
        beside = [p.name for p in path.parent.iterdir()] if path.parent.is_dir() else []
        raise Trouble(f"{path} does not exist.{did_you_mean(path.name, beside)}")
    return path


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
    readers = {".npy": _numpy, ".npz": _numpy, ".safetensors": _safetensors}
    if suffix not in TENSORS:
        raise Trouble(f"{path}: the suffix {suffix or '(none)'} is not known. Readable: {', '.join(TENSORS + IMAGES)}, "
                      "and folders with a trace.jsonl.")  # fmt: skip
    return readers.get(suffix, _torch)(path)


def read_image(path: pathlib.Path) -> torch.Tensor:
    """(B, H, W, C) float32 in [0, 1]."""
    from PIL import Image, UnidentifiedImageError

    from whydiff.measure.pictures import to_image

    try:
        with Image.open(path) as picture:
            return to_image(picture.convert("RGB"))[0]
    except (UnidentifiedImageError, OSError, ValueError, SyntaxError) as error:
        raise Trouble(f"{path}: not an image that can be read ({error}).") from None


def _torch(path: pathlib.Path) -> dict[str, torch.Tensor]:
    held = load_plain(path)
    found = dict(_named(held, ""))
    if not found:
        raise Trouble(f"{path}: holds a {type(held).__name__} without tensors.")
    return found


def load_plain(path: pathlib.Path):
    """What `torch.save` wrote: tensors, and plain values in lists, tuples and dicts. Raises Trouble for anything else."""
    import pickle
    import zipfile

    try:
        return torch.load(path, map_location="cpu", weights_only=True)
    except pickle.UnpicklingError:
        raise Trouble(f"{path}: holds more than tensors, and reading it could run code. Save plain tensors: "
                      "torch.save(tensor.cpu(), ...), or use safetensors.") from None  # fmt: skip
    except (OSError, RuntimeError, EOFError, ValueError, zipfile.BadZipFile) as error:
        raise Trouble(f"{path}: cannot be read as a torch file ({_first_line(error)}). Cut short? Copy it again.") from None


def _named(held, name: str):
    """Tensors inside dicts, lists and tuples, as `key/0`."""
    if isinstance(held, torch.Tensor):
        yield name, held
    elif isinstance(held, (dict, list, tuple)):
        for key, value in held.items() if isinstance(held, dict) else enumerate(held):
            yield from _named(value, f"{name}/{key}".lstrip("/"))


def _numpy(path: pathlib.Path) -> dict[str, torch.Tensor]:
    import zipfile

    import numpy as np

    from whydiff.measure.tensors import as_tensor

    if path.suffix.lower() == ".npy" and (found := map_array(path)) is not None:
        return {"": found}
    try:
        held = np.load(path, allow_pickle=False)
        arrays = {"": held} if isinstance(held, np.ndarray) else {name: held[name] for name in held.files}
    except (OSError, ValueError, EOFError, zipfile.BadZipFile, KeyError) as error:
        raise Trouble(f"{path}: cannot be read as numpy data ({_first_line(error)}). Cut short, or objects?") from None
    return {name: as_tensor(array, f"{path} {name}".strip()) for name, array in arrays.items()}


def _safetensors(path: pathlib.Path) -> dict[str, torch.Tensor]:
    from safetensors import SafetensorError

    try:
        return map_tensors(path, leaves=large([path]))
    except (SafetensorError, ValueError, OSError, KeyError) as error:
        raise Trouble(f"{path}: not a whole safetensors file ({_first_line(error)}). It was cut short or is damaged: "
                      "copy it again, or save it again.") from None  # fmt: skip


def _first_line(error: BaseException) -> str:
    text = str(error).strip() or type(error).__name__
    return text.splitlines()[0][:200].rstrip(".")
