"""What an objective expects of the model's output, read from the objective itself.

Recognised are the objectives of this package, the loss classes of `torch.nn` (and subclasses that keep the
forward), the loss functions of `torch.nn.functional`, and a `functools.partial` of any of them. Of anything
else the meaning is not guessed.
"""

from __future__ import annotations

import functools
import inspect
from typing import Any, NamedTuple, cast, get_args

from torch import nn

from downslope.core import names
from downslope.objectives.configured import Configured
from downslope.objectives.objective import Expects, Target
from downslope.objectives.penalised import Penalised


class Meaning(NamedTuple):
    """What an objective expects; None where that is not known."""

    expects: Expects | None
    """What the model's output has to be."""
    target: Target | None
    """What the target has to be."""
    name: str
    """How the objective is called in a message."""
    reduction: str | None
    """"mean", "sum", "none", "batchmean"; None where it is not known."""


_Kind = tuple[Expects, Target]

_MODULES: dict[type[nn.Module], _Kind] = {
    nn.CrossEntropyLoss: ("logits", "class"),
    nn.NLLLoss: ("log-probabilities", "class"),
    nn.CTCLoss: ("log-probabilities", "class"),
    nn.KLDivLoss: ("log-probabilities", "probability"),
    nn.BCELoss: ("probability", "binary"),
    nn.BCEWithLogitsLoss: ("logit", "binary"),
    nn.MultiLabelSoftMarginLoss: ("logit", "binary"),
    nn.SoftMarginLoss: ("sign", "binary"),
    nn.MultiMarginLoss: ("logits", "class"),
    nn.MultiLabelMarginLoss: ("logits", "class"),
    nn.MSELoss: ("real", "real"),
    nn.L1Loss: ("real", "real"),
    nn.SmoothL1Loss: ("real", "real"),
    nn.HuberLoss: ("real", "real"),
    nn.GaussianNLLLoss: ("real", "real"),
    nn.PoissonNLLLoss: ("real", "real"),
}

_FUNCTIONS: dict[str, _Kind] = {
    "cross_entropy": ("logits", "class"),
    "nll_loss": ("log-probabilities", "class"),
    "ctc_loss": ("log-probabilities", "class"),
    "kl_div": ("log-probabilities", "probability"),
    "binary_cross_entropy": ("probability", "binary"),
    "binary_cross_entropy_with_logits": ("logit", "binary"),
    "multilabel_soft_margin_loss": ("logit", "binary"),
    "soft_margin_loss": ("sign", "binary"),
    "multi_margin_loss": ("logits", "class"),
    "multilabel_margin_loss": ("logits", "class"),
    "mse_loss": ("real", "real"),
    "l1_loss": ("real", "real"),
    "smooth_l1_loss": ("real", "real"),
    "huber_loss": ("real", "real"),
    "gaussian_nll_loss": ("real", "real"),
    "poisson_nll_loss": ("real", "real"),
}


def meaning(objective: object) -> Meaning:
    """What `objective` expects, as far as it is known.

    Args:
        objective: a callable, a name of the table, or None (then the model's output carries its loss).

    Returns:
        Its meaning; `expects`, `target` and `reduction` are None for a function of the user's own.

    Raises:
        UnknownNameError: a name that no table holds.
    """
    if objective is None:
        return Meaning(None, None, "output.loss", None)
    if isinstance(objective, str):
        return meaning(names.resolve("objective", objective))
    if isinstance(objective, functools.partial):
        inner = cast("functools.partial[Any]", objective)
        known = meaning(inner.func)
        return known._replace(reduction=inner.keywords.get("reduction", known.reduction))
    if isinstance(objective, Penalised):
        return meaning(objective.objective)
    if isinstance(objective, Configured):
        return meaning(objective.function)
    if isinstance(objective, nn.Module):
        return _of_module(objective)
    return _of_function(objective)


def _of_module(module: nn.Module) -> Meaning:
    name = type(module).__name__
    for base, (expects, target) in _MODULES.items():
        if isinstance(module, base) and type(module).forward is base.forward:
            reduction = getattr(module, "reduction", None)
            return Meaning(expects, target, name, reduction if isinstance(reduction, str) else None)
    return Meaning(None, None, name, None)


def _of_function(function: object) -> Meaning:
    # A tool that watches a script wraps torch's losses; functools.wraps leaves the way back.
    original: Any = inspect.unwrap(function) if callable(function) else function
    name = getattr(original, "__name__", None) or type(original).__name__
    if getattr(original, "__module__", None) == "torch.nn.functional" and name in _FUNCTIONS:
        expects, target = _FUNCTIONS[name]
        return Meaning(expects, target, name, "mean")
    expects, target, reduction = (getattr(original, key, None) for key in ("expects", "target", "reduction"))
    if expects not in get_args(Expects):  # a function that happens to have an attribute of this name
        return Meaning(None, None, name, None)
    return Meaning(expects, target if target in get_args(Target) else None, name, reduction)
