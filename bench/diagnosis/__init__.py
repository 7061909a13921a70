"""Calibration in the open: faults injected into healthy problems, diagnosed, repaired, and counted."""
