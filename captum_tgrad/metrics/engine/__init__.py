"""The parts that the metrics are made of."""
