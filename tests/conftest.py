"""Settings of all tests: a property test is not failed for being slow on a busy machine; pytest's own time limit still holds."""

from hypothesis import settings

import simulation  # noqa: F401  decides how MuJoCo draws, which MuJoCo reads once, before a test's own import of it

settings.register_profile("etude", deadline=None)
settings.load_profile("etude")
