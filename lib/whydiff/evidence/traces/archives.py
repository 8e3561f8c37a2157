"""A trace that came as one file: a zip or tar of its folder."""

from __future__ import annotations

import contextlib
import pathlib
import shutil
import tarfile
import tempfile
import zipfile

from whydiff.errors import Trouble

SUFFIXES = (".zip", ".tar", ".tgz", ".tar.gz")


def is_archive(path: pathlib.Path) -> bool:
    return path.name.lower().endswith(SUFFIXES) and path.is_file()


@contextlib.contextmanager
def unpacked(path: pathlib.Path):
    """The folder of the trace in an archive, for as long as the context lasts. Only the files beside its trace.jsonl are taken out.

    Raises Trouble for what is no archive, or holds no trace or several.
    """
    with tempfile.TemporaryDirectory() as folder, contextlib.ExitStack() as stack:
        try:
            members = stack.enter_context(_opened(path))
            lines = [name for name in members if pathlib.PurePosixPath(name).name == "trace.jsonl"]
            if len(lines) != 1:
                raise Trouble(f"{path} holds {len(lines) or 'no'} trace.jsonl; give an archive of one trace folder.")
            home = pathlib.PurePosixPath(lines[0]).parent
            for name, opened in members.items():
                inner = pathlib.PurePosixPath(name)
                if inner.parent == home and (inner.name == "trace.jsonl" or inner.suffix == ".safetensors"):
                    with opened() as source, (pathlib.Path(folder) / inner.name).open("wb") as target:
                        shutil.copyfileobj(source, target)
        except (zipfile.BadZipFile, tarfile.TarError, OSError, EOFError) as error:
            raise Trouble(f"{path}: not a whole archive ({error}). Copy it again.") from None
        yield pathlib.Path(folder)


@contextlib.contextmanager
def _opened(path: pathlib.Path):
    """{member: a function that opens it for reading} of the files in an archive."""
    if path.suffix.lower() == ".zip":
        with zipfile.ZipFile(path) as archive:
            yield {info.filename: lambda info=info: archive.open(info) for info in archive.infolist() if not info.is_dir()}
    else:
        with tarfile.open(path) as archive:
            yield {info.name: lambda info=info: archive.extractfile(info) for info in archive.getmembers() if info.isfile()}
