"""Modes: how high the ground is between two models."""
