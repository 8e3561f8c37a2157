"""One study of each case, made once; nothing in these tests changes a study."""

import functools
import pathlib

import pytest

import whydiff

CASES = pathlib.Path(__file__).resolve().parents[2] / "data" / "cases"


@functools.cache
def study_of(name: str):
    return whydiff.study(CASES / f"{name}.yaml")


@pytest.fixture(scope="session")
def port():
    return study_of("flux_port")


@pytest.fixture(scope="session")
def healthy():
    return study_of("flux_healthy")


@pytest.fixture(scope="session")
def vacuous():
    return study_of("flux_vacuous")


@pytest.fixture(scope="session")
def wan():
    return study_of("wan_shift")


@pytest.fixture(scope="session")
def rope():
    return study_of("flux_rope")


@pytest.fixture(scope="session")
def portrait():
    return study_of("flux_portrait")


@pytest.fixture(scope="session")
def note():
    return study_of("flux_note")
