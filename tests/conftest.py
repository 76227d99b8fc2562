"""Settings of all tests: a property test is not failed for being slow on a busy machine; pytest's own time limit still holds."""

from hypothesis import settings

settings.register_profile("etude", deadline=None)
settings.load_profile("etude")
