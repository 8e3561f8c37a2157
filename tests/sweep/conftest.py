"""A folder with the sides of `swept_toys`, and sweep files over them."""

import textwrap

import pytest
from swept_toys import toy_folder


@pytest.fixture
def toys(tmp_path, monkeypatch):
    """A folder with sides.py and toy.yaml; the current folder while the test runs."""
    monkeypatch.chdir(tmp_path)
    return toy_folder(tmp_path)


@pytest.fixture
def sweep_file(toys):
    """Writes a sweep over the toy, and returns its path."""

    def write(text, name="sweep.yaml"):
        path = toys / name
        path.write_text("base: toy.yaml\n" + textwrap.dedent(text))
        return path

    return write
