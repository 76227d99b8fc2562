"""Most of the time of these tests is compilation of tiny programs: XLA optimises them little unless a test asks for it."""

from __future__ import annotations

from collections.abc import Iterator

import jax
import pytest

FLAG = "jax_disable_most_optimizations"


@pytest.fixture(autouse=True, scope="session")
def _compile_quickly() -> Iterator[None]:
    jax.config.update(FLAG, True)
    yield
    jax.config.update(FLAG, False)


@pytest.fixture
def optimised() -> Iterator[None]:
    """As in practice: needed where two programs must agree bit for bit."""
    jax.config.update(FLAG, False)
    yield
    jax.config.update(FLAG, True)
