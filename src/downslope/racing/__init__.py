"""Races: optimizers compared at the same tuning budget, with fresh seeds and honest intervals."""
