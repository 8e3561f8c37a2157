"""The sides of data/cases, to be damaged by hand."""

import pathlib
import sys

import pytest

CASES = pathlib.Path(__file__).parents[2] / "data" / "cases"


@pytest.fixture(scope="module")
def sides():
    sys.path.insert(0, str(CASES))
    import sides

    yield sides
    sys.path.remove(str(CASES))
