"""The former place of `downslope.testing.rules`."""

from downslope.testing.rules import Case, RuleContract, gradients, parameters, run

__all__ = ["Case", "RuleContract", "gradients", "parameters", "run"]
