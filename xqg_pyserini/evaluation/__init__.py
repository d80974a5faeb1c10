"""Scores of runs, and how sure they are."""
