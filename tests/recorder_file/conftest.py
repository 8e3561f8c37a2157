"""The recorder in one file in a folder of its own, and programs that run beside it in processes of their own."""

import os
import subprocess
import sys
import textwrap

import pytest

from whydiff.evidence.recording.one_file import written

SAMPLER = '''
"""A sampler of a few lines, with a network that no pipeline holds."""
import sys, torch
from whydiff_tap import tap

class Net(torch.nn.Module):
    def __init__(self):
        super().__init__()
        self.first, self.second = torch.nn.Linear(4, 4), torch.nn.Linear(4, 4)

    def forward(self, hidden_states, timestep, encoder_hidden_states=None):
        return self.second(torch.tanh(self.first(hidden_states))) * timestep / 1000

torch.manual_seed(0)
net, shift = Net(), float(sys.argv[1]) if len(sys.argv) > 1 else 1.0
x = tap("initial_noise", torch.randn(1, 1000, 4))
sigmas = torch.linspace(1, 0.25, 4)
sigmas = tap("sigmas", shift * sigmas / (1 + (shift - 1) * sigmas))
with torch.no_grad():
    for i in range(4):
        x = tap("latents", x - 0.25 * net(x, timestep=1000 * sigmas[i]), step=i)
tap("image", x.reshape(1, 25, 40, 4).sigmoid())
'''


@pytest.fixture(scope="session")
def home(tmp_path_factory):
    """A folder with whydiff_tap.py and sampler.py in it."""
    folder = tmp_path_factory.mktemp("home")
    written(folder / "whydiff_tap.py")
    (folder / "sampler.py").write_text(textwrap.dedent(SAMPLER))
    return folder


@pytest.fixture
def program(home, tmp_path):
    """`program("-m", "whydiff_tap", home / "sampler.py", WHYDIFF_RECORD=...)` -> the finished process; it runs in `tmp_path`."""

    def run(*arguments, code=0, path=(), **variables):
        environment = {k: v for k, v in os.environ.items() if not k.startswith("WHYDIFF_")}
        environment |= {"PYTHONPATH": os.pathsep.join(map(str, [*path, home])), "OMP_NUM_THREADS": "1"}
        done = subprocess.run([sys.executable, *map(str, arguments)], cwd=tmp_path, capture_output=True, text=True,
                              env=environment | {k: str(v) for k, v in variables.items()}, timeout=240)  # fmt: skip
        assert done.returncode == code, done.stderr
        return done

    return run
