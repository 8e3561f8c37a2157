"""The recorder in one file: this package's own recording modules, put into one Python file that needs torch and nothing else.

`whydiff recorder FILE` writes it. It runs beside an installed whydiff of any version, as its modules have other names.
"""

from __future__ import annotations

import ast
import pathlib

NAME = "whydiff_tap"  # what its users import, and the package that its modules believe to be part of
START = "whydiff.evidence.recording.standalone"
_HEAD = '''"""whydiff_tap {version}: record what a diffusion program computes. One file to copy beside it; torch 2.1 or later is all it needs.

    from whydiff_tap import tap, record, recording          # in code that you may edit
    latents = tap("latents", latents, step=i)               # one comparison when nothing records
    with record(pipe, "traces/mine"): pipe("a red circle")  # or recording("traces/mine") around anything

    WHYDIFF_RECORD=traces/mine python -m whydiff_tap program.py its arguments    # in code that nobody wants to edit

Variables: WHYDIFF_RECORD=FOLDER ({{pid}} and {{rank}} are filled in), WHYDIFF_LEVEL=full or fingerprint, WHYDIFF_MODULES=globs
('transformer/*'), WHYDIFF_INJECT=TRACE and WHYDIFF_INJECT_AT=globs: go on with the tensors of that trace at these places.
Where the program is started by another one, put this file and a sitecustomize.py that says `import whydiff_tap` into a folder
on PYTHONPATH. Made by `whydiff recorder`; do not edit it.
"""

import importlib.abc
import importlib.util
import os
import sys

_SOURCES = {{
{sources}}}


class _Finder(importlib.abc.MetaPathFinder, importlib.abc.InspectLoader):
    """Imports the modules that this file holds."""

    def find_spec(self, name, path=None, target=None):
        if name not in _SOURCES:
            return None
        return importlib.util.spec_from_loader(name, self, origin=__file__, is_package=_SOURCES[name] == "")

    def get_source(self, name):
        return _SOURCES[name]


__path__ = []  # so that its modules may be imported
sys.modules.setdefault("{name}", sys.modules[__name__])
if __spec__ is not None and __spec__.name == "{name}":
    __spec__.submodule_search_locations = []
sys.meta_path.insert(0, _Finder())

from {name}.taps import tap  # noqa: E402


def __getattr__(name):
    if name in ("record", "recording", "FileRecorder"):
        from {name}.evidence.recording import standalone

        return getattr(standalone, name)
    raise AttributeError("whydiff_tap has no " + repr(name))


if __name__ == "__main__":
    from {name}.evidence.recording.standalone import main

    main(sys.argv[1:])
elif os.environ.get("WHYDIFF_RECORD") or os.environ.get("WHYDIFF_INJECT"):
    from {name}.evidence.recording.standalone import from_environment

    from_environment()
'''
_MAIN = f"""import sys
from {NAME}.evidence.recording.standalone import main
main(sys.argv[1:])
"""


def written(path) -> pathlib.Path:
    """Write the file. Replaces an older one."""
    path = pathlib.Path(path)
    path.parent.mkdir(parents=True, exist_ok=True)
    draft = path.with_name(f".{path.name}.part")
    draft.write_text(text(), encoding="utf-8")
    draft.replace(path)
    return path


def text() -> str:
    """The whole file."""
    from whydiff import __version__

    sources = dict.fromkeys(sorted({NAME + "." + ".".join(n.split(".")[1:end]) for n in modules() for end in range(2, n.count(".") + 1)}), "")
    for name, source in modules().items():
        if "'''" in source or "\\'" in source[-2:]:
            raise ValueError(f"{name} cannot stand in a raw string")
        sources[NAME + name.removeprefix("whydiff")] = renamed(source)
    sources[f"{NAME}.__main__"] = _MAIN  # for -m where a sitecustomize has imported the file already, and Python takes it for a package
    quoted = "".join(f"{name!r}: r'''{source}''',\n" for name, source in sources.items())
    return _HEAD.format(version=__version__, sources=quoted, name=NAME)


def renamed(source: str) -> str:
    """A module's source, importing from the one file what it imports from whydiff."""
    return source.replace("from whydiff.", f"from {NAME}.").replace("from whydiff import", f"from {NAME} import")


def modules() -> dict[str, str]:
    """{module: source} of what the recorder needs of this package, found by its imports."""
    home = pathlib.Path(__file__).resolve().parents[3]
    found: dict[str, str] = {}
    waiting = [START]
    while waiting:
        name = waiting.pop()
        path = home.joinpath(*name.split(".")).with_suffix(".py")
        if name in found or not path.is_file():
            continue
        found[name] = path.read_text(encoding="utf-8")
        for node in ast.walk(ast.parse(found[name])):
            if isinstance(node, ast.ImportFrom) and (node.module or "").split(".")[0] == "whydiff":
                waiting += [node.module, *(f"{node.module}.{alias.name}" for alias in node.names)]
    return dict(sorted(found.items()))
