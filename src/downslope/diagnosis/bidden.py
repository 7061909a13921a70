"""Remedies in words for somebody's own loop or script, which no edit can reach: what to write there."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from downslope.core.edits import Advice, Combined, Edit, Reinitialise
from downslope.core.run import Run

_SQUASHING = ("tanh", "hardtanh", "sigmoid", "hardsigmoid")

_HE = "torch.nn.init.kaiming_normal_(weight, nonlinearity='relu')"
_XAVIER = "torch.nn.init.xavier_uniform_(weight)"
_WRITTEN = {
    "he": _HE, "xavier": _XAVIER, "orthogonal": "torch.nn.init.orthogonal_(weight)",
    "lecun": "torch.nn.init.kaiming_normal_(weight, nonlinearity='linear')",
}  # fmt: skip


def in_words(run: Run, edits: tuple[Edit, ...]) -> tuple[Edit, ...]:
    """`edits` as a script's author can act on them; those of a task, whose edits are applied, as they are."""
    if run.problem is not None or run.recipe is not None:
        return edits
    return tuple(_said(run, each) for each in edits)


def _said(run: Run, edit: Edit) -> Edit:
    if isinstance(edit, Combined) and any(isinstance(each, Reinitialise) for each in edit.edits):
        anew = [each for each in edit.edits if isinstance(each, Reinitialise)]
        rest = Combined(tuple(each for each in edit.edits if each not in anew))
        told = [str(rest)] if rest.edits else []
        return Advice("; ".join([*told, *(str(_said(run, each)) for each in anew)]))
    if not isinstance(edit, Reinitialise):
        return edit
    where = f" of {', '.join(edit.modules)}" if edit.modules else ""
    how = _WRITTEN.get(edit.init) or _by_activation(run)
    return Advice(f"initialise the weights{where} with {how}, biases 0")


def _by_activation(run: Run) -> str:
    """What the rule "auto" chooses, by the activations that were seen."""
    seen: Mapping[str, Mapping[str, Any]] = run.facts.get("activations") or {}
    kinds = {str(said.get("kind")) for said in seen.values()}
    if kinds and kinds <= set(_SQUASHING):
        return _XAVIER
    both = any(kind in _SQUASHING for kind in kinds) or not kinds
    return f"{_HE} ({_XAVIER} before tanh and sigmoid)" if both else _HE
