"""What an operation adds to the output that its input does not explain."""
