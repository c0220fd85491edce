"""The files that an evaluation writes while it runs, and reads to resume."""
