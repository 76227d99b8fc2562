"""Measurements: every number of docs/benchmarks.md comes from `etude bench` (`make bench`), one JSON object per line."""
