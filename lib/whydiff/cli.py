"""The command `whydiff`: one file per command in `commands/`; what it says when something is wrong; exit status as diff(1).

Start-up imports neither torch nor pydantic: every command imports what it needs when it runs.
"""

from __future__ import annotations

import os
import signal
import sys

import typer

from whydiff import __version__
from whydiff.commands import (
    bundle,
    causes,
    compare,
    defaults,
    diagnose,
    faults,
    import_,
    investigate,
    record,
    recorder,
    schedule,
    sweep,
)
from whydiff.errors import Trouble

# Bars and remarks of the libraries that load models: here and in the notebooks' kernels. Set otherwise, they are obeyed.
_QUIET = {"TQDM_DISABLE": "1", "TRANSFORMERS_VERBOSITY": "error", "DIFFUSERS_VERBOSITY": "error",
          "HF_HUB_DISABLE_PROGRESS_BARS": "1"}  # fmt: skip

app = typer.Typer(add_completion=False, rich_markup_mode=None, pretty_exceptions_enable=False,
                  context_settings={"help_option_names": ["--help", "-h"]})  # fmt: skip

# In the order in which one needs them.
for _module in (investigate, diagnose, sweep, record, recorder, import_, compare, bundle, schedule, defaults, causes, faults):
    app.command(_module.__name__.rpartition(".")[2].rstrip("_"))(_module.command)


def _version(wanted: bool) -> None:
    if wanted:
        typer.echo(f"whydiff {__version__}")
        raise typer.Exit


@app.callback(epilog="Exit status, as diff(1): 0 the sides agree, 1 they differ, 2 trouble. With `expect` in the case: met 0, "
              "not met 1.")  # fmt: skip
def whydiff(version: bool = typer.Option(False, "--version", callback=_version, is_eager=True, help="Print the version.")):
    """Two implementations of the same diffusion model give different outputs: why?"""


def main(arguments: list[str] | None = None) -> None:
    """Run the command and leave with its exit status. Trouble is one line on stderr, never a bare traceback."""
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))  # so that drafts are removed and kernels stopped
    for name, value in _QUIET.items():
        os.environ.setdefault(name, value)
    status = run(arguments)
    _flush()
    sys.exit(status)


def run(arguments: list[str] | None = None) -> int:
    """The exit status of a command line: what `main` does, without leaving the process."""
    try:
        status = app(arguments, standalone_mode=False, prog_name="whydiff")
    except KeyboardInterrupt:
        status = 130
    except BrokenPipeError:  # the reader of our stdout has left: `whydiff causes | head`
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 141
    except Trouble as trouble:
        return _trouble(str(trouble), trouble)
    except Exception as error:
        if hasattr(error, "format_message"):  # typer's usage errors
            about = getattr(error, "ctx", None)
            hint = f" Try `{about.command_path} --help`." if about is not None else ""
            message = error.format_message()
            return _trouble(f"{message}{hint}" if message else "no command given. Try `whydiff --help`.")
        words = " ".join(str(error).split())
        return _trouble(f"internal error: {type(error).__name__}: {words}; set WHYDIFF_DEBUG=1 for the traceback", error)
    if status == 130:
        return _trouble("interrupted; nothing was written over.", status=130)
    return int(status or 0)


def _trouble(message: str, error: BaseException | None = None, status: int = 2) -> int:
    if error is not None and os.environ.get("WHYDIFF_DEBUG"):
        import traceback

        traceback.print_exception(error)
    print(f"whydiff: {' '.join(message.split())}", file=sys.stderr, flush=True)
    return status


def _flush() -> None:
    try:
        sys.stdout.flush()
    except BrokenPipeError:
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())


if __name__ == "__main__":
    main()
