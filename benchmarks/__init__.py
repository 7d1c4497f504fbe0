"""Ratios of CPU time between ways to call an API, which anybody can reproduce: ``python -m benchmarks --help``."""
