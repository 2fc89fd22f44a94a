"""What `benchmarks.run` is made of: work, workers, turns, numbers, tables."""
