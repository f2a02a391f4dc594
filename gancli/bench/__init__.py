"""Benchmarks of `gan bench`, the only library code that may import training."""
