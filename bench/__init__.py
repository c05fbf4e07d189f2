"""Benchmarks: every figure is a percentile, or a ratio of two measurements that took turns in one run."""
