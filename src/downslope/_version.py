"""The version of Downslope, in one place."""

__version__ = "0.1.0"
