"""Do two module trees hold the same weights? Tensors are hashed one at a time; no copy of a model is kept."""

from __future__ import annotations

import collections
import dataclasses
import hashlib

import torch


@dataclasses.dataclass(frozen=True)
class Held:
    """One parameter or buffer: its shape, dtype, a hash of its values, and one of its values in sorted order."""

    name: str
    shape: tuple[int, ...]
    dtype: str
    sha: str
    sorted_sha: str
    rows: tuple[str, ...] = dataclasses.field(repr=False, default=())  # a hash for each row of a matrix or vector
    made: bool = False  # a buffer that code makes and no checkpoint holds (position ids, rotary frequencies)


@dataclasses.dataclass(frozen=True)
class Pairing:
    """How the candidate's tensors are found among the reference's, by name or by content."""

    same_name: list[str]  # name and values equal
    changed: list[str]  # the name is on both sides, the values differ
    renamed: list[tuple[str, str]]  # equal values under another name
    reordered: list[tuple[str, str]]  # the same values in another order
    fused: list[tuple[tuple[str, ...], str]]  # rows of several tensors of one side in one tensor of the other
    only_reference: list[str]
    only_candidate: list[str]
    made: list[str]  # without a counterpart too, but made by code and in no checkpoint

    @property
    def complete(self) -> bool:
        return not (self.changed or self.only_reference or self.only_candidate)


def held(module: torch.nn.Module, dtype: torch.dtype | None = None) -> dict[str, Held]:
    """Every parameter and buffer of a module, hashed; floating ones as `dtype` if given (to compare across a cast)."""
    stored = set(module.state_dict(keep_vars=True))
    tensors = [*module.named_parameters(), *module.named_buffers()]
    return {name: _held(name, tensor.detach(), dtype, name not in stored) for name, tensor in tensors}


def _held(name: str, tensor: torch.Tensor, dtype, made: bool) -> Held:
    value = tensor.to(dtype) if dtype is not None and tensor.is_floating_point() else tensor
    value = value.cpu().contiguous()
    flat = value.reshape(-1)
    rows = tuple(_sha(row) for row in value.reshape(value.shape[0], -1)) if value.dim() and value.numel() else ()
    return Held(
        name, tuple(value.shape), str(tensor.dtype).removeprefix("torch."), _sha(flat), _sha(flat.sort().values), rows, made
    )


def _sha(flat: torch.Tensor) -> str:
    raw = flat.clone(
        memory_format=torch.contiguous_format
    )  # a single value may come with stride 0, which cannot be viewed as bytes
    return hashlib.blake2b(raw.view(torch.uint8).numpy().tobytes(), digest_size=12).hexdigest() if flat.numel() else ""


def pair_weights(reference: dict[str, Held], candidate: dict[str, Held]) -> Pairing:
    """Pair two sets of tensors: first by name, then by equal content, by sorted values, and by rows fused or split."""
    mine, theirs = dict(reference), dict(candidate)
    same, changed = [], []
    if _named_alike(reference, candidate):
        for name in [n for n in reference if n in candidate]:
            a, b = mine.pop(name), theirs.pop(name)
            (same if (a.shape, a.sha) == (b.shape, b.sha) else changed).append(name)
    renamed = _by(mine, theirs, lambda t: (t.shape, t.sha))
    fused = _fused(mine, theirs) + _fused(theirs, mine)
    reordered = _by(mine, theirs, lambda t: (len(t.sorted_sha), t.sorted_sha, _size(t.shape)))
    made = [t.name for t in (*mine.values(), *theirs.values()) if t.made]
    return Pairing(
        same,
        changed,
        renamed,
        reordered,
        fused,
        [n for n, t in mine.items() if not t.made],
        [n for n, t in theirs.items() if not t.made],
        made,
    )


def _named_alike(reference, candidate) -> bool:
    """Names are trusted only when most are shared: two trees may use one name for different things."""
    return len(set(reference) & set(candidate)) * 2 > min(len(reference), len(candidate))


def _by(mine: dict[str, Held], theirs: dict[str, Held], key) -> list[tuple[str, str]]:
    index = collections.defaultdict(list)
    for tensor in mine.values():
        index[key(tensor)].append(tensor.name)
    found = []
    for name, tensor in list(theirs.items()):
        names = index[key(tensor)]
        if names:
            found.append((names.pop(0), name))
            del theirs[name], mine[found[-1][0]]
    return found


def _fused(parts: dict[str, Held], wholes: dict[str, Held]) -> list[tuple[tuple[str, ...], str]]:
    """Tensors of `wholes` whose rows are those of several `parts`, one after the other (fused q, k and v)."""
    index = collections.defaultdict(list)
    for part in parts.values():
        if part.rows:
            index[(part.shape[1:], part.rows[0])].append(part)
    found = []
    for name, whole in list(wholes.items()):
        names, at = [], 0
        while at < len(whole.rows):
            options = [
                p
                for p in index[(whole.shape[1:], whole.rows[at])]
                if p.name in parts and p.name not in names and p.rows == whole.rows[at : at + len(p.rows)]
            ]
            if not options:
                break
            part = max(options, key=lambda p: len(p.rows))
            names.append(part.name)
            at += len(part.rows)
        if at and at == len(whole.rows) and len(names) > 1:
            found.append((tuple(names), name))
            del wholes[name]
            for part in names:
                del parts[part]
    return found


def _size(shape) -> int:
    return int(torch.Size(shape).numel())
