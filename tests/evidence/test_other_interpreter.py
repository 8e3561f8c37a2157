"""A side in an interpreter of its own, in an environment that has torch and nothing else."""

import gc
import os
import pathlib
import subprocess
import sys
import textwrap
import venv

import pytest
import torch

from whydiff.engine.study import study
from whydiff.errors import Trouble
from whydiff.evidence.case import make_case

SIDES = '''
"""A sampler with a text encoder and a network of two blocks; `build` holds its defects."""
import math, os, sys
import torch, whydiff

class Encoder(torch.nn.Module):
    def __init__(self):
        super().__init__()
        self.words, self.norm = torch.nn.Embedding(64, 16), torch.nn.LayerNorm(16)
        self.words.weight.data[:] *= 0.01
    def forward(self, input_ids):
        return self.norm(self.words(input_ids))

class Block(torch.nn.Module):
    def __init__(self):
        super().__init__()
        self.norm, self.up, self.act, self.down = torch.nn.LayerNorm(16), torch.nn.Linear(16, 32), torch.nn.GELU(), torch.nn.Linear(32, 16)
    def forward(self, x, scale):
        return x + self.down(self.act(self.up(self.norm(x)))) * scale

class Network(torch.nn.Module):
    def __init__(self):
        super().__init__()
        self.blocks = torch.nn.ModuleList([Block(), Block()])
    def forward(self, hidden_states, timestep, encoder_hidden_states):
        x = torch.cat([encoder_hidden_states, hidden_states], 1)
        for block in self.blocks:
            x = block(x, 0.1 + timestep)
        return x[:, encoder_hidden_states.shape[1]:]

class Sampler:
    def __init__(self, eps=1e-5, encoder_eps=1e-5, exact=True, shift=3.0, dies=False):
        torch.manual_seed(0)
        self.components = {"text_encoder": Encoder().eval(), "transformer": Network().eval()}
        self.components["text_encoder"].norm.eps = encoder_eps
        block = self.components["transformer"].blocks[1]
        block.norm.eps = eps
        if not exact:
            block.act.forward = lambda x: torch.nn.functional.gelu(x, approximate="tanh")
        self.shift, self.dies = shift, dies

    def __call__(self, prompt="a circle", num_inference_steps=3, seed=0):
        print("a side that prints")
        if self.dies:
            print("out of luck", file=sys.stderr, flush=True)
            os._exit(7)
        ids = whydiff.tap("input_ids", torch.tensor([[ord(c) % 64 for c in prompt]]))
        embeds = whydiff.tap("prompt_embeds", self.components["text_encoder"](ids))
        latents = whydiff.tap("initial_noise", torch.randn(1, 6, 16, generator=torch.Generator().manual_seed(seed)))
        grid = torch.linspace(1, 1 / num_inference_steps, num_inference_steps)
        sigmas = whydiff.tap("sigmas", torch.cat([self.shift * grid / (1 + (self.shift - 1) * grid), torch.zeros(1)]))
        for i in range(num_inference_steps):
            x = whydiff.tap("latent_model_input", latents, step=i)
            made = whydiff.tap("noise_pred", self.components["transformer"](x, sigmas[i], embeds), step=i)
            latents = whydiff.tap("latents", latents + made * (sigmas[i + 1] - sigmas[i]), step=i)
        return latents.reshape(1, 4, 8, 3).sigmoid()

def sampler(**build):
    return Sampler(**build)
'''
FAULTS = {
    "schedule": ({"shift": 5.0}, ["shift-constant"]),
    "network": ({"eps": 1e-2}, ["norm-eps"]),
    "code": ({"exact": False}, ["gelu-tanh-vs-exact"]),
    "prompt": ({"encoder_eps": 1e-2}, ["text-encoder-norm-eps"]),
}
# What a side's environment need not have.
MISSING = ("numpy", "safetensors", "pydantic", "ruamel", "yaml", "PIL", "diffusers", "transformers", "scipy", "papermill")


@pytest.fixture(scope="module")
def bare(tmp_path_factory):
    """The interpreter of a virtual environment in which torch is all that can be imported."""
    folder = tmp_path_factory.mktemp("bare") / "venv"
    venv.create(folder, symlinks=True)
    (site,) = folder.glob("lib/python*/site-packages")
    packages = pathlib.Path(torch.__file__).parents[1]
    (site / "only_torch.pth").write_text(f"import sys; sys.modules.update(dict.fromkeys({MISSING!r}))\n{packages}\n")
    return folder / "bin" / "python"


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


def test_what_is_imported_before_the_sides_file_is_torch_and_the_standard_library(bare):
    code = """if True:
        import sys
        import torch
        before = {name.partition(".")[0] for name in sys.modules}
        import whydiff.evidence.remote.host
        print(*sorted({name.partition(".")[0] for name in sys.modules} - before - sys.stdlib_module_names))"""
    lib = str(pathlib.Path(__file__).parents[2] / "lib")
    made = subprocess.run([bare, "-W", "ignore", "-c", code], env=os.environ | {"PYTHONPATH": lib}, capture_output=True, text=True, check=True)
    assert made.stdout.split() == ["whydiff"]


def test_a_child_that_dies_says_its_last_words(case, bare):
    with pytest.raises(Trouble, match=r"candidate: .* ended with status 7: .*out of luck"):
        study(case({"dies": True}, bare))


def test_no_child_outlives_its_side(case, bare):
    from whydiff.evidence.loading import load_side

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
        study(case(python="python"))
    assert "\n" not in str(trouble.value)


def test_what_the_sides_file_raises_there_is_said_as_here(case, bare, tmp_path):
    (tmp_path / "broken.py").write_text(textwrap.dedent("""
        import numpy
        def sampler(): ...
    """))
    with pytest.raises(Trouble, match=r"candidate: .*broken.py cannot be loaded: ModuleNotFoundError: .*numpy.* \(broken.py, line 2"):
        found = case(python=bare)
        found.candidate.live.entry = "broken.py:sampler"
        study(found)
