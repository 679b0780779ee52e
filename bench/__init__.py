"""Benchmarks: orderup beside what its users would build instead, in the same run on the same machine."""
