"""Follows a forward pass: handles every call of a torch function, and records its operation."""
