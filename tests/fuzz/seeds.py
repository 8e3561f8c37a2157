"""Small honest files of every kind: where fuzzing begins. `python tests/fuzz/seeds.py` writes those that are missing into corpus/."""

import io
import json
import pathlib
import struct
import sys
import tarfile
import tempfile
import warnings
import zipfile

import numpy as np
import torch
from PIL import Image, PngImagePlugin
from safetensors.torch import save

from whydiff.evidence.traces.figured import Figured
from whydiff.evidence.traces.trace import Event, Trace
from whydiff.places import Place
from whydiff.verdict import Cause, Verdict

CORPUS = pathlib.Path(__file__).parent / "corpus"
CASE = """title: t
question: why?
reference: {name: a, trace: traces/reference, settings: {seed: 0, shift: 3.0}}
candidate: {name: b, trace: traces/candidate, declares: {dtype: bfloat16}, defaults: {framework: sglang, model: FLUX.1-dev}}
record: {modules: ["transformer/*"], steps: [0, 1]}
expect: {verdict: different, causes: [seed]}
"""
GRAPH = {"3": {"class_type": "KSampler", "inputs": {"seed": 5, "steps": 20, "cfg": 8.0, "positive": ["6", 0], "negative": ["7", 0]}},
         "6": {"class_type": "CLIPTextEncode", "inputs": {"text": "a red circle", "clip": ["4", 1]}}}  # fmt: skip


def _saved(write) -> bytes:
    held = io.BytesIO()
    write(held)
    return held.getvalue()


def _trace(level: str) -> dict[str, bytes]:
    made = Trace(producer={"name": "x"}, settings={"seed": 0}, environment={"python": "3.11"}, floor={"latents": 1e-7})
    made.add(Event(Place("latents", step=1, branch="cond", occurrence=1), torch.arange(6.0).reshape(2, 3)))
    made.add(Event(Place("modules", step=0, module="transformer/blocks.0"), torch.linspace(0, 1, 4096)))
    made.figures[Place("noise_pred", 0)] = Figured(Place("noise_pred", 0), {"mean": 0.5, "std": 1.0}, (2, 3), "float32")
    made.absent = {Place("model_input/guidance", 0)}
    with tempfile.TemporaryDirectory() as folder:
        made.save(pathlib.Path(folder) / "t", level=level)
        return {f"t/{p.name}": p.read_bytes() for p in (pathlib.Path(folder) / "t").iterdir()}


def _header(data: bytes) -> bytes:
    return data[8 : 8 + struct.unpack("<Q", data[:8])[0]]


def _pickle(made) -> bytes:
    with zipfile.ZipFile(io.BytesIO(_saved(lambda f: torch.save(made, f)))) as archive:
        return archive.read(next(name for name in archive.namelist() if name.endswith("data.pkl")))


def _zip(files: dict[str, bytes]) -> bytes:
    def write(held):
        with zipfile.ZipFile(held, "w", zipfile.ZIP_DEFLATED) as archive:
            for name, data in files.items():
                archive.writestr(name, data)

    return _saved(write)


def _tar(files: dict[str, bytes], mode: str) -> bytes:
    def write(held):
        with tarfile.open(fileobj=held, mode=mode) as archive:
            for name, data in files.items():
                info = tarfile.TarInfo(name)
                info.size = len(data)
                archive.addfile(info, io.BytesIO(data))

    return _saved(write)


def _png(key: str, text: str) -> bytes:
    info = PngImagePlugin.PngInfo()
    info.add_text(key, text)
    return _saved(lambda held: Image.new("RGB", (6, 4), (255, 0, 0)).save(held, "PNG", pnginfo=info))


def seeds() -> dict[str, dict[str, bytes]]:
    """{target: {name: bytes}}."""
    tensors = {"x": torch.arange(6.0).reshape(2, 3), "y": torch.ones(2, dtype=torch.bfloat16), "z": torch.zeros(0, 3), "s": torch.tensor(1)}
    full, prints = _trace("full"), _trace("fingerprint")
    cause = Cause("seed", "rng_noise", "initial_noise", "another seed", {"kind": "seed", "reference": 0}, 1.0, "drew it again", steps=[1])
    found = Verdict("different", "they differ", "c", "why?", {"stage": "rng_noise", "probe": "initial_noise", "difference": 0.5}, [cause],
                    unexplained=[{"stage": "vae", "probe": "decoded", "step": 1}], notes=["n"])  # fmt: skip
    latent = save({"latent_tensor": torch.ones(1, 4, 2, 2), "latent_format_version_0": torch.tensor([])}, {"prompt": json.dumps(GRAPH)})
    cond = [[torch.ones(1, 2, 3), {"pooled_output": torch.ones(1, 3), "guidance": 3.5, "reference_latents": [torch.ones(1)]}]]
    warnings.simplefilter("ignore")  # of quantised tensors, which will go
    pickled = {"a": torch.ones(2), "b": [torch.zeros(0), {"c": torch.tensor(1)}], "q": torch.quantize_per_tensor(torch.ones(2), 0.1, 0, torch.quint8)}
    line = {"module": "blocks.0.norm", "tensor": "out[1]", "step": 3, "abs_mean": 0.5, "sum": 2, "shape": [2, 3], "dtype": "torch.bfloat16"}
    traces = {f"traces/{role}/trace.jsonl": full["t/trace.jsonl"] for role in ("reference", "candidate")}
    told = "a red circle\nNegative prompt: blurry\nSteps: 20, Sampler: DPM++ 2M, CFG scale: 7, Seed: 123, Size: 64x48, Model: sd15"
    bar = " 37%|███▋      | 10/27 [03:54<05:58, 21.10s/it]\r100%|███| 27/27 [06:00<00:00, 21.10s/it]\n"
    return {
        "safetensors": {"seed": save(tensors), "scalar": save({"s": torch.tensor(1.5)})},
        "npy": {"seed": _saved(lambda f: np.save(f, np.ones((2, 3), np.float32))), "f": _saved(lambda f: np.save(f, np.asfortranarray(np.eye(2))))},
        "npz": {"seed": _saved(lambda f: np.savez(f, x=np.ones(3), y=np.eye(2))), "small": _saved(lambda f: np.savez_compressed(f, x=np.ones(99)))},
        "pt": {"seed": _saved(lambda f: torch.save(pickled, f)),
               "old": _saved(lambda f: torch.save(torch.ones(2), f, _use_new_zipfile_serialization=False)),
               "sparse": _saved(lambda f: torch.save(torch.eye(2).to_sparse(), f))},
        "safetensors_header": {"seed": _header(save(tensors)), "latent": _header(latent)},
        "pt_pickle": {name: _pickle(made) for name, made in {"seed": torch.ones(4), "cond": cond, "dict": pickled, "sparse": torch.eye(2).to_sparse(),
                                                             "bytes": torch.arange(9, dtype=torch.uint8)}.items()},
        "trace": {"seed": full["t/trace.jsonl"], "fingerprint": prints["t/trace.jsonl"]},
        "trace_zip": {"seed": _zip(full)}, "trace_tar": {"seed": _tar(full, "w")}, "trace_tgz": {"seed": _tar(full, "w:gz")},
        "bundle": {"seed": _zip({"case.yaml": CASE.encode(), **traces})},
        "case": {"seed": CASE.encode()}, "verdict": {"seed": found.to_json().encode()},
        "sglang": {"seed": b"latents___layer_id=2\n" + _saved(lambda f: torch.save({"value": torch.ones(2), "meta": {"a": 1}}, f))},
        "fastvideo": {"seed": (json.dumps(line) + "\n").encode() * 2}, "comfyui_latent": {"seed": latent},
        "comfyui_pt": {"seed": _saved(lambda f: torch.save(cond, f))}, "comfyui_graph": {"seed": json.dumps(GRAPH).encode()},
        "picture": {"seed": _png("prompt", json.dumps(GRAPH)),
                    "gif": _saved(lambda f: Image.new("L", (3, 3)).save(f, "GIF", save_all=True, append_images=[Image.new("L", (3, 3), 9)])),
                    "webp": _saved(lambda f: Image.new("RGB", (3, 3)).save(f, "WEBP", lossless=True))},
        "picture_text": {"seed": b"\0" + told.encode(), "graph": b"\1" + json.dumps(GRAPH).encode()},
        "log": {"seed": bar.encode(), "list": b"[1.5, 2, 3e0]"},
    }  # fmt: skip


def write(folder: pathlib.Path = CORPUS) -> None:
    for target, files in seeds().items():
        (folder / target).mkdir(parents=True, exist_ok=True)
        for name, data in files.items():
            path = folder / target / name
            if not path.exists():
                path.write_bytes(data)


if __name__ == "__main__":
    write(*map(pathlib.Path, sys.argv[1:]))
