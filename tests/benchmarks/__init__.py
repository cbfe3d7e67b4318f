"""Ratios to the bare parts, measured side by side: ``python -m tests.benchmarks`` prints them. Not for pytest."""
