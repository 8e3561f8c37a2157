"""The child: holds one side in an interpreter of its own, runs it, and answers questions about it.

Whatever is imported here before the side's file is torch's or the standard library's: nothing else is certain to exist.
"""

from __future__ import annotations

import contextlib
import os
import pathlib
import signal
import socket
import threading

import torch

from whydiff.evidence.recording.recorder import Recorder
from whydiff.evidence.remote import described
from whydiff.evidence.remote.functions import Forwarded
from whydiff.evidence.remote.hooks import Hooks
from whydiff.evidence.remote.objects import HostCodec
from whydiff.evidence.remote.wire import Gone, Link
from whydiff.evidence.sides import loading
from whydiff.evidence.sides.as_loaded import FilesAsLoaded
from whydiff.evidence.sides.runnable import RunnableSide
from whydiff.evidence.surroundings.environment import environment
from whydiff.places import Place


def main(connection: int, folder: str) -> None:
    """Serve the parent at the other end of a socket until it is gone. `folder`: where weights are written for it to map."""
    _ends_with_its_parent()
    os.dup2(2, 1)  # what the side prints is no answer
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # the parent decides what an interrupt means
    host = Host(socket.socket(fileno=connection), folder)
    with contextlib.suppress(Gone):
        host.link.serve()
    os._exit(0)


def _ends_with_its_parent() -> None:
    """Standard input is a pipe that the parent holds: when it closes, whatever this process is doing has no reader."""
    lifeline = os.dup(0)
    os.dup2(os.open(os.devnull, os.O_RDONLY), 0)

    def wait():
        os.read(lifeline, 1)
        os._exit(1)

    threading.Thread(target=wait, daemon=True).start()


class Relay(Recorder):
    """A recorder that shows everything to the parent's, which decides what the run goes on with."""

    def __init__(self, link: Link, told: dict):
        super().__init__(modules=told["modules"], steps=told["steps"], notes=told["notes"], look=self._look if told["looked_at"] else None,
                         looked_at=told["looked_at"] or ())  # fmt: skip
        self.link, self.answers, self.later = link, told["answers"], told["after"]

    def now(self) -> tuple[int | None, str | None]:
        return self.step, self.branch

    @contextlib.contextmanager
    def listen(self, side_object):
        with super().listen(side_object), Hooks(self.link, self.later, "after", self.now, inner=True):
            yield self

    def observe(self, name, tensor, *, step=None, branch=None, module=None, component=None):
        self.step = self.step if step is None else step
        told = {"name": name, "step": step, "branch": branch, "module": module, "component": component,
                "device": str(tensor.device), "now": self.now(), "tensor": tensor}  # fmt: skip
        if not self.answers:
            self.link.tell("observe", told)
            given = tensor
        else:
            given = self.link.ask("observe", told)
        if given is not tensor and given is not None:
            given = given.to(device=tensor.device, dtype=tensor.dtype)
        self.note_embeds(name, given)
        return given

    def observe_absent(self, name, *, step=None, branch=None):
        return self.link.ask("observe_absent", {"name": name, "step": step, "branch": branch})

    def _look(self, name, tensor):
        self.link.tell("look", (name, tensor, self.now()))


class Host:
    def __init__(self, connection: socket.socket, folder: str):
        self.codec = HostCodec()
        self.link = Link(connection, self.codec, lambda kind, value: getattr(self, f"do_{kind}")(value), leads=False)
        self.described = described.Described(pathlib.Path(folder), self.codec)
        self.side: RunnableSide | None = None
        self.memory = self.files = None  # of the side as it was loaded

    def do_load(self, told: dict) -> dict:
        """Import the side's file and call its function, or take what was made before. Answers with what the parent's twin of the
        side is made of."""
        if told["kept"]:
            self.link.codec = self.codec = HostCodec()  # the parent that asks now knows of no earlier proxies
            self.described = described.Described(self.described.folder, self.codec)
        subject = self.side.subject if told["kept"] else loading.build(pathlib.Path(told["path"]), told["function"], told["build"], told["role"])
        self.side = RunnableSide(subject, told["call"], role=told["role"], name=told["name"], build=told["build"], entry=told["entry"])
        return {"subject": subject, "name": self.side.name, "environment": environment()}

    def do_run(self, told: dict) -> dict:
        """One run; the parent's recorder sees it as it happens."""
        self.side.unmatched, self.side.resized = frozenset(told["unmatched"]), frozenset(told["resized"])
        relay = Relay(self.link, told)
        with Hooks(self.link, told["before"], "before", relay.now), self._autocast(told["autocast"]):
            trace = self.side.run(relay, told["changes"], told["shaken"])
        image = trace.events.get(Place("image"))
        return {"image": image and (image.tensor, image.component), "producer": trace.producer, "settings": trace.settings,
                "calls": trace.calls, "encoders": trace.encoders, "global_draws": self.side.global_draws,
                "weights": self.described.moved()}  # fmt: skip

    def do_remember(self, folder: str):
        self.memory, self.files = self.side.remember(), FilesAsLoaded(pathlib.Path(folder))

    def do_put_back(self, _) -> bool:
        return self.side.put_back(self.memory) and not self.files.changed()

    def do_identity(self, _):
        return self.side.identity()[:2]

    def do_checksums(self, _):
        return self.side.checksums()

    def do_describe(self, number: int):
        return self.described.tree(self.codec.modules[number])

    def do_weights(self, numbers):
        return self.described.values(numbers)

    def do_change(self, changes):
        self.described.change(changes)

    def do_call(self, told: dict):
        """Call an object, or a method of it, on values that the parent sent."""
        function = told["object"] if told["method"] is None else getattr(told["object"], told["method"])
        if told["draws"] is not None:
            torch.set_rng_state(told["draws"])
        with contextlib.ExitStack() as stack:
            stack.enter_context(torch.no_grad())
            stack.enter_context(Hooks(self.link, told["hooks"], "call"))
            stack.enter_context(self._autocast(told["autocast"]))
            if told["functions"]:
                stack.enter_context(Forwarded(lambda *call: self.link.ask("function", call)))
            return function(*told["args"], **told["kwargs"])

    def do_get(self, told):
        return getattr(*told)

    def do_set(self, told):
        setattr(*told)

    def do_item(self, told):
        return told[0][told[1]]

    def do_length(self, held):
        return len(held)

    def do_signature(self, held):
        return described.signature(held)

    def do_copy(self, held):
        import copy

        return copy.deepcopy(held)

    def _autocast(self, dtype: torch.dtype | None):
        """The parent's autocast context, on the device that the side's modules are on here."""
        if dtype is None:
            return contextlib.nullcontext()
        modules = [module for module in self.side.components.values() if isinstance(module, torch.nn.Module)]
        return torch.autocast(next((p.device.type for module in modules for p in module.parameters()), "cpu"), dtype=dtype)
