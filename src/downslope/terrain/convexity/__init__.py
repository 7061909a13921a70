"""Convexity: proved by structure, refuted by a witness, or neither."""
