"""What several parts of the package need."""
