"""Measurements behind docs/benchmarks.md; `make bench` runs them. May import every part, as the nodes do."""
