"""Explains and scores the images of one process."""
