"""Summaries, tables, figures and pages of an evaluation."""
