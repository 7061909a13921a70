"""Slices: values of the ground over one or two directions."""
