"""Escape: who leaves a saddle or a local minimum, with which probability and when."""
