"""Comparison of pytest-benchmark's results: of this project's benchmarks, or of any other's."""
