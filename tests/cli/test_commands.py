"""The commands as a user runs them: what they print, where, and their exit status."""

import json
import subprocess
import sys
import time

import numpy as np
import pytest
import torch
from safetensors.torch import save_file

from whydiff import Trace
from whydiff.cli import run
from whydiff.evidence.traces.trace import Event
from whydiff.places import Place


def process(*arguments, **kwargs):
    return subprocess.run([sys.executable, "-m", "whydiff.cli", *map(str, arguments)], capture_output=True, text=True,
                          timeout=120, **kwargs)  # fmt: skip


def one_line(text, *words):
    """The text is one line that holds these words and no traceback."""
    lines = text.strip().splitlines()
    assert len(lines) == 1, text
    assert "Traceback" not in text
    for word in words:
        assert word in lines[0], f"{word!r} is not in {lines[0]!r}"
    return True


def last_line(result, *words):
    assert "Traceback" not in result.stderr
    return one_line(result.stderr.strip().splitlines()[-1], "whydiff: ", *words)


# --- start-up ------------------------------------------------------------------------------------------------------

COMMANDS = ("investigate", "diagnose", "sweep", "record", "compare", "schedule", "defaults", "causes")


def test_help_is_quick_and_imports_nothing_heavy():
    code = "import sys; from whydiff.cli import run; run(['--help']); print('LOADED', *[m for m in " \
           "('torch', 'numpy', 'pydantic', 'diffusers', 'papermill', 'matplotlib', 'dask', 'distributed') if m in sys.modules])"  # fmt: skip
    times = []
    for _ in range(3):
        start = time.monotonic()
        result = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=60)
        times.append(time.monotonic() - start)
    assert result.stdout.splitlines()[-1].strip() == "LOADED"
    assert min(times) < 1.5  # 0.15 s on a free machine
    for command in COMMANDS:
        assert command in result.stdout


@pytest.mark.parametrize("command", COMMANDS)
def test_every_command_has_help(command, capsys):
    assert run([command, "--help"]) == 0
    assert capsys.readouterr().out.startswith(f"Usage: whydiff {command}")


@pytest.mark.parametrize("arguments", [["diagnos"], ["diagnose"], ["diagnose", "x", "--jsn"], ["schedule", "--steps", "many"], []])
def test_a_wrong_command_line_is_exit_2_and_one_line(arguments, capsys):
    assert run(arguments) == 2
    assert one_line(capsys.readouterr().err, "whydiff: ", "--help")


def test_an_internal_error_is_one_line_that_says_how_to_see_more(monkeypatch, capsys):
    monkeypatch.setattr("whydiff.causes.table.CAUSES", [object()])
    monkeypatch.delenv("WHYDIFF_DEBUG", raising=False)
    assert run(["causes"]) == 2
    assert one_line(capsys.readouterr().err, "internal error: AttributeError", "WHYDIFF_DEBUG=1")


# --- bad input, as a user's shell sees it ----------------------------------------------------------------------------


def test_an_unknown_key_of_a_case_is_named_with_the_nearest_known_one(toy):
    (toy / "bad.yaml").write_text((toy / "toy.yaml").read_text().replace("call:", "cal:"))
    result = process("diagnose", "bad.yaml")
    assert (result.returncode, result.stdout) == (2, "")
    assert one_line(result.stderr, "bad.yaml", "reference.live.cal", "Did you mean 'call'")


def test_a_side_that_raises_is_one_line_with_its_file_and_line(toy):
    result = process("diagnose", "toy.yaml", "--set", "candidate.build.broken=true", "--out", "out")
    assert (result.returncode, result.stdout) == (2, "")
    assert last_line(result, "candidate (port) raised RuntimeError: no such kernel and a second line", "sides.py, line 16, in __call__")
    assert sorted(p.name for p in toy.iterdir() if p.name != "__pycache__") == ["sides.py", "toy.yaml"]


@pytest.mark.parametrize(("arguments", "words"), [
    (["diagnose", "ty.yaml"], ["ty.yaml: no such case", "toy.yaml"]),
    (["diagnose", "toy.yaml", "--set", "nonsense"], ["--set 'nonsense' is not KEY=VALUE"]),
    (["diagnose", "toy.yaml", "--set", "candidate.bild.x=1"], ["candidate.bild"]),
    (["investigate", "toy.yaml", "--only", "nois_equality"], ["--only nois_equality", "Known: "]),
    (["investigate", "toy.yaml", "-p", "no_such_parameter=3"], ["-p no_such_parameter", "Known: "]),
    (["investigate", "toy.yaml", "-p", "case=other.yaml"], ["-p case"]),
    (["record", "sides.py:port", "--out", "toy.yaml"], ["toy.yaml exists"]),
    (["record", "sides.py:prt", "--out", "t"], ["no function 'prt'", "Did you mean 'port'"]),
    (["record", "sides.py:port", "--out", "t", "--call", "heigth=8"], ["call.heigth", "Did you mean 'height'"]),
    (["record", "sides.py:port", "--out", "t", "--build", "noise=8"], ["build does not fit"]),
    (["schedule"], ["--steps"]),
    (["schedule", "--steps", "3", "--grid", "unipcc"], ["unknown grid 'unipcc'", "Did you mean 'unipc'"]),
    (["schedule", "--steps", "3", "--shift", "3", "--mu", "1"], ["--shift, --mu and --tokens"]),
    (["schedule", "--steps", "27", "--solve", "switch=9"], ["--boundary"]),
    (["schedule", "--solve", "sigmas=one,two"], ["one,two does not exist"]),
    (["defaults", "sglan", "FLUX.1-dev"], ["'sglan'", "Did you mean 'SGLang'"]),
    (["defaults", "sglang", "FLUX.1-def"], ["'FLUX.1-def'", "Did you mean 'FLUX.1-dev'"]),
    (["defaults", "sglang==0.1", "FLUX.1-dev"], ["0.5.6"]),
    (["defaults", "sglang", "flux"], ["Did you mean 'FLUX.1-dev' or 'FLUX.2-dev'"]),
    (["compare", "a.pt", "b.pt"], ["a.pt does not exist"]),
])  # fmt: skip
def test_bad_input_is_exit_2_and_one_line(arguments, words, toy, capsys):
    assert run(arguments) == 2
    captured = capsys.readouterr()
    assert captured.out == ""
    assert one_line(captured.err.strip().splitlines()[-1], "whydiff: ", *words)


# --- diagnose ----------------------------------------------------------------------------------------------------------


def test_diagnose_json_prints_the_verdict_alone_on_stdout(toy):
    result = process("diagnose", "toy.yaml", "--json", "--set", "candidate.build.noise_scale=2.0", "--out", "found")
    verdict = json.loads(result.stdout)
    assert (result.returncode, verdict["verdict"]) == (1, "different")
    assert verdict["first_divergence"]["probe"] == "initial_noise"
    assert "a side that prints" in result.stderr
    assert json.loads((toy / "found" / "verdict.json").read_text())["causes"] == verdict["causes"]
    assert {p.name for p in (toy / "found" / "traces").iterdir()} == {"reference", "candidate"}


def test_what_a_side_writes_below_python_stays_off_stdout(toy):
    loud = ["import os", "from sides import port", "def loud():", "    os.write(1, b'RAW')", "    os.system('echo RAW')", "    return port()"]
    (toy / "loud.py").write_text("\n".join(loud))
    result = process("diagnose", "toy.yaml", "--json", "--set", "candidate.entry=loud.py:loud", "--set", "candidate.build={}")
    assert result.stdout, result.stderr
    assert json.loads(result.stdout)["case"] == "toy"
    assert result.stderr.count("RAW") == 2


def test_what_a_case_expects_decides_the_status(toy, capsys):
    text = (toy / "toy.yaml").read_text()
    (toy / "met.yaml").write_text(text.replace("noise_scale: 1.0", "noise_scale: 2.0") + "expect: different\n")
    (toy / "missed.yaml").write_text(text.replace("noise_scale: 1.0", "noise_scale: 2.0") + "expect: same\n")
    assert run(["diagnose", "met.yaml"]) == 0
    capsys.readouterr()
    assert run(["diagnose", "missed.yaml"]) == 1
    assert "not as expected: expected verdict same, got different" in capsys.readouterr().err


def test_a_dry_run_runs_nothing(toy, capsys):
    assert run(["diagnose", "toy.yaml", "--set", "candidate.build.broken=true", "--dry-run", "--json"]) == 0
    plan = json.loads(capsys.readouterr().out)
    assert plan["reference"]["runs"] > plan["candidate"]["runs"] > 0


def test_a_budget_gives_the_best_verdict_within_it_and_says_what_more_would_tell(toy, capsys):
    assert run(["diagnose", "toy.yaml", "--set", "candidate.build.noise_scale=1.5", "--budget", "4", "--json"]) == 1
    verdict = json.loads(capsys.readouterr().out)
    assert verdict["first_divergence"]["probe"] and any("4 runs are used up" in note for note in verdict["notes"])


def test_a_budget_too_small_to_record_both_sides_is_trouble(toy, capsys):
    assert run(["diagnose", "toy.yaml", "--budget", "1"]) == 2
    assert one_line(capsys.readouterr().err.strip().splitlines()[-1], "whydiff: ", "1 runs are used up", "--budget")


# --- record and compare --------------------------------------------------------------------------------------------------


def test_a_recorded_trace_brings_its_floor_and_agrees_with_itself(toy, capsys):
    for name, more in (("a", []), ("b", ["--build", "noise_scale=1.0"]), ("c", ["--build", "noise_scale=1.5"])):
        assert run(["record", "sides.py:port", "--out", name, "--call", "seed=3", *more]) == 0
    assert "noise floor" in capsys.readouterr().out
    lines = [json.loads(line) for line in (toy / "a" / "trace.jsonl").read_text().splitlines()]
    assert lines[-1] == {"complete": True} and any("floor" in line for line in lines)
    assert run(["compare", "a", "b"]) == 0
    assert run(["compare", "a", "c"]) == 1
    assert "first at initial_noise" in capsys.readouterr().out


def test_a_difference_below_the_stored_floor_is_noise(toy, capsys):
    assert run(["record", "sides.py:port", "--out", "a", "--call", "seed=3"]) == 0
    assert run(["record", "sides.py:port", "--out", "b", "--call", "seed=3", "--build", "noise_scale=1.0000001"]) == 0
    capsys.readouterr()
    assert run(["compare", "a", "b"]) == 0
    assert "within_noise: 9 tensors compared" in capsys.readouterr().out


def test_without_a_floor_two_tensors_are_the_same_or_different(tmp_path, capsys):
    a = torch.arange(6.0).reshape(2, 3)
    torch.save(a, tmp_path / "a.pt")
    np.save(tmp_path / "b.npy", a.numpy())
    save_file({"x": a + 1e-3}, tmp_path / "c.safetensors")
    np.savez(tmp_path / "d.npz", x=a.numpy() + 1e-3)
    assert run(["compare", str(tmp_path / "a.pt"), str(tmp_path / "b.npy")]) == 0
    assert run(["compare", str(tmp_path / "a.pt"), str(tmp_path / "c.safetensors"), "--json"]) == 1
    assert run(["compare", str(tmp_path / "c.safetensors"), str(tmp_path / "d.npz")]) == 0
    out = capsys.readouterr().out
    assert "same: [2, 3] float32: equal" in out and '"difference": 0.000' in out


def test_files_of_different_names_in_two_folders_are_listed(tmp_path, capsys):
    for folder, names in (("one", ("x", "y")), ("two", ("x", "z"))):
        (tmp_path / folder).mkdir()
        for name in names:
            np.save(tmp_path / folder / f"{name}.npy", np.ones(3))
    assert run(["compare", str(tmp_path / "one"), str(tmp_path / "two")]) == 1
    out = capsys.readouterr().out
    assert "x.npy: same" in out and "only in the reference: y.npy" in out and "only in the candidate: z.npy" in out


class Bomb:
    def __reduce__(self):
        return (print, ("code from a file ran",))


def test_what_cannot_be_read_is_one_line_and_no_code_runs(tmp_path, capsys):
    save_file({"x": torch.ones(4)}, tmp_path / "whole.safetensors")
    (tmp_path / "cut.safetensors").write_bytes((tmp_path / "whole.safetensors").read_bytes()[:-7])
    torch.save(Bomb(), tmp_path / "bomb.pt")
    np.save(tmp_path / "bomb.npy", np.array([Bomb()], dtype=object), allow_pickle=True)
    (tmp_path / "short.pt").write_bytes(b"PK\x03\x04 and no more")
    (tmp_path / "fake.png").write_text("not a picture")
    (tmp_path / "x.xyz").write_text("")
    capsys.readouterr()
    for name in ("cut.safetensors", "bomb.pt", "bomb.npy", "short.pt", "fake.png", "x.xyz"):
        assert run(["compare", str(tmp_path / name), str(tmp_path / "whole.safetensors")]) == 2
        captured = capsys.readouterr()
        assert "code from a file ran" not in captured.out + captured.err
        assert one_line(captured.err, f"{name}: ")


# --- schedule, defaults, causes ------------------------------------------------------------------------------------------


def test_the_switch_of_the_experts_gives_the_shift(capsys):
    assert run(["schedule", "--steps", "27", "--boundary", "0.875", "--solve", "switch=9", "--json"]) == 0
    found = {row["grid"]: row for row in json.loads(capsys.readouterr().out)}
    assert found["unipc"]["low"] < 3.0 < found["unipc"]["high"]


def test_printed_sigmas_are_explained_by_the_settings_that_made_them(tmp_path, capsys):
    assert run(["schedule", "--steps", "12", "--tokens", "3600", "--json"]) == 0
    made = json.loads(capsys.readouterr().out)
    (tmp_path / "sigmas.txt").write_text(", ".join(map(repr, made["sigmas"])))
    assert run(["schedule", "--solve", str(tmp_path / "sigmas.txt"), "--tokens", "3600", "--json"]) == 0
    best = json.loads(capsys.readouterr().out)[0]
    assert best["explains"] and best["mu"] == pytest.approx(made["mu"]) and best["parameters"]["tokens"] == 3600


def test_what_all_sources_share_is_said_once_and_a_check_lists_what_needs_a_look(capsys):
    assert run(["defaults", "sglang==0.5.8", "FLUX.1-dev"]) == 0
    said = capsys.readouterr().out
    assert said.count("PyPI sglang==0.5.8 wheel") == 1 and "  configs/sample/sampling_params.py:103\n" in said and " 1 frame\n" in said
    assert run(["defaults", "--check", "diffusers", "FLUX.1-dev"]) == 0
    said = capsys.readouterr().out
    assert " agree with it, 0 differ" in said and "cannot be checked, since" in said and len(said.splitlines()) < 8


def test_defaults_come_with_their_source_and_a_version_between_two_known_ones_says_which(capsys):
    assert run(["defaults", "SGLang==0.5.8", "flux.1-DEV", "--json"]) == 0
    facts = {fact["key"]: fact for fact in json.loads(capsys.readouterr().out)}
    assert (facts["seed"]["value"], facts["num_inference_steps"]["value"], facts["height"]["value"]) == (42, 50, 720)
    assert all(fact["source"] and fact["version"] == "0.5.8" for fact in facts.values())
    assert run(["defaults", "sglang==0.5.8.post9", "FLUX.1-dev"]) == 0
    captured = capsys.readouterr()
    assert captured.out.startswith("SGLang 0.5.8.post1") and "0.5.8.post9 was not looked at" in captured.err


def test_causes_as_json_is_the_table(capsys):
    from whydiff.causes.table import CAUSES

    assert run(["causes", "--json"]) == 0
    assert [row["id"] for row in json.loads(capsys.readouterr().out)] == [kind.id for kind in CAUSES]
    assert run(["causes"]) == 0
    assert "shift-constant" in capsys.readouterr().out


def test_compare_allows_8_bit_pictures_the_rounding_that_their_noise_can_flip(tmp_path, capsys):
    decoded = torch.rand(1, 3, 16, 16, generator=torch.Generator().manual_seed(0))
    for name, moved in (("a", 0.0), ("b", 1 / 255), ("c", 20 / 255)):
        image = (decoded.movedim(1, -1) * 255).round() / 255
        image[0, 0, 0, 0] += moved
        trace = Trace(floor={"decoded": 1e-6, "image": 0.0})
        trace.add(Event(Place("decoded"), decoded))
        trace.add(Event(Place("image"), image, component="8 bit"))
        trace.save(tmp_path / name)
    assert run(["compare", str(tmp_path / "a"), str(tmp_path / "b")]) == 0
    assert run(["compare", str(tmp_path / "a"), str(tmp_path / "c")]) == 1
