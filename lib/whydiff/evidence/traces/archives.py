"""A trace that came as one file: a zip or tar of its folder. Only names without folders are written, and no more than a limit of bytes."""

from __future__ import annotations

import contextlib
import gzip
import io
import pathlib
import tarfile
import tempfile
import zipfile

from whydiff import limits
from whydiff.errors import Trouble
from whydiff.evidence.traces.strangers import is_plain_name, reading

SUFFIXES = (".zip", ".tar", ".tgz", ".tar.gz")
_PIECE = 1 << 20


def is_archive(path: pathlib.Path) -> bool:
    return path.name.lower().endswith(SUFFIXES) and path.is_file()


@contextlib.contextmanager
def unpacked(path: pathlib.Path):
    """The folder of the trace in an archive, for as long as the context lasts. Only the files beside its trace.jsonl are taken out.

    Raises Trouble for what is no archive, or holds no trace or several.
    """
    with tempfile.TemporaryDirectory() as folder:
        with members_of(path) as members:
            lines = [name for name in members if pathlib.PurePosixPath(name).name == "trace.jsonl"]
            if len(lines) != 1:
                raise Trouble(f"{path} holds {len(lines) or 'no'} trace.jsonl; give an archive of one trace folder.")
            home = pathlib.PurePosixPath(lines[0]).parent
            wanted = {name: pathlib.PurePosixPath(name).name for name in members if pathlib.PurePosixPath(name).parent == home}
            take(path, members, {name: file for name, file in wanted.items() if file == "trace.jsonl" or file.endswith(".safetensors")},
                 pathlib.Path(folder))  # fmt: skip
        yield pathlib.Path(folder)


def take(path: pathlib.Path, members: dict, wanted: dict[str, str], folder: pathlib.Path) -> None:
    """Write members as files: {member: relative name}. Raises Trouble where they are more than the archive's size accounts for."""
    total, packed = 0, path.stat().st_size
    for name, file in wanted.items():
        if not all(map(is_plain_name, file.split("/"))):
            raise Trouble(f"{path}: its member {name[:100]!r} has a name that is no file's.")
        target = folder / file
        with reading(path, "a whole archive", "Copy it again."):
            target.parent.mkdir(parents=True, exist_ok=True)
            with members[name]() as source, target.open("wb") as out:
                while piece := source.read(_PIECE):
                    total += len(piece)
                    limits.check_unpacked(total, packed, path)
                    out.write(piece)


@contextlib.contextmanager
def members_of(path: pathlib.Path):
    """{member: a function that opens it for reading} of the plain files in an archive; no links, no devices."""
    with contextlib.ExitStack() as stack:
        with reading(path, "a whole archive", "Copy it again."):
            found = _zip(path, stack) if path.suffix.lower() == ".zip" else _tar(path, stack)
        yield found


def _zip(path: pathlib.Path, stack) -> dict:
    archive = stack.enter_context(zipfile.ZipFile(path))
    infos = [info for info in archive.infolist() if not info.is_dir()]
    limits.MEMBERS.check(len(infos), path)
    return {info.filename: lambda info=info: archive.open(info) for info in infos}


def _tar(path: pathlib.Path, stack) -> dict:
    file = stack.enter_context(path.open("rb"))
    whole = path.stat().st_size
    if file.peek(2)[:2] == b"\x1f\x8b":  # bzip2 and xz, which nobody uses for traces, blow up a thousand times as far
        file = stack.enter_context(_Bounded(gzip.GzipFile(fileobj=file), whole, path))
    archive = stack.enter_context(tarfile.TarFile(fileobj=file))
    found = {}
    for number, info in enumerate(archive, 1):
        limits.MEMBERS.check(number, path)
        if info.isreg() and not info.issparse():
            found[info.name] = lambda info=info: archive.extractfile(info)
    return found


class _Bounded(io.RawIOBase):
    """An unpacked stream that ends with Trouble where it is longer than any recording of its packed size."""

    def __init__(self, stream, packed: int, path: pathlib.Path):
        self.stream, self.packed, self.path = stream, packed, path

    def readable(self) -> bool:
        return True

    def seekable(self) -> bool:
        return True

    def read(self, size: int = -1) -> bytes:
        limits.check_unpacked(self.tell() + max(size, 0), self.packed, self.path)
        return self.stream.read(size)

    def seek(self, offset: int, whence: int = 0) -> int:
        limits.check_unpacked(offset, self.packed, self.path)
        return self.stream.seek(offset, whence)

    def tell(self) -> int:
        return self.stream.tell()

    def close(self) -> None:
        self.stream.close()
        super().close()
