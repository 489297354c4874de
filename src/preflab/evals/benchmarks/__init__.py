"""Benchmarks: which there are, their items, a scorer in the engine's own batching, scores with errors."""
