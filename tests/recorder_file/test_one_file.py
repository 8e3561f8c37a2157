"""The recorder in one file: what it needs, what it leaves behind, and how it is switched on."""

import ast
import json
import os
import signal
import subprocess
import sys
import time

import pytest
import torch

from whydiff import taps
from whydiff.evidence.recording import one_file
from whydiff.evidence.traces.reading import read_trace
from whydiff.places import Place

# What torch itself imports, where it is there. numpy and safetensors are not among it.
OF_TORCH = {"torch", "torchgen", "typing_extensions", "sympy", "mpmath", "networkx", "jinja2", "markupsafe", "filelock", "fsspec", "functorch"}
BLOCKER = f'''
import sys
class Blocker:
    def find_spec(self, name, path=None, target=None):
        top = name.split(".")[0]
        if top not in sys.stdlib_module_names and top not in {OF_TORCH | {"whydiff_tap", "sitecustomize"}!r}:
            raise ModuleNotFoundError(name + " is not installed here")
sys.meta_path.insert(0, Blocker())
'''
PROBES = ["initial_noise", "sigmas", "latent_model_input", "model_input/timestep", "noise_pred_text", "latents", "image"]


def test_syntax_is_that_of_python_3_9():
    text = one_file.text()
    ast.parse(text, feature_version=(3, 9))
    for name, source in one_file.modules().items():
        tree = ast.parse(source, feature_version=(3, 9))
        annotations = [a for n in ast.walk(tree) for a in (getattr(n, "annotation", None), getattr(n, "returns", None)) if a is not None]
        evaluated = "from __future__ import annotations" not in source
        assert not (evaluated and any("|" in ast.unparse(a) for a in annotations)), f"{name}: its annotations are Python 3.10"


def test_torch_and_the_standard_library_are_all_it_takes(program, home, tmp_path):
    blocked = tmp_path / "blocked"
    blocked.mkdir()
    (blocked / "sitecustomize.py").write_text(BLOCKER)
    program("-m", "whydiff_tap", home / "sampler.py", WHYDIFF_RECORD="alone", path=[blocked])
    program("-m", "whydiff_tap", home / "sampler.py", WHYDIFF_RECORD="beside")
    alone, beside = (read_trace(tmp_path / name) for name in ("alone", "beside"))
    assert alone.complete and list(alone) == list(beside) and alone.probes() == PROBES
    assert all(torch.equal(alone[p], beside[p]) for p in alone)


def test_importing_it_imports_no_torch_and_a_tap_costs_a_comparison(program, home):
    program("-c", "import sys, whydiff_tap; assert 'torch' not in sys.modules; x = object(); assert whydiff_tap.tap('x', x) is x")


def test_a_sitecustomize_switches_it_on_in_a_program_that_is_not_touched(program, home, tmp_path):
    (tmp_path / "sitecustomize.py").write_text("import whydiff_tap\n")
    program(home / "sampler.py", WHYDIFF_RECORD="r{pid}-{rank}", RANK=3, path=[tmp_path])
    (folder,) = tmp_path.glob("r*-3")
    trace = read_trace(folder)
    assert trace.probes() == PROBES and trace.steps == 4 and trace.environment["rank"] == 3


def test_a_sitecustomize_and_the_command_record_once(program, home, tmp_path):
    (tmp_path / "sitecustomize.py").write_text("import whydiff_tap\n")
    program("-m", "whydiff_tap", home / "sampler.py", WHYDIFF_RECORD="r", path=[tmp_path])
    assert [folder.name for folder in tmp_path.glob("r*")] == ["r"] and read_trace(tmp_path / "r").probes() == PROBES


def test_modules_of_a_network_that_nobody_handed_over_are_recorded(program, home, tmp_path):
    program("-m", "whydiff_tap", home / "sampler.py", WHYDIFF_RECORD="t", WHYDIFF_MODULES="transformer/*,other/*")
    modules = [p for p in read_trace(tmp_path / "t") if p.probe == "modules"]
    assert [(p.module, p.step) for p in modules[:3]] == [("transformer/first", 0), ("transformer/second", 0), ("transformer/first", 1)]


def test_a_process_that_shows_nothing_leaves_nothing_behind(program, tmp_path):
    (tmp_path / "quiet.py").write_text("print(1)\n")
    program("-m", "whydiff_tap", "quiet.py", WHYDIFF_RECORD="t")
    assert not (tmp_path / "t").exists()


def test_a_taken_folder_is_never_written_over(program, home, tmp_path):
    for _ in range(2):
        said = program("-m", "whydiff_tap", home / "sampler.py", WHYDIFF_RECORD="t").stderr
    assert "recording into t-2" in said and read_trace(tmp_path / "t-2").complete


def test_a_program_that_raises_leaves_what_came_before_and_is_not_called_whole(program, tmp_path):
    (tmp_path / "raises.py").write_text("import torch\nfrom whydiff_tap import tap\ntap('sigmas', torch.ones(3))\nraise SystemError('no')\n")
    program("-m", "whydiff_tap", "raises.py", WHYDIFF_RECORD="t", code=1)
    trace = read_trace(tmp_path / "t")
    assert trace.probes() == ["sigmas"] and not trace.complete


@pytest.mark.parametrize("level", ["full", "fingerprint"])
def test_a_kill_leaves_every_tensor_whose_line_was_written(home, tmp_path, level):
    (tmp_path / "endless.py").write_text(
        "import itertools, torch\nfrom whydiff_tap import tap\n"
        "for i in itertools.count():\n    tap('latents', torch.full((1, 3000), float(i)), step=i)\n    tap('sigma', torch.tensor(i), step=i)\n")
    environment = os.environ | {"PYTHONPATH": str(home), "WHYDIFF_RECORD": "t", "WHYDIFF_LEVEL": level}
    running = subprocess.Popen([sys.executable, "-m", "whydiff_tap", "endless.py"], cwd=tmp_path, env=environment, stderr=subprocess.PIPE)
    lines = tmp_path / "t" / "trace.jsonl"
    try:
        while not (lines.is_file() and lines.stat().st_size > 400_000):
            time.sleep(0.05)
            assert running.poll() is None, running.stderr.read()
    finally:
        running.send_signal(signal.SIGKILL)
        running.communicate()
    trace = read_trace(tmp_path / "t")
    assert not trace.complete and len(trace.places) > 20
    assert all(trace[p].flatten()[0] == p.step for p in trace)


def test_a_slow_program_is_on_disk_after_a_second(home, tmp_path):
    (tmp_path / "slow.py").write_text(
        "import time, torch\nfrom whydiff_tap import tap\ntap('sigmas', torch.ones(3))\nprint(flush=True)\ntime.sleep(60)\n")
    environment = os.environ | {"PYTHONPATH": str(home), "WHYDIFF_RECORD": "t"}
    running = subprocess.Popen([sys.executable, "-m", "whydiff_tap", "slow.py"], cwd=tmp_path, env=environment, stdout=subprocess.PIPE,
                               stderr=subprocess.PIPE)  # fmt: skip
    try:
        running.stdout.readline()
        with pytest.raises(subprocess.TimeoutExpired):
            running.wait(2.5)
    finally:
        running.kill()
        running.communicate()
    assert read_trace(tmp_path / "t").probes() == ["sigmas"]


def test_a_forked_child_writes_a_trace_of_its_own(program, tmp_path):
    (tmp_path / "forks.py").write_text(
        "import os, torch\nfrom whydiff_tap import tap\ntap('sigmas', torch.ones(3))\n"
        "child = os.fork()\ntap('latents', torch.ones(5), step=0)\n"
        "if not child:\n    import time; time.sleep(1.5); os._exit(0)\nos.waitpid(child, 0)\n")
    program("-m", "whydiff_tap", "forks.py", WHYDIFF_RECORD="t")
    assert read_trace(tmp_path / "t").probes() == ["sigmas", "latents"]
    assert read_trace(tmp_path / "t-2").probes() == ["latents"]


def test_injection_puts_what_fits_and_lists_what_does_not(program, home, tmp_path):
    program("-m", "whydiff_tap", home / "sampler.py", 3.0, WHYDIFF_RECORD="reference")
    (tmp_path / "other.py").write_text((home / "sampler.py").read_text().replace("tap(\"image\", x.reshape(1, 25, 40, 4).sigmoid())",
                                                                                   "tap('image', x[:, :10])\nprint(float(sigmas[1]))"))
    done = program("-m", "whydiff_tap", "other.py", WHYDIFF_RECORD="t", WHYDIFF_INJECT="reference", WHYDIFF_INJECT_AT="sigmas,latents@2,image,none")
    reference, trace = read_trace(tmp_path / "reference"), read_trace(tmp_path / "t")
    assert float(done.stdout) == pytest.approx(reference["sigmas"][1].item())
    assert {p for p, e in trace.events.items() if e.injected} == {Place("sigmas"), Place("latents", 2)}
    assert trace.injection["at"] == ["sigmas", "latents@2", "image", "none"] and trace.injection["places"] == 2
    assert list(trace.injection["left_alone"]) == ["image"] and "shape" in trace.injection["left_alone"]["image"]
    assert torch.equal(trace["sigmas"], torch.linspace(1, 0.25, 4))  # its own value is what is recorded
    assert torch.equal(trace.get("latents", 3), trace.get("latents", 3)) and trace.get("latents", 1) is not None


def test_bad_variables_are_answered_in_one_line(program, home):
    for variables in ({"WHYDIFF_RECORD": "t", "WHYDIFF_LEVEL": "some"}, {"WHYDIFF_RECORD": "t", "WHYDIFF_INJECT": "nowhere"}, {}):
        said = program("-m", "whydiff_tap", home / "sampler.py", code=1, **variables).stderr.strip().splitlines()
        assert len(said) == 1 and said[0].startswith("whydiff_tap: "), said


def test_a_tap_and_a_probe_point_that_show_one_tensor_are_one_place(program, home, tmp_path):
    (tmp_path / "both.py").write_text((home / "sampler.py").read_text().replace("0.25 * net(x, timestep=1000 * sigmas[i])",
        "0.25 * tap('noise_pred_text', net(tap('latent_model_input', x, step=i), timestep=1000 * sigmas[i]), step=i)"))  # fmt: skip
    program("-m", "whydiff_tap", "both.py", WHYDIFF_RECORD="t")
    trace = read_trace(tmp_path / "t")
    assert all(p.occurrence == 0 for p in trace) and len(trace.at("noise_pred_text")) == 4


def test_taps_of_the_package_and_of_the_file_are_heard_by_either(home, monkeypatch):
    monkeypatch.syspath_prepend(str(home))
    import whydiff_tap

    class Heard:
        def observe_nested(self, name, value, *, step=None, branch=None):
            return f"{name} heard"

    try:
        with taps.listening(Heard()):
            assert whydiff_tap.tap("x", 1) == "x heard"
        with sys.modules["whydiff_tap.taps"].listening(Heard()):
            assert taps.tap("x", 1) == "x heard"
        assert whydiff_tap.tap("x", 1) == taps.tap("x", 1) == 1
    finally:
        sys.meta_path[:] = [f for f in sys.meta_path if type(f).__module__ != "whydiff_tap"]
        for name in [n for n in sys.modules if n.split(".")[0] == "whydiff_tap"]:
            del sys.modules[name]


def test_lines_of_a_trace_are_those_of_the_contract(program, home, tmp_path):
    program("-m", "whydiff_tap", home / "sampler.py", WHYDIFF_RECORD="t", WHYDIFF_LEVEL="fingerprint")
    first, *lines = map(json.loads, (tmp_path / "t" / "trace.jsonl").read_text().splitlines())
    assert first["schema"] == 1 and {"producer", "settings", "environment"} <= set(first)
    of_tensors = [line for line in lines if "probe" in line]
    assert all({"shape", "dtype", "device", "sha256", "stats", "step", "branch", "occurrence", "module"} <= set(line) for line in of_tensors)
    assert all(("sketch" in line) != ("file" in line and "key" in line) for line in of_tensors)
    large = {"initial_noise", "latent_model_input", "noise_pred_text", "latents", "image"}
    assert {line["probe"] for line in of_tensors if "sketch" in line} == large
    assert lines[-1] == {"complete": True}
