"""A folder that appears only when all of it is written."""

from __future__ import annotations

import contextlib
import os
import pathlib
import shutil
from collections.abc import Iterator

from whydiff.errors import Trouble


def refuse_filled(folder) -> pathlib.Path:
    """The path, if it does not exist or is an empty folder. Raises Trouble otherwise."""
    folder = pathlib.Path(folder)
    if folder.exists() and (not folder.is_dir() or any(folder.iterdir())):
        raise Trouble(f"{folder} exists and is not an empty folder. Choose another --out, or remove it first.")
    return folder


@contextlib.contextmanager
def new_folder(folder) -> Iterator[pathlib.Path]:
    """A draft to write into, which becomes `folder` when all went well; nothing half-written is ever seen."""
    folder = refuse_filled(folder)
    draft = folder.with_name(f".{folder.name}.part")
    shutil.rmtree(draft, ignore_errors=True)
    try:
        draft.parent.mkdir(parents=True, exist_ok=True)
        yield draft
        if folder.exists():
            folder.rmdir()
        draft.rename(folder)
    except OSError as error:
        raise Trouble(f"{folder} cannot be written: {error.strerror or error}. Choose another --out.") from None
    finally:
        shutil.rmtree(draft, ignore_errors=True)


def take_place(draft: pathlib.Path, folder: pathlib.Path) -> None:
    """`draft` becomes `folder`; what was there is moved aside at once and then removed, so that one of the two is always whole."""
    aside = folder.with_name(f".{folder.name}.{os.getpid()}.old.part")
    shutil.rmtree(aside, ignore_errors=True)
    if folder.exists():
        folder.rename(aside)
    draft.rename(folder)
    shutil.rmtree(aside, ignore_errors=True)
