"""What goes between the two processes: values as JSON with the bytes of their tensors behind it. Nothing is ever unpickled.

A message is the length of its header (8 bytes, little endian), the header, and the tensors that the header lists, one behind
the other. Either process may ask the other while it is being asked: answers come in the order in which a stack unwinds.
"""

from __future__ import annotations

import ctypes
import json
import socket
import struct
import threading
from collections.abc import Callable

import torch

from whydiff.errors import Trouble

PLAIN = (str, bool, int, type(None))


class Gone(Exception):
    """The process at the other end has ended."""


class Stopped(BaseException):
    """The parent wants no more of this run; no Exception, so that nobody's code catches it."""


class Codec:
    """Values as JSON and a list of tensors. What neither can hold goes through `foreign` and `made`, which each process has its own."""

    def __init__(self):
        self.received: dict[int, int] = {}  # tensors of the question that is being answered
        self.sent: list[torch.Tensor] = []  # tensors of the question whose answer is being read

    def pack(self, value, tensors: list[torch.Tensor]):
        """`value` as JSON can hold it; its tensors are appended to `tensors`."""
        if isinstance(value, PLAIN) and type(value) in PLAIN:
            return value
        if type(value) is float:
            return {"float": repr(value)}
        if type(value) in (list, tuple, torch.Size, set, frozenset):
            return {type(value).__name__: [self.pack(v, tensors) for v in value]}
        if type(value) is dict:
            return {"dict": [[self.pack(k, tensors), self.pack(v, tensors)] for k, v in value.items()]}
        if id(value) in self.received:
            return {"same": self.received[id(value)]}
        if isinstance(value, torch.Tensor) and value.layout is torch.strided and not value.is_quantized and not value.is_meta:
            tensors.append(value)
            return {"tensor": len(tensors) - 1}
        simple = _simple(value)
        return simple if simple is not None else {"foreign": self.foreign(value, tensors)}

    def unpack(self, held, tensors: list[torch.Tensor]):
        """The value that was packed."""
        if not isinstance(held, dict):
            return held
        (kind, data), *_ = held.items()
        if kind == "tensor":
            return tensors[data]
        if kind == "same":
            return self.sent[data]
        if kind == "dict":
            return {self.unpack(k, tensors): self.unpack(v, tensors) for k, v in data}
        if kind in _SEQUENCES:
            return _SEQUENCES[kind](self.unpack(v, tensors) for v in data)
        if kind in _SIMPLE:
            return _SIMPLE[kind](data)
        return self.made(data, tensors)

    def foreign(self, value, tensors):
        """What stands for an object that cannot travel."""
        raise TypeError(f"a {type(value).__qualname__} cannot be sent to another interpreter")

    def made(self, data, tensors):
        """What stands here for an object of the other process."""
        raise TypeError(f"an object of another interpreter cannot be used here: {data}")


_SEQUENCES = {"list": list, "tuple": tuple, "Size": torch.Size, "set": set, "frozenset": frozenset}
_SIMPLE: dict[str, Callable] = {
    "float": float, "complex": complex, "dtype": lambda name: getattr(torch, name), "device": torch.device, "bytes": bytes.fromhex,
    "slice": lambda ends: slice(*ends), "ellipsis": lambda _: ..., "range": lambda ends: range(*ends),
    "generator": lambda held: _generator(*held),
}  # fmt: skip


def _simple(value):
    if isinstance(value, complex):
        return {"complex": repr(value)}
    if isinstance(value, torch.dtype):
        return {"dtype": str(value).removeprefix("torch.")}
    if isinstance(value, torch.device):
        return {"device": str(value)}
    if isinstance(value, bytes):
        return {"bytes": value.hex()}
    if isinstance(value, slice) and all(isinstance(v, (int, type(None))) for v in (value.start, value.stop, value.step)):
        return {"slice": [value.start, value.stop, value.step]}
    if value is ...:
        return {"ellipsis": 0}
    if isinstance(value, range):
        return {"range": [value.start, value.stop, value.step]}
    if isinstance(value, torch.Generator):
        return {"generator": [str(value.device), value.get_state().tolist()]}
    if isinstance(value, float):
        return {"float": repr(float(value))}
    return None


def _generator(device: str, state: list[int]) -> torch.Generator:
    made = torch.Generator(device)
    made.set_state(torch.tensor(state, dtype=torch.uint8))
    return made


def memory(tensor: torch.Tensor) -> memoryview:
    """The bytes of a contiguous tensor on the CPU, without numpy and without a copy. The tensor must outlive it."""
    return memoryview((ctypes.c_char * (tensor.numel() * tensor.element_size())).from_address(tensor.data_ptr())).cast("B")


class Link:
    """One end of the connection. `answer(kind, value)` is called for what the other end asks or tells.

    `leads`: what this end raises while it answers ends what it had asked for itself, and is raised there; the other end's
    exceptions come here as builtin ones.
    """

    def __init__(self, connection: socket.socket, codec: Codec, answer: Callable, leads: bool):
        self.connection, self.codec, self.answer, self.leads = connection, codec, answer, leads
        self.lock = threading.RLock()  # taps may be called from a side's own threads
        self.raised: BaseException | None = None

    def ask(self, kind: str, value=None):
        """What the other end answers. Raises what it raised; Stopped where it wants no more of what it had asked for."""
        with self.lock:
            sent = self._send({"ask": kind}, value)
            while True:
                head, answer, tensors = self._receive(sent)
                if "ask" in head or "tell" in head:
                    self._serve(head, answer, tensors)
                    continue
                waiting, self.raised = self.raised, None
                if waiting is not None:
                    raise waiting
                if "error" in head:
                    raise _error(head["error"], head["words"])
                if "stop" in head:
                    raise Stopped
                return answer

    def tell(self, kind: str, value=None) -> None:
        """As `ask`, without waiting for an answer."""
        with self.lock:
            self._send({"tell": kind}, value)

    def serve(self) -> None:
        """Answer until the other end is gone."""
        while True:
            self._serve(*self._receive())

    def _serve(self, head: dict, value, tensors) -> None:
        reply, found = {"answer": 1}, None
        if self.raised is not None:
            reply = {"stop": 1}
        else:
            try:
                found = self.answer(head.get("ask") or head["tell"], value)
            except Gone:
                raise
            except BaseException as error:  # whatever it is, the other end waits for an answer
                if self.leads:
                    self.raised = error
                stop = self.leads or isinstance(error, Stopped)
                reply = {"stop": 1} if stop else {"error": type(error).__name__, "words": str(error)}
        if "ask" in head:
            try:
                self._send(reply, found, tensors)
            except (TypeError, RuntimeError, AttributeError) as error:  # the answer cannot travel: that is the answer
                self._send({"error": type(error).__name__, "words": str(error)}, None)

    def _send(self, head: dict, value, received=()) -> list[torch.Tensor]:
        """Send a message; return its tensors. Those of `received` that come back as they were are only pointed at."""
        self.codec.received = {id(t): i for i, (t, version) in enumerate(received) if t._version == version}
        tensors: list[torch.Tensor] = []
        packed = self.codec.pack(value, tensors)
        with torch._C.DisableTorchFunction():  # what travels is nothing that a side computes
            whole = [t.detach().resolve_conj().resolve_neg().to("cpu").contiguous() for t in tensors]
        told = [[str(t.dtype).removeprefix("torch."), list(t.shape)] for t in whole]
        text = json.dumps({**head, "value": packed, "tensors": told}).encode()
        try:
            self.connection.sendall(struct.pack("<Q", len(text)) + text)
            for tensor in whole:
                if tensor.numel():
                    self.connection.sendall(memory(tensor))
        except OSError as error:
            raise Gone(str(error)) from None
        return tensors

    def _receive(self, sent=()) -> tuple[dict, object, list]:
        try:
            return self._received(sent)
        except (MemoryError, RecursionError, OverflowError, json.JSONDecodeError) as error:  # what follows has lost its beginning
            self.connection.close()
            raise Gone(f"a message could not be read ({type(error).__name__})") from error

    def _received(self, sent) -> tuple[dict, object, list]:
        size = bytearray(8)
        self._fill(memoryview(size))
        text = bytearray(struct.unpack("<Q", size)[0])
        self._fill(memoryview(text))
        head = json.loads(text)
        tensors = []
        for dtype, shape in head.pop("tensors"):
            with torch._C.DisableTorchFunction():
                tensor = torch.empty(shape, dtype=getattr(torch, dtype))
            if tensor.numel():
                self._fill(memory(tensor))
            tensors.append(tensor)
        before, self.codec.sent = self.codec.sent, sent
        value = self.codec.unpack(head.pop("value"), tensors)  # which may ask what an object is
        self.codec.sent = before
        return head, value, [(t, t._version) for t in tensors]

    def _fill(self, space: memoryview) -> None:
        done = 0
        while done < len(space):
            try:
                count = self.connection.recv_into(space[done:])
            except OSError as error:
                raise Gone(str(error)) from None
            if not count:
                raise Gone("the connection was closed")
            done += count


def _error(name: str, words: str) -> Exception:
    """What the other end raised, as an exception that this one's code knows how to catch."""
    kinds = {kind.__name__: kind for kind in (Trouble, TypeError, ValueError, IndexError, KeyError, AttributeError, NotImplementedError)}
    return kinds[name](words) if name in kinds else RuntimeError(words if name == "RuntimeError" else f"{name}: {words}")
