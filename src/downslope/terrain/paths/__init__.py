"""Paths: several optimizers from one start over one surface."""
