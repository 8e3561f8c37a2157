"""Virtual environments with other versions of libraries, beside the torch of this one. Made once, under reports/natural."""

import pathlib
import subprocess
import sys
import venv

import torch

HOME = pathlib.Path(__file__).parents[2] / "reports" / "natural"
# ftfy: pipelines of that time clean prompts with it and do not ask whether it is there.
VERSIONS = {
    "diffusers-0.36.0": ("diffusers==0.36.0", "transformers==4.57.6", "huggingface_hub==0.36.2", "tokenizers==0.22.2", "ftfy==6.3.1", "wcwidth"),
    "diffusers-0.30.3": ("diffusers==0.30.3", "transformers==4.46.3", "huggingface_hub==0.26.5", "tokenizers==0.20.3", "ftfy==6.3.1", "wcwidth"),
}  # fmt: skip


def interpreter(name: str) -> pathlib.Path:
    """The interpreter of an environment with these libraries first and everything else (torch, numpy) from this one. Installs them."""
    folder = HOME / name
    python, done = folder / "bin" / "python", folder / "installed"
    if not done.exists():
        venv.create(folder, symlinks=True, clear=True)
        (site,) = folder.glob("lib/python*/site-packages")
        subprocess.run([sys.executable, "-m", "pip", "install", "--quiet", "--no-deps", "--target", site, *VERSIONS[name]], check=True)
        (site / "this_torch.pth").write_text(f"{pathlib.Path(torch.__file__).parents[1]}\n")  # after the environment's own
        done.touch()
    return python
