"""A side in an interpreter of its own, in an environment that has torch and nothing else."""

import ast
import gc
import os
import pathlib
import shutil
import subprocess
import sys
import textwrap

import pytest
from other_interpreter import SIDES, bare_interpreter

from whydiff.engine.study import study
from whydiff.errors import Trouble
from whydiff.evidence.case import make_case

FAULTS = {
    "schedule": ({"shift": 5.0}, ["shift-constant"]),
    "network": ({"eps": 1e-2}, ["norm-eps"]),
    "code": ({"exact": False}, ["gelu-tanh-vs-exact"]),
    "prompt": ({"encoder_eps": 1e-2}, ["text-encoder-norm-eps"]),
}

@pytest.fixture(scope="module")
def bare(tmp_path_factory):
    return bare_interpreter(tmp_path_factory.mktemp("bare") / "venv")


@pytest.fixture
def case(tmp_path):
    (tmp_path / "sides.py").write_text(SIDES)

    def made(build=None, python=None, role="candidate", entry="sides.py:sampler", call=None):
        call = call or {"prompt": "a circle", "seed": 0}
        sides = {name: {"name": name, "live": {"entry": entry, "call": call}} for name in ("reference", "candidate")}
        sides["candidate"]["live"]["build"] = dict(build or {})
        if python is not None:
            sides[role]["live"]["python"] = str(python)
        case = make_case(sides)
        case.path = str(tmp_path / "case.yaml")
        return case

    return made


def told(verdict):
    return (verdict.verdict, [(c.id, c.module, c.departs, c.step) for c in verdict.causes], verdict.unexplained, verdict.first_divergence)


@pytest.mark.parametrize("fault", FAULTS)
def test_the_verdict_is_that_of_one_process(case, bare, fault):
    build, causes = FAULTS[fault]
    within = study(case(build)).verdict
    assert [cause.id for cause in within.causes] == causes
    assert told(study(case(build, bare)).verdict) == told(within)


def test_the_reference_may_be_elsewhere_too(case, bare):
    build, causes = FAULTS["network"]
    found = study(case(build, bare, role="reference"))
    assert [cause.id for cause in found.verdict.causes] == causes
    assert found.reference.environment["python"] and found.reference["image"].shape == found.candidate["image"].shape


def test_the_same_thing_in_two_processes_proves_nothing(case):
    assert study(case(python=sys.executable)).verdict.verdict == "vacuous"


@pytest.fixture(scope="module")
def imported(bare):
    """What the child imports besides torch before it loads the side's file: names of packages, and files of whydiff."""
    code = """if True:
        import sys
        import torch
        before = set(sys.modules)
        import whydiff.evidence.remote.host
        new = set(sys.modules) - before
        tops = {name.partition(".")[0] for name in new} - {name.partition(".")[0] for name in before} - set(sys.stdlib_module_names)
        print(*sorted(tops))
        print(*(sys.modules[name].__file__ for name in new if name.startswith("whydiff")))"""
    lib = str(pathlib.Path(__file__).parents[2] / "lib")
    made = subprocess.run([bare, "-W", "ignore", "-c", code], env=os.environ | {"PYTHONPATH": lib}, capture_output=True, text=True, check=True)
    packages, files = made.stdout.splitlines()
    return packages.split(), [pathlib.Path(file) for file in files.split()]


def test_what_is_imported_before_the_sides_file_is_torch_and_the_standard_library(imported):
    assert imported[0] == ["whydiff"]


def test_what_runs_there_is_written_for_python_3_9(imported):
    for file in imported[1]:
        tree = ast.parse(file.read_text(encoding="utf-8"), feature_version=(3, 9))
        unions = any(isinstance(node, ast.BinOp) and isinstance(node.op, ast.BitOr) for node in ast.walk(tree))
        newer = [node.func.id for node in ast.walk(tree) if isinstance(node, ast.Call) and isinstance(node.func, ast.Name)
                 and node.func.id == "zip" and node.keywords]  # fmt: skip
        assert not unions or "from __future__ import annotations" in file.read_text(encoding="utf-8"), file
        assert not newer or file.name == "pictures.py", file  # whose comparisons of pictures are made here alone


def test_a_child_that_dies_says_its_last_words(case, bare):
    with pytest.raises(Trouble, match=r"candidate: .* ended with status 7: .*out of luck"):
        study(case({"dies": True}, bare))


def test_no_child_outlives_its_side(case, bare):
    from whydiff.evidence.sides.loading import load_side

    side = load_side(case(python=bare), "candidate")
    process = side.session.child.process
    folder = pathlib.Path(process.args[-1])
    assert process.poll() is None and folder.is_dir()
    del side
    gc.collect()
    assert process.poll() is not None and not folder.exists()


@pytest.mark.parametrize("script, words", [
    (None, "does not exist"),
    ("no program", "cannot be started"),
    ("#!/bin/sh\necho Python 3.8 is too old; exit 1", "ended with status 1: Python 3.8 is too old"),
    ("#!/bin/sh\nexec {python} -S -E \"$@\"", "torch cannot be imported there"),
])  # fmt: skip
def test_an_interpreter_that_does_not_do_is_one_clear_line(case, tmp_path, script, words):
    python = tmp_path / "python"
    if script is not None:
        python.write_text(script.replace("{python}", os.path.realpath(sys.executable)))
        python.chmod(0o755)
    with pytest.raises(Trouble, match=words) as trouble:
        study(case(python="./python"))
    assert "\n" not in str(trouble.value)


def test_an_interpreter_is_named_relative_to_the_case_or_found_on_the_path(case, tmp_path):
    made = case()
    (tmp_path / "venv").mkdir()
    (tmp_path / "venv" / "python").symlink_to(sys.executable)
    assert made.interpreter("venv/python") == tmp_path / "venv" / "python"
    assert made.interpreter("sh") == pathlib.Path(shutil.which("sh")) and made.interpreter("/bin/sh") == pathlib.Path("/bin/sh")


def test_what_the_sides_file_raises_there_is_said_as_here(case, bare, tmp_path):
    (tmp_path / "broken.py").write_text(textwrap.dedent("""
        import numpy
        def sampler(): ...
    """))
    with pytest.raises(Trouble, match=r"candidate: .*broken.py cannot be loaded: ModuleNotFoundError: .*numpy.* \(broken.py, line 2"):
        found = case(python=bare)
        found.candidate.live.entry = "broken.py:sampler"
        study(found)
