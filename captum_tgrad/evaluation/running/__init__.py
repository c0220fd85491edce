"""Explaining and scoring the images of one process."""
