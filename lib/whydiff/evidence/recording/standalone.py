"""Recording into a folder, in any program: by a context, by an environment variable, or by `python -m whydiff_tap program.py`.

This module and what it imports are also the recorder in one file (one_file.py), so torch and the standard library are all it
takes, and its syntax is Python 3.9.
"""

from __future__ import annotations

import atexit
import contextlib
import functools
import inspect
import os
import pathlib
import runpy
import sys
import threading
import weakref
from collections.abc import Mapping

import torch

from whydiff import taps
from whydiff.errors import Trouble
from whydiff.evidence.recording.behind import Behind, megabytes
from whydiff.evidence.recording.copies import Copies
from whydiff.evidence.recording.injection import Injection
from whydiff.evidence.recording.later import Networks, watching
from whydiff.evidence.recording.recorder import Recorder
from whydiff.evidence.surroundings.configurations import configurations
from whydiff.evidence.surroundings.environment import environment
from whydiff.evidence.surroundings.fingerprint import RECORDS, code_fingerprint, package_version
from whydiff.evidence.traces.trace import Event
from whydiff.evidence.traces.trace_writer import LEVELS, Held, TraceWriter

VARIABLE = "WHYDIFF_RECORD"
_OPTIONS = {"level": "WHYDIFF_LEVEL", "modules": "WHYDIFF_MODULES", "inject": "WHYDIFF_INJECT", "at": "WHYDIFF_INJECT_AT",
            "queue": "WHYDIFF_QUEUE", "when_full": "WHYDIFF_WHEN_FULL"}  # fmt: skip
QUEUE = 1024  # MB of tensors that may wait to be written
WHEN_FULL = ("wait", "drop")

_switched_on = False
_IMAGE = ("image", None, None, None)  # as the recorder counts occurrences


class FileRecorder(Recorder):
    """A recorder that keeps nothing in memory. The folder is made when the first tensor is seen: a process that shows none leaves
    nothing behind. Where the folder is taken (by another process, or an earlier run), the next free name is used."""

    def __init__(self, out, *, level: str = "full", modules=(), inject=None, at=(), queue=QUEUE, when_full: str = "wait"):
        if level not in LEVELS:
            raise Trouble(f"level {level!r} is not known. Use {' or '.join(LEVELS)}.")
        if when_full not in WHEN_FULL:
            raise Trouble(f"when_full {when_full!r} is not known. Use {' or '.join(WHEN_FULL)}.")
        self.limit, self.waits = megabytes(queue), when_full == "wait"
        injection = Injection(inject, at) if inject else None
        super().__init__(modules=_list(modules), substitute=injection, in_memory=False, notes=True)
        self.out, self.level, self.injection = str(out), level, injection
        self.lock = threading.RLock()
        self.shown: dict[str, tuple] = {}  # by name: the step, and a weak reference to what the run went on with
        self.learnt: dict[str, dict] = {"producer": {}, "settings": {}}
        self.file: TraceWriter | None = None
        self.behind: Behind | None = None
        self.copies = Copies()
        self.given_up = False
        self.writer = self  # `write` opens the file

    def observe(self, name, tensor, *, step=None, branch=None, module=None, component=None):
        if self.given_up or _untouchable(tensor):
            return tensor
        with self.lock:
            # A tap and a probe point that show one tensor under one name are one place, whichever comes first.
            before = self.shown.get(name)
            if module is None and before is not None and before[0] == step and before[1]() is tensor:
                return tensor
            given = super().observe(name, tensor, step=step, branch=branch, module=module, component=component)
            self.shown[name] = (step, weakref.ref(given))
            return given

    def write(self, event: Event) -> None:
        try:
            if self.file is None or self.file.pid != os.getpid():
                self.file = self._opened()
                self.behind = Behind(self.file, self.limit, self.waits, self._give_up)
            self.behind.put(event)
        except OSError as error:
            self._give_up(error)

    def copy_of(self, own: torch.Tensor) -> Held:
        """A forked child writes a trace of its own, and shares no copy with its parent's."""
        if self.file is not None and self.file.pid != os.getpid():
            self.copies = Copies()
        # What is put in its place may depend on the values.
        return super().copy_of(own) if self.substitute is not None else self.copies.of(own)

    def _give_up(self, error: Exception) -> None:
        """A full disk ends the recording, not the program that is recorded."""
        self.given_up = True
        print(f"whydiff_tap: cannot write to {self.out} ({error}); nothing more is recorded", file=sys.stderr, flush=True)

    def _opened(self) -> TraceWriter:
        rank = os.environ.get("RANK", "0")
        wanted = self.out.replace("{pid}", str(os.getpid())).replace("{rank}", rank)
        folder, number = wanted, 1
        while True:
            with contextlib.suppress(Trouble, FileExistsError):
                writer = TraceWriter(folder, level=self.level, producer=_producer(), injection=self.injection and self.injection.head(),
                                     environment=environment() | {"rank": int(rank) if rank.isdigit() else 0, "pid": os.getpid()})  # fmt: skip
                break
            number += 1
            folder = f"{wanted}-{number}"
        print(f"whydiff_tap: recording into {folder}", file=sys.stderr, flush=True)
        return writer

    @contextlib.contextmanager
    def calling(self, subject, args, kwargs):
        """One call of a pipeline; the value of the context is to be called with what it returned."""
        with contextlib.suppress(TypeError, ValueError):
            bound = inspect.signature(subject).bind(*args, **kwargs)
            bound.apply_defaults()
            self.learnt["settings"] = {k: v for k, v in bound.arguments.items() if isinstance(v, (str, int, float, bool, type(None)))}
        before = self._seen[_IMAGE]
        with self.listen(subject):
            yield functools.partial(self._returned, before)
        self.describe(subject)

    def _returned(self, before: int, output):
        """What a pipeline returned is `image`, unless its code tapped `image` itself."""
        if self._seen[_IMAGE] == before:
            with contextlib.suppress(ImportError, TypeError, ValueError, AttributeError):
                from whydiff.measure.pictures import to_image

                image, bits = to_image(output)
                self.observe("image", image, component=f"{bits} bit" if bits else None)
        return output

    def describe(self, subject) -> None:
        """Where the code that ran comes from."""
        kind = subject if inspect.isroutine(subject) else type(subject)
        package = (kind.__module__ or "").split(".")[0]
        noted = {"calls": self.trace.calls, "encoders": self.trace.encoders, "components": configurations(subject)}
        self.learnt["producer"] = {"package": package, "version": package_version(package), "name": f"{kind.__module__}.{kind.__qualname__}",
                                   "code": code_fingerprint(subject), **{k: v for k, v in noted.items() if v}}  # fmt: skip

    def finish(self, complete: bool = True) -> None:
        """The last lines of the trace; once."""
        with self.lock:
            if self.file is None or self.file.pid != os.getpid():
                return
            self.behind.end()
            try:
                self._last_lines(complete)
            except OSError as error:
                self._give_up(error)
            self.file = self.behind = None

    def _last_lines(self, complete: bool) -> None:
        if self.given_up:  # what was written stays, and is not called whole
            self.file.abandon()
            return
        missing = self.behind.left_out
        if missing:
            print(f"whydiff_tap: {missing} tensors were left out, as more came than could be written", file=sys.stderr, flush=True)
        self.file.finish(absent=self.trace.absent, injection=self.injection and self.injection.to_dict(),
                         complete=complete and not missing, left_out=missing, **self.learnt)  # fmt: skip
        self.file.close()


@contextlib.contextmanager
def recording(out, **options):
    """Record every tap, network and diffusers pipeline that is called inside the context into the folder `out`.

    `level`: "full", or "fingerprint" for a sketch of each large tensor. `modules`: globs over `<component>/<dotted name>` whose
    outputs are recorded, too. `inject`: a trace folder whose tensors the run goes on with, `at` the places that globs name.
    `queue`: MB of tensors that may wait to be written (1024), `when_full`: "wait", or "drop" those that find no place.
    """
    recorder = FileRecorder(out, **options)
    with _finishing(recorder), taps.listening(recorder), watching(recorder):
        yield recorder


@contextlib.contextmanager
def record(subject, out, **options):
    """As `recording`, of one thing: a diffusers pipeline, a callable with `components`, a network, or a mapping of networks."""
    recorder = FileRecorder(out, **options)
    with _finishing(recorder), contextlib.ExitStack() as stack:
        if isinstance(subject, (torch.nn.Module, Mapping)):
            networks = Networks(recorder, stack)
            for name, module in dict(subject).items() if isinstance(subject, Mapping) else [(None, subject)]:
                networks.attach(module, name)
        stack.enter_context(taps.listening(recorder))
        if not isinstance(subject, (torch.nn.Module, Mapping)):
            stack.enter_context(_calls(subject, recorder))
        yield recorder


@contextlib.contextmanager
def _calls(subject, recorder: FileRecorder):
    """While the context lasts, each call of `subject` is recorded, with its settings and what it returns."""
    owner = next((kind for kind in type(subject).__mro__ if inspect.isfunction(vars(kind).get("__call__"))), None)
    if owner is None:  # a function: its taps and components are all there is to see
        with recorder.listen(subject):
            yield
        return
    original = vars(owner)["__call__"]

    @functools.wraps(original)
    def call(self, *args, **kwargs):
        if self is not subject:
            return original(self, *args, **kwargs)
        with recorder.calling(self, args, kwargs) as finish:
            return finish(original(self, *args, **kwargs))

    setattr(call, RECORDS, True)
    owner.__call__ = call
    try:
        yield
    finally:
        owner.__call__ = original


@contextlib.contextmanager
def _finishing(recorder: FileRecorder):
    try:
        yield
    except BaseException:
        recorder.finish(complete=False)
        raise
    recorder.finish()


def from_environment() -> None:
    """Switch recording on for the rest of the process where WHYDIFF_RECORD says so; once, though a sitecustomize and -m both ask."""
    global _switched_on
    out = os.environ.get(VARIABLE)
    if _switched_on:
        return
    if not out:
        if os.environ.get(_OPTIONS["inject"]):
            raise Trouble(f"{_OPTIONS['inject']} needs {VARIABLE}=FOLDER, too: the trace says what was put where.")
        return
    options = {key: value for key, name in _OPTIONS.items() if (value := os.environ.get(name))}
    _switched_on = True
    recorder = FileRecorder(out, **options | {key: _list(options[key]) for key in ("modules", "at") if key in options})
    stack = contextlib.ExitStack()
    stack.enter_context(taps.listening(recorder))
    stack.enter_context(watching(recorder))
    atexit.register(_end, recorder, stack)


def _end(recorder: FileRecorder, stack: contextlib.ExitStack) -> None:
    """A program that ended in an exception recorded what came before it; `last_type` is where Python keeps such a one."""
    recorder.finish(complete=not hasattr(sys, "last_type"))
    stack.close()


def main(arguments: list[str]) -> None:
    """`python -m whydiff_tap program.py its arguments`: run a program, or `-m module`, with recording on as the variables say."""
    if not arguments or arguments[0] in ("-h", "--help"):
        print(sys.modules["whydiff_tap"].__doc__ if "whydiff_tap" in sys.modules else __doc__)
        return
    if not os.environ.get(VARIABLE):
        sys.exit(f"whydiff_tap: {VARIABLE} is not set. Set it to the folder to write: {VARIABLE}=traces/mine python -m whydiff_tap ...")
    try:
        from_environment()
    except Trouble as trouble:
        sys.exit(f"whydiff_tap: {trouble}")
    if arguments[0] == "-m" and len(arguments) > 1:
        sys.argv = arguments[1:]
        sys.path.insert(0, os.getcwd())
        runpy.run_module(arguments[1], run_name="__main__", alter_sys=True)
        return
    program = pathlib.Path(arguments[0])
    if not program.is_file():
        sys.exit(f"whydiff_tap: {program} does not exist. Name a program, or -m and a module.")
    sys.argv = arguments
    sys.path.insert(0, str(program.resolve().parent))
    runpy.run_path(str(program), run_name="__main__")


def _producer() -> dict:
    """Before anything is known of what runs: the program."""
    return {"name": pathlib.Path(sys.argv[0]).name if sys.argv and sys.argv[0] else "python", "recorder": "whydiff_tap"}


def _untouchable(tensor) -> bool:
    """While a graph is captured or compiled there are no values to copy."""
    if not isinstance(tensor, torch.Tensor) or tensor.is_meta:
        return True
    compiling = getattr(getattr(torch, "compiler", None), "is_compiling", lambda: False)
    return compiling() or (tensor.is_cuda and torch.cuda.is_current_stream_capturing())


def _list(globs) -> list[str]:
    return [g.strip() for g in globs.split(",") if g.strip()] if isinstance(globs, str) else list(globs or ())
