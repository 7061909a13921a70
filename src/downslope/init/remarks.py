"""What is worth saying of a start before the first step."""

from __future__ import annotations

from torch import nn

from downslope.core.adapted import unwrap
from downslope.core.starts import Init
from downslope.init.chosen import chosen, inner
from downslope.init.constant import constant
from downslope.init.fixup import branches, fixup
from downslope.init.trace import Batch
from downslope.init.zeros import zeros


def remark(model: nn.Module, init: Init | None, batch: Batch) -> str | None:
    """One line on a start that leaves all units alike, or on the residual branches that Fixup found.

    Args:
        model: Initialised by `init`.
        init: As a recipe has it.
        batch: What the model is called on.
    """
    if init is None:
        return None
    rule = inner(chosen(init))
    if rule in (zeros, constant):
        hidden = _hidden(model)
        if not hidden:
            return None
        which = ", ".join(hidden[:3]) + (" ..." if len(hidden) > 3 else "")
        return (
            f"init {rule.__name__}: the units of {which} start alike, get equal gradients and stay alike; "
            "init='auto' draws weights that differ"
        )
    if rule is fixup:
        found = branches(unwrap(model), batch)
        return (
            f"init fixup: {len(found)} residual branches, from {found[0]} to {found[-1]}" if found else None
        )
    return None


def _hidden(model: nn.Module) -> list[str]:
    """Names of the layers before the last one."""
    weights = [name for name, p in unwrap(model).named_parameters() if p.dim() > 1 and p.requires_grad]
    return [name.removesuffix(".weight") for name in weights[:-1]]
