"""Why training does not work, what would help, and the proof that it does.

`diagnose` measures and judges, `judge` judges what is recorded, `repair` proves remedies.
"""
