"""Ratios of CPU time between ways to call an API.

Anybody can reproduce them: ``python -m benchmarks --help``.
"""
