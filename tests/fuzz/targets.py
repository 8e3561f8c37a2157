"""What is fuzzed: every reader of a stranger's file, as a function of bytes. Anything but Trouble that comes out of one is a finding.

What is read is used, too: it is compared with itself (which must not be `different`), told as text, and written again.
"""

import contextlib
import io
import json
import pathlib
import re
import shutil
import struct
import tempfile
import zipfile

import torch
from PIL import Image, PngImagePlugin

from whydiff.engine.files import compare_files
from whydiff.errors import Trouble
from whydiff.evidence.case import load_case, parse_yaml
from whydiff.evidence.case_bundle import case_file
from whydiff.evidence.readers import graphs, import_dump, pictures, step_log
from whydiff.evidence.readers.names import place_of
from whydiff.evidence.traces.reading import read_trace
from whydiff.evidence.traces.strangers import json_of
from whydiff.evidence.traces.tensor_files import save_plainly
from whydiff.places import walk_key
from whydiff.verdict import Verdict

FAST = pathlib.Path("/dev/shm") if pathlib.Path("/dev/shm").is_dir() else None
HELD = dict(enumerate([torch.arange(6.0).reshape(2, 3), torch.linspace(0, 1, 4096), torch.tensor(9), torch.zeros(0, 3), torch.full((4,), torch.nan),
                       torch.ones(2, dtype=torch.bfloat16), torch.ones(3, dtype=torch.complex64)]))  # fmt: skip


@contextlib.contextmanager
def folder():
    path = pathlib.Path(tempfile.mkdtemp(dir=FAST))
    try:
        yield path
    finally:
        shutil.rmtree(path)


def _same_as_itself(path: pathlib.Path) -> None:
    found = compare_files(path, path)
    assert found.verdict != "different", found
    assert str(found) is not None and json.dumps(found.to_dict()) is not None


def _file(suffix: str):
    def target(data: bytes) -> None:
        with folder() as inner:
            path = inner / f"x{suffix}"
            path.write_bytes(data)
            _same_as_itself(path)

    return target


def _dump(suffix: str, name: str | None = None):
    def target(data: bytes) -> None:
        with folder() as inner:
            path = inner / f"x{suffix}"
            path.write_bytes(data)
            _used(import_dump(path, name), inner)

    return target


def _used(trace, inner: pathlib.Path) -> None:
    sorted(trace.places, key=walk_key)
    assert str(trace.places) is not None and trace.steps is not None and trace.probes() is not None
    trace.save(inner / "again", level="fingerprint")
    read_trace(inner / "again")


def safetensors_header(data: bytes) -> None:
    """The JSON alone, under a true length and over as many bytes as it speaks of, if they are few."""
    most = max(map(int, re.findall(rb'"data_offsets":\[[0-9]{1,6},([0-9]{1,6})\]', data)), default=0)
    _file(".safetensors")(struct.pack("<Q", len(data)) + data + bytes(min(most, 4096)))


def pt_pickle(data: bytes) -> None:
    """The pickle alone, in an archive whose sums are right, with storages of 16 bytes."""
    whole = io.BytesIO()
    with zipfile.ZipFile(whole, "w") as archive:
        for name, held in {"data.pkl": data, "byteorder": b"little", "version": b"3\n", **{f"data/{i}": bytes(range(16)) for i in range(4)}}.items():
            archive.writestr(f"a/{name}", held)
    _file(".pt")(whole.getvalue())
    _dump(".pt")(whole.getvalue())


def trace(data: bytes) -> None:
    with folder() as inner:
        (inner / "t").mkdir()
        (inner / "t" / "trace.jsonl").write_bytes(data)
        save_plainly({str(key): tensor for key, tensor in HELD.items()}, inner / "t" / "tensors-00001.safetensors")
        _used(read_trace(inner / "t"), inner)
        _same_as_itself(inner / "t")


def archive(suffix: str):
    def target(data: bytes) -> None:
        with folder() as inner:
            path = inner / f"t{suffix}"
            path.write_bytes(data)
            _used(read_trace(path), inner)

    return target


def bundle(data: bytes) -> None:
    with folder() as inner:
        path = inner / "b.zip"
        path.write_bytes(data)
        with case_file(path) as case:
            load_case(case)


def case(data: bytes) -> None:
    with folder() as inner:
        (inner / "c.yaml").write_bytes(data)
        made = load_case(inner / "c.yaml")
        json.dumps(made.model_dump(mode="json", fallback=str))
    with contextlib.suppress(UnicodeDecodeError):
        parse_yaml(data.decode(), "--set x")


def verdict(data: bytes) -> None:
    held = json_of(data, "verdict.json")
    try:
        read = Verdict.from_dict(held)
    except ValueError:
        return
    assert str(read) and read.words() and read._repr_markdown_() and read.to_json()


def sglang(data: bytes) -> None:
    """The first line is a file's name, the rest what stands in it."""
    name, _, held = data.partition(b"\n")
    name = re.sub(r"[/\x00]", "", name.decode(errors="replace"))[:60]
    place_of(name)
    with folder() as inner:
        (inner / f"step=0___name={name}.pt").write_bytes(held)
        torch.save({"value": torch.ones(2), "meta": {}}, inner / f"{name}___step=1___name=latents.pt")
        _used(import_dump(inner, "sglang"), inner)


def comfyui_graph(data: bytes) -> None:
    held = json_of(data, "graph")
    if isinstance(held, dict):
        json.dumps(graphs.settings(held))


def picture_text(data: bytes) -> None:
    """What programs write into a PNG: the first byte chooses the key."""
    key = ("parameters", "prompt", "workflow", "Comment", "Description", "invokeai_metadata", "sd-metadata")[(data[:1] or b"\0")[0] % 7]
    info = PngImagePlugin.PngInfo()
    info.add_itxt(key, data[1:].decode(errors="replace").replace("\x00", ""))
    whole = io.BytesIO()
    Image.new("RGB", (4, 4)).save(whole, "PNG", pnginfo=info)
    with Image.open(whole) as opened:
        json.dumps(pictures.written(opened))


def log(data: bytes) -> None:
    with folder() as inner:
        (inner / "run.log").write_bytes(data)
        found = step_log.read_step_times(inner / "run.log")
        assert found.count > 0 and len(found.seconds) == len(found.errors) == len(found.steps)


TARGETS = {
    "safetensors": _file(".safetensors"), "npy": _file(".npy"), "npz": _file(".npz"), "pt": _file(".pt"),
    "safetensors_header": safetensors_header, "pt_pickle": pt_pickle, "trace": trace,
    "trace_zip": archive(".zip"), "trace_tar": archive(".tar"), "trace_tgz": archive(".tgz"), "bundle": bundle, "case": case, "verdict": verdict,
    "sglang": sglang, "fastvideo": _dump(".jsonl", "fastvideo"), "comfyui_latent": _dump(".latent"), "comfyui_pt": _dump(".pt", "comfyui"),
    "comfyui_graph": comfyui_graph, "picture": _dump(".png", "picture"), "picture_text": picture_text, "log": log,
}  # fmt: skip


def run(name: str, data: bytes) -> bool:
    """Was it read? False where it was refused, as it should be. Raises what is a finding."""
    try:
        TARGETS[name](data)
    except Trouble as trouble:
        assert str(trouble)
        return False
    return True
