"""Every input that fuzzing began with, and every one that it found something with, again: read, or refused in one line."""

import pathlib

import pytest
import targets

CORPUS = pathlib.Path(__file__).parent / "corpus"


@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize("name", targets.TARGETS)
def test_the_corpus_is_read_or_refused(name):
    files = sorted((CORPUS / name).iterdir())
    read = [path.name for path in files if targets.run(name, path.read_bytes())]
    assert [path.name for path in files if path.name.startswith("seed") and path.name not in read] == []
