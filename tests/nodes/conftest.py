"""Fixtures of the nodes' tests: a ROS domain of its own for every test that talks, and waiting with a limit."""

from __future__ import annotations

import os
import time
from collections.abc import Callable, Iterator

import pytest


@pytest.fixture
def domain(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> Iterator[int]:
    """A free ROS domain id, set for this process and its children."""
    from etude_nodes.practice import choose_domain

    number = choose_domain(f"{request.node.nodeid}-{os.getpid()}")
    monkeypatch.setenv("ROS_DOMAIN_ID", str(number))
    yield number


def wait_until(condition: Callable[[], bool], timeout_s: float, what: str) -> float:
    """Poll until `condition`; the seconds it took. Fails with `what` after `timeout_s`."""
    began = time.monotonic()
    while not condition():
        assert time.monotonic() - began < timeout_s, f"not within {timeout_s:g} s: {what}"
        time.sleep(0.02)
    return time.monotonic() - began


@pytest.fixture(name="wait_until")
def _wait_until() -> Callable[[Callable[[], bool], float, str], float]:
    return wait_until
