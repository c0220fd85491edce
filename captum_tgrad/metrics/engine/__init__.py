"""The shared parts of the metrics."""
