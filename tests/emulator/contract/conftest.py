"""Runs each contract test on each wanted target, and names the deviations of the second opinions."""

from __future__ import annotations

import os
from collections.abc import Iterator

import pytest

from .deviations import DEVIATIONS
from .targets import ALL, OURS, Target, open_target


def wanted(config: pytest.Config) -> list[str]:
    given = config.getoption("--target", default=None) or os.environ.get("SPILLWAY_CONTRACT_TARGET")
    names = given.split(",") if given else list(OURS)
    if unknown := set(names) - set(ALL):
        raise pytest.UsageError(f"unknown contract targets {sorted(unknown)}; known: {', '.join(ALL)}")
    return names


def pytest_generate_tests(metafunc: pytest.Metafunc) -> None:
    if "target" in metafunc.fixturenames:
        metafunc.parametrize("target", wanted(metafunc.config), indirect=True, scope="session")


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    for item in items:
        callspec = getattr(item, "callspec", None)
        name = callspec.params.get("target") if callspec else None
        reason = DEVIATIONS.get((name, item.originalname)) if isinstance(item, pytest.Function) else None
        if reason is not None:
            item.add_marker(pytest.mark.xfail(strict=True, reason=f"{name}: {reason}"))


@pytest.fixture(scope="session")
def target(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Target]:
    opened = open_target(request.param, tmp_path_factory.mktemp(request.param))
    try:
        yield opened
    finally:
        opened.close()


@pytest.fixture(autouse=True)
def _no_stream_left_behind(target: Target) -> Iterator[None]:
    yield
    target.cleanup()
