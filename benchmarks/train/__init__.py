"""Whole training runs, side by side."""
