"""Measures event loops side by side; start with ``python -m benchmarks --help``."""
