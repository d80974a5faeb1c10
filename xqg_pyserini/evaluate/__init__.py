"""Scoring: R@kt, significance tests and reports."""
