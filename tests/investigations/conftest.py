"""The cases' folder on the path: the small models of the investigations lie there."""

import pathlib
import sys

import pytest

CASES = pathlib.Path(__file__).resolve().parents[2] / "data" / "cases"


@pytest.fixture(scope="session", autouse=True)
def cases_on_the_path():
    sys.path.insert(0, str(CASES))
    yield CASES
    sys.path.remove(str(CASES))
