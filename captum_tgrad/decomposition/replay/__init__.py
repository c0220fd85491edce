"""Decomposes a network again without recording its operations."""
