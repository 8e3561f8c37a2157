"""Files of strangers that lie, blow up or run: each is answered in one line, in little time and memory, and nothing is run."""

import gzip
import io
import json
import os
import pickle
import struct
import tarfile
import time
import zipfile
import zlib

import numpy as np
import pytest
import torch
from PIL import Image
from safetensors.torch import save

from whydiff import Trace
from whydiff.cli import run
from whydiff.engine.files import compare_files
from whydiff.errors import Trouble
from whydiff.evidence.case import load_case
from whydiff.evidence.readers import import_dump
from whydiff.evidence.readers.step_log import bars
from whydiff.evidence.traces.files import read_tensors
from whydiff.evidence.traces.reading import read_trace
from whydiff.evidence.traces.tensor_files import read_tensor
from whydiff.evidence.traces.trace import Event
from whydiff.places import Place


@pytest.fixture
def trace(tmp_path):
    """A trace folder of one tensor, and a function that adds lines to it."""
    made = Trace()
    made.add(Event(Place("latents", 0), torch.ones(2, 3)))
    made.save(tmp_path / "t")

    def add(*lines):
        with (tmp_path / "t" / "trace.jsonl").open("a") as file:
            file.writelines((line if isinstance(line, str) else json.dumps(line)) + "\n" for line in lines)
        return tmp_path / "t"

    return add


def refused(path, *words, read=read_tensors):
    start = time.monotonic()
    with pytest.raises(Trouble) as raised:
        read(path)
    assert time.monotonic() - start < 20
    for word in words:
        assert word in str(raised.value)
    assert "\n" not in str(raised.value)


# --- safetensors ------------------------------------------------------------------------------------------------------


def header(entries: dict, body: bytes = b"", length: int | None = None) -> bytes:
    text = json.dumps(entries).encode()
    return struct.pack("<Q", len(text) if length is None else length) + text + body


@pytest.mark.parametrize("data", [
    b"", b"\x00", header({}, length=10**15), header({}, length=2**64 - 1),
    header({"x": {"dtype": "F32", "shape": [10**15], "data_offsets": [0, 4 * 10**15]}}),
    header({"x": {"dtype": "F32", "shape": [2], "data_offsets": [0, 4]}}, b"1234"),
    header({"x": {"dtype": "F32", "shape": [1], "data_offsets": [4, 8]}}, b"12345678"),
    header({"x": {"dtype": "F32", "shape": [1], "data_offsets": [0, 4]}, "y": {"dtype": "F32", "shape": [1], "data_offsets": [0, 4]}}, b"1234"),
    header({"x": {"dtype": "F32", "shape": [-1], "data_offsets": [0, 4]}}, b"1234"),
    header({"x": {"dtype": "F32", "shape": [2**62, 4], "data_offsets": [0, 0]}}),
    header({"x": {"dtype": "NO", "shape": [1], "data_offsets": [0, 4]}}, b"1234"),
    struct.pack("<Q", 100_000) + b"[" * 100_000,
])  # fmt: skip
def test_a_safetensors_file_that_lies_is_refused(data, tmp_path):
    (tmp_path / "x.safetensors").write_bytes(data)
    refused(tmp_path / "x.safetensors", "not a whole safetensors file")


def test_a_header_that_names_millions_of_tensors_is_refused_before_it_is_read(tmp_path, monkeypatch):
    monkeypatch.setenv("WHYDIFF_MOST_HEADER_BYTES", "1000")
    (tmp_path / "x.safetensors").write_bytes(save({str(i): torch.zeros(0) for i in range(100)}))
    refused(tmp_path / "x.safetensors", "bytes of safetensors header", "WHYDIFF_MOST_HEADER_BYTES=")
    monkeypatch.setenv("WHYDIFF_MOST_HEADER_BYTES", "1e6")
    assert len(read_tensors(tmp_path / "x.safetensors")) == 100


@pytest.mark.parametrize("entry", [{"data_offsets": [0, 10**15]}, {"data_offsets": [4, 0]}, {"data_offsets": [-8, 0]}, {"dtype": "F4"},
                                   {"shape": [7]}, {"shape": "x"}, {"data_offsets": None}])  # fmt: skip
def test_a_tensor_that_is_to_be_put_into_a_run_is_read_as_carefully(entry, tmp_path):
    (tmp_path / "x").write_bytes(header({"x": {"dtype": "F32", "shape": [1], "data_offsets": [0, 4]} | entry}, b"1234"))
    with pytest.raises((ValueError, KeyError)):
        read_tensor(tmp_path / "x", "x")
    (tmp_path / "x").write_bytes(header({}, length=10**15))
    with pytest.raises(ValueError, match="header of"):
        read_tensor(tmp_path / "x", "x")


def test_packed_bits_are_refused_and_every_other_type_is_the_same_as_itself(tmp_path, capsys):
    (tmp_path / "x.safetensors").write_bytes(header({"x": {"dtype": "F4", "shape": [4], "data_offsets": [0, 2]}}, b"12"))
    refused(tmp_path / "x.safetensors", "x.safetensors")
    kinds = {name: torch.ones(3, 2).to(getattr(torch, name)) for name in (
        "float8_e4m3fn", "float8_e5m2", "complex64", "bool", "uint16", "uint64", "bfloat16")}  # fmt: skip
    (tmp_path / "y.safetensors").write_bytes(save(kinds | {"nan": torch.full((2, 2), torch.nan), "none": torch.zeros(0, 3),
                                                           "one": torch.tensor(1.0)}))  # fmt: skip
    assert run(["compare", str(tmp_path / "y.safetensors"), str(tmp_path / "y.safetensors")]) == 0
    assert "same: 10 tensors compared" in capsys.readouterr().out


# --- torch, numpy -----------------------------------------------------------------------------------------------------


class Bomb:
    def __reduce__(self):
        return (os.mkdir, ("code-from-a-file-ran",))


def test_no_pickle_runs_and_the_refusal_says_how_to_convert(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    torch.save({"x": torch.ones(2), "y": Bomb()}, "bomb.pt")
    (tmp_path / "plain.pt").write_bytes(pickle.dumps(Bomb()))
    torch.save([[torch.ones(2), {"hooks": Bomb()}]], "cond.pt")
    np.savez("bomb.npz", x=np.array([Bomb()], dtype=object))
    for name in ("bomb.pt", "plain.pt", "cond.pt"):
        refused(tmp_path / name, "reading it could run code", "torch.save(tensor.cpu(), ...)")
        refused(tmp_path / name, read=import_dump)
    refused(tmp_path / "bomb.npz", "objects")
    assert not (tmp_path / "code-from-a-file-ran").exists()


def test_a_few_bytes_that_claim_to_be_many_are_refused(tmp_path, monkeypatch):
    monkeypatch.setenv("WHYDIFF_MOST_UNPACKED_BYTES", "1e6")
    torch.save(torch.ones(1).expand(10**6, 10**6), tmp_path / "expanded.pt")
    with torch.sparse.check_sparse_tensor_invariants():  # torch warns without
        torch.save(torch.sparse_coo_tensor(torch.zeros(2, 1, dtype=torch.long), torch.ones(1), (10**6, 10**6)), tmp_path / "sparse.pt")
    np.savez_compressed(tmp_path / "zeros.npz", x=np.zeros(10**6))
    with zipfile.ZipFile(tmp_path / "packed.pt", "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr("a/data.pkl", b"\0" * 10**7)
    for name in ("expanded.pt", "sparse.pt", "zeros.npz", "packed.pt"):
        refused(tmp_path / name, name, "WHYDIFF_MOST_UNPACKED_BYTES=")


def test_an_array_that_promises_more_than_the_file_holds_makes_no_room_for_it(tmp_path):
    held = io.BytesIO()
    np.save(held, np.ones(3))
    lie = held.getvalue().replace(b"(3,), }       ", b"(10**15,), }  ").replace(b"(10**15,), }  ", b"(9999999999,)}")
    (tmp_path / "x.npy").write_bytes(lie)
    refused(tmp_path / "x.npy", "promises 8e+10 bytes and holds")
    with zipfile.ZipFile(tmp_path / "x.npz", "w") as archive:
        archive.writestr("x.npy", lie)
    refused(tmp_path / "x.npz", "promises")


@pytest.mark.filterwarnings("ignore")
def test_tensors_without_plain_values_are_read_as_dense_ones_or_refused(tmp_path):
    torch.save({"sparse": torch.eye(3).to_sparse(), "csr": torch.eye(3).to_sparse_csr(), "c": torch.ones(2, dtype=torch.complex64).conj()},
               tmp_path / "x.pt")  # fmt: skip
    read = read_tensors(tmp_path / "x.pt")
    assert torch.equal(read["sparse"], torch.eye(3)) and torch.equal(read["csr"], torch.eye(3)) and read["c"].numel() == 2
    torch.save(torch.ones(2, device="meta"), tmp_path / "meta.pt")
    refused(tmp_path / "meta.pt", "meta device")
    beyond = torch.eye(3).to_sparse()
    beyond._indices().fill_(10**6)  # written to, it would be somebody else's memory
    torch.save(beyond, tmp_path / "beyond.pt")
    refused(tmp_path / "beyond.pt", "not a torch file that can be read")
    loop: list = [torch.ones(1)]
    loop.append(loop)
    torch.save(loop, tmp_path / "loop.pt")
    refused(tmp_path / "loop.pt", "levels of nesting")


# --- pictures ---------------------------------------------------------------------------------------------------------


def test_a_picture_of_absurd_size_is_refused_before_a_pixel_is_read(tmp_path, monkeypatch):
    def chunk(kind, data):
        return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))

    head = struct.pack(">IIBBBBB", 2_000_000, 2_000_000, 8, 2, 0, 0, 0)
    (tmp_path / "x.png").write_bytes(b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", head) + chunk(b"IDAT", zlib.compress(b"\0" * 9999)) + chunk(b"IEND", b""))
    refused(tmp_path / "x.png", "4e+12 pixels in a picture", "WHYDIFF_MOST_PIXELS=")
    refused(tmp_path / "x.png", read=import_dump)
    monkeypatch.setenv("WHYDIFF_MOST_FILM_PIXELS", "100")
    pictures = [Image.new("L", (8, 8), 9 * i) for i in range(3)]
    pictures[0].save(tmp_path / "x.gif", save_all=True, append_images=pictures[1:])
    refused(tmp_path / "x.gif", "pixels in all frames", read=import_dump)


def test_a_picture_that_is_a_program_is_no_picture(tmp_path):
    """Pillow goes by content, and hands PostScript to Ghostscript."""
    (tmp_path / "x.png").write_bytes(b"%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 9 9\n%%EndComments\n(x) run\n")
    refused(tmp_path / "x.png", "not an image that can be read")


# --- traces -----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(("line", "words"), [
    ({"probe": "x", "file": "/etc/passwd", "key": 0}, "outside the trace folder"),
    ({"probe": "x", "file": "..", "key": 0}, "outside the trace folder"),
    ({"probe": "x", "file": "a\\b.safetensors", "key": 0}, "outside the trace folder"),
    ({"probe": "x", "file": "C:b.safetensors", "key": 0}, "outside the trace folder"),
    ({"probe": "x", "file": "a\0b", "key": 0}, "outside the trace folder"),
    ({"probe": "x", "file": ["a"], "key": 0}, "outside the trace folder"), ({"probe": "x", "file": "a" * 300, "key": 0}, "outside the trace folder"),
    ({"probe": "x", "step": 10**12}, "steps"), ({"probe": "x", "step": -1}, "step is"), ({"probe": "x", "rank": True}, "rank is"),
    ({"probe": None}, "probe is"), ({"probe": {}}, "probe is"), ({"probe": "x", "component": []}, "component is"),
    ({"probe": "x", "stats": {"mean": 10**400}}, "stats"), ({"probe": "x", "stats": {"mean": 1}, "shape": [2**62, 2**62]}, "stats"),
    ({"probe": "x", "sketch": {"version": 1, "size": 2048}, "shape": [-1]}, "sketch"), ({"probe": "x", "sketch": []}, "sketch"),
    ({"floor": {"latents": float("inf")}}, "floor is"), ({"floor": {"latents": float("nan")}}, "floor is"), ({"floor": {"latents": -1}}, "floor is"),
    ({"absent": [{"probe": "x", "step": "a"}]}, "step is"), ("[" * 100_000, "not JSON"), ('{"a":' * 200 + "1" + "}" * 200, "levels of nesting"),
    ('{"settings": 1' + "0" * 5000 + "}", "not JSON"), ('{"schema": 1, "settings": {"seed": 1' + "0" * 1000 + "}}", "digits in a number"),
    ({"schema": 7}, "schema"), ("[1, 2]", "expected an object"),
])  # fmt: skip
def test_a_line_that_lies_is_named(line, words, trace):
    refused(trace(line), "trace.jsonl, line 4", words, read=read_trace)


def test_a_trace_with_a_byte_order_mark_is_read_and_one_in_another_encoding_is_refused(trace):
    folder = trace()
    text = (folder / "trace.jsonl").read_text()
    (folder / "trace.jsonl").write_text(text, encoding="utf-8-sig")
    assert len(read_trace(folder)) == 1
    (folder / "trace.jsonl").write_text(text, encoding="utf-16")
    refused(folder, "line 1", "not JSON", read=read_trace)


def test_lines_without_end_and_places_without_number_are_refused(trace, monkeypatch):
    monkeypatch.setenv("WHYDIFF_MOST_PLACES", "50")
    folder = trace(*({"probe": f"p{i}", "stats": {"mean": 0.0}} for i in range(100)))
    refused(folder, "recorded tensors", "WHYDIFF_MOST_PLACES=", read=read_trace)
    monkeypatch.setenv("WHYDIFF_MOST_LINE_BYTES", "500")
    monkeypatch.delenv("WHYDIFF_MOST_PLACES")
    refused(trace("x" * 1000), "bytes in one line", read=read_trace)
    monkeypatch.setenv("WHYDIFF_MOST_LINE_BYTES", "many")
    refused(folder, "expected a number", read=read_trace)


def test_links_do_not_bring_in_what_lies_elsewhere(trace, tmp_path, monkeypatch):
    (tmp_path / "secret.safetensors").write_bytes(save({"0": torch.full((2, 3), 7.0)}))
    folder = trace()
    file = next(folder.glob("*.safetensors"))
    file.unlink()
    file.symlink_to(tmp_path / "secret.safetensors")
    refused(folder, "a link that leaves", "WHYDIFF_FOLLOW_LINKS=1", read=read_trace)
    (tmp_path / "dump").mkdir()
    (tmp_path / "dump" / "latents.safetensors").symlink_to(tmp_path / "secret.safetensors")
    refused(tmp_path / "dump", "a link that leaves", read=import_dump)
    refused(tmp_path / "dump", "a link that leaves", read=lambda path: compare_files(path, path))
    monkeypatch.setenv("WHYDIFF_FOLLOW_LINKS", "1")
    assert read_trace(folder)["latents"].mean() == 7


def test_a_pipe_is_not_waited_for(tmp_path):
    for name in ("x.npy", "x.pt", "x.png", "x.safetensors"):
        os.mkfifo(tmp_path / name)
        refused(tmp_path / name, "not a plain file")


# --- archives ---------------------------------------------------------------------------------------------------------


def members(folder) -> dict[str, bytes]:
    return {f"t/{path.name}": path.read_bytes() for path in folder.iterdir()}


def tar(path, files, *more, mode="w"):
    with tarfile.open(path, mode) as archive:
        for name, data in files.items():
            info = tarfile.TarInfo(name)
            info.size = len(data)
            archive.addfile(info, io.BytesIO(data))
        for info in more:
            archive.addfile(info)


def test_an_archive_that_unpacks_to_far_more_is_refused(trace, tmp_path, monkeypatch):
    monkeypatch.setenv("WHYDIFF_MOST_UNPACKED_BYTES", "1e6")
    files = members(trace()) | {"t/bomb.safetensors": b"\0" * (20 << 20)}
    with zipfile.ZipFile(tmp_path / "t.zip", "w", zipfile.ZIP_DEFLATED) as archive:
        for name, data in files.items():
            archive.writestr(name, data)
    tar(tmp_path / "t.tgz", files, mode="w:gz")
    tar(tmp_path / "t.tar.gz", members(trace()) | {"elsewhere/bomb": b"\0" * (20 << 20)}, mode="w:gz")
    for name in ("t.zip", "t.tgz", "t.tar.gz"):
        refused(tmp_path / name, name, "bytes unpacked", read=read_trace)


def test_links_and_devices_in_a_tar_are_not_taken_out(trace, tmp_path):
    files = members(trace())
    tensors = next(name for name in files if name.endswith(".safetensors"))
    for kind in (tarfile.SYMTYPE, tarfile.LNKTYPE, tarfile.CHRTYPE, tarfile.FIFOTYPE):
        info = tarfile.TarInfo(tensors)
        info.type, info.linkname = kind, str(tmp_path / "secret")
        tar(tmp_path / "t.tar", {name: data for name, data in files.items() if name != tensors}, info)
        refused(tmp_path / "t.tar", "is missing", read=read_trace)


def test_members_are_written_nowhere_but_beside_their_trace(trace, tmp_path):
    files = members(trace())
    for name in ("../../evil.safetensors", "/tmp/evil.safetensors", "t/../../evil.safetensors", "..\\evil.safetensors"):
        with zipfile.ZipFile(tmp_path / "t.zip", "w") as archive:
            for member, data in (files | {name: b"evil"}).items():
                archive.writestr(member, data)
        assert len(read_trace(tmp_path / "t.zip")) == 1
    with zipfile.ZipFile(tmp_path / "t.zip", "w") as archive:
        for member, data in (files | {"t/a:evil.safetensors": b"evil"}).items():
            archive.writestr(member, data)
    refused(tmp_path / "t.zip", "no file's", read=read_trace)
    assert not list(tmp_path.rglob("*evil*"))


def test_archives_of_too_many_members_cut_short_or_otherwise_packed_are_refused(trace, tmp_path, monkeypatch):
    files = members(trace())
    tar(tmp_path / "t.tar", files)
    monkeypatch.setenv("WHYDIFF_MOST_MEMBERS", "1")
    refused(tmp_path / "t.tar", "files in an archive", read=read_trace)
    monkeypatch.delenv("WHYDIFF_MOST_MEMBERS")
    tar(tmp_path / "bz.tar", files, mode="w:bz2")
    refused(tmp_path / "bz.tar", "not a whole archive", read=read_trace)
    (tmp_path / "cut.tgz").write_bytes(gzip.compress((tmp_path / "t.tar").read_bytes())[:-30])
    refused(tmp_path / "cut.tgz", "not a whole archive", read=read_trace)
    with zipfile.ZipFile(tmp_path / "in.zip", "w") as archive:
        archive.write(tmp_path / "t.tar", "t.tar")  # an archive in an archive is a file like any other
    refused(tmp_path / "in.zip", "no trace.jsonl", read=read_trace)


# --- cases, dumps, logs -----------------------------------------------------------------------------------------------

BOMB = "a: &a [x, x, x, x, x, x, x, x, x]\n" + "".join(f"{b}: &{b} [{', '.join([f'*{a}'] * 9)}]\n" for a, b in zip("abcdefgh", "bcdefghi"))


@pytest.mark.parametrize(("text", "words"), [
    (BOMB, "values"), ("a: &a [*a]", "levels of nesting"), ("[" * 5000, "open brackets"), ("[" * 400, "not valid YAML"),
    ("a: 2001-13-45", "not valid YAML"),
    ("a: " + "9" * 6000, "not valid YAML"), ("a: " + "9" * 1000, "digits in a number"), ("{a: 1, a: 2}", "not valid YAML"),
    ("{1: 2}", "a case is a mapping"), ("!!python/object/apply:os.system [touch ran]", "not valid YAML"), ("a: \x01", "not valid YAML"),
    ("[]", "a case is a mapping"), ("x" * 2_000_000, "bytes of YAML"),
    ("reference: {settings: {1: 2}}\ncandidate: {settings: {a: 1}}", "reference.settings"),
])  # fmt: skip
def test_a_case_that_is_a_trap_is_one_line(text, words, tmp_path):
    (tmp_path / "c.yaml").write_text(text)
    refused(tmp_path / "c.yaml", "c.yaml", words, read=load_case)


def test_a_case_with_a_byte_order_mark_is_read_and_one_in_another_encoding_is_refused(tmp_path):
    text = "reference: {settings: {seed: 0}}\ncandidate: {settings: {seed: 1}}\n"
    (tmp_path / "c.yaml").write_text(text, encoding="utf-8-sig")
    assert load_case(tmp_path / "c.yaml").reference.settings == {"seed": 0}
    (tmp_path / "c.yaml").write_text(text, encoding="utf-16")
    refused(tmp_path / "c.yaml", "UTF-8", read=load_case)


def test_names_of_dumps_that_count_nothing_are_names(tmp_path):
    torch.save({"value": torch.ones(2), "meta": [1]}, tmp_path / "step=²___rank=x___dump_index=___name=latents.pt")
    torch.save(torch.ones(2), tmp_path / "xname=y___z.pt")
    assert Place("latents") in import_dump(tmp_path, "sglang")
    torch.save(torch.ones(2), tmp_path / "step=99999999999___name=latents.pt")
    refused(tmp_path, "steps", read=lambda path: import_dump(path, "sglang"))


def test_a_log_made_to_be_slow_is_read_at_once():
    text = " " * 200_000 + "1" * 200_000 + "| 1%|" * 1000 + "x| 10/27 [03:54<05:58, 1.2.3s/it]" + "9" * 6000 + "/3 [00:01<00:02,  3.0s/it]"
    start = time.monotonic()
    assert bars(text * 3) is not None
    assert time.monotonic() - start < 5
