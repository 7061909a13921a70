"""The depth of a model, read from its structure: which parameters lie at the input, which at the output.

A unit is what is trained at one rate, or joins the training at once: a block of several that are alike, else
a layer, with the norm that follows it. Where two units are handed the very same tensor (heads side by side,
queries beside keys) they lie at one depth.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import NamedTuple

from torch import nn

from downslope.core.adapted import unwrap
from downslope.core.modules import named_modules, own_parameters

__all__ = ["Call", "Unit", "units"]

_LISTS: tuple[type[nn.Module], ...] = (nn.Sequential, nn.ModuleList, nn.ModuleDict)


class Call(NamedTuple):
    """One call of a module in a forward pass."""

    name: str
    """Qualified name in the user's model."""
    given: int
    """The same number for the same first input."""


@dataclass(frozen=True)
class Unit:
    """Modules at one depth, and the parameters that they hold.

    Attributes:
        modules: Qualified names in the user's model, in the order of the forward pass.
        parameters: Each once; one that is tied belongs to the unit nearest to the input.
    """

    modules: tuple[str, ...]
    parameters: tuple[nn.Parameter, ...]

    @property
    def name(self) -> str:
        """The modules as people are told of them."""
        if len(self.modules) > 3:
            return f"{self.modules[0]} ... {self.modules[-1]}"
        return ", ".join(each or "the model" for each in self.modules)


def units(model: nn.Module, calls: Sequence[Call] = ()) -> tuple[Unit, ...]:
    """The units of `model`, that nearest to the input first; they hold every parameter once.

    Args:
        model: Looked at without what adapts it; parameters of what adapts it belong to the last unit.
        calls: The calls of modules in a forward pass, in their order; without them, and for what was not
            called, the order in which the model's modules were made.
    """
    own = unwrap(model)
    counts = Counter(type(module) for module in own.modules())
    found = [_Part([name], modules) for name, modules in _parts(own, "", counts)]
    rows = _merged(_ordered(found, calls), calls)
    seen: set[int] = set()
    made: list[Unit] = []
    for row in rows:
        parameters = [p for module in row.held for p in module.parameters() if id(p) not in seen]
        parameters = list({id(p): p for p in parameters}.values())
        seen |= {id(p) for p in parameters}
        if parameters:
            made.append(Unit(tuple(row.names), tuple(parameters)))
    rest = tuple(p for p in model.parameters() if id(p) not in seen)  # held by modules above, or around it
    if rest and made:
        inside = {id(p) for p in own.parameters()}
        direct = tuple(p for p in rest if id(p) in inside)
        outside = tuple(p for p in rest if id(p) not in inside)
        made[0] = replace(made[0], parameters=made[0].parameters + direct)
        made[-1] = replace(made[-1], parameters=made[-1].parameters + outside)
    return tuple(made) if made else ((Unit(("",), rest),) if rest else ())


class _Part:
    """A unit on its way: names, and the modules that hold its parameters."""

    def __init__(self, names: list[str], held: list[nn.Module]) -> None:
        self.names, self.held = names, held


def _parts(
    module: nn.Module, name: str, counts: Counter[type[nn.Module]]
) -> list[tuple[str, list[nn.Module]]]:
    """Layers and blocks below `module` in the order in which they were made, norms with what they follow."""
    children = [(key, each) for key, each in module.named_children() if any(True for _ in each.parameters())]
    if not children:
        return [(name, [module])] if own_parameters(module) else []
    found: list[tuple[str, list[nn.Module]]] = []
    first: list[nn.Module] = []
    for key, child in children:
        full = f"{name}.{key}" if name else key
        if _is_norm(child):
            (found[-1][1] if found else first).append(child)
        elif _is_block(child, counts):
            found.append((full, [child]))
        else:
            found += _parts(child, full, counts)
    if not found:
        return [(name, [module])]
    holder = nn.ParameterList(own_parameters(module))
    found[0][1].extend([*first, *([holder] if len(holder) else [])])
    return found


def _is_norm(module: nn.Module) -> bool:
    """Whether a layer only scales and shifts."""
    held = list(module.parameters())
    return not any(True for _ in module.children()) and all(p.dim() <= 1 for p in held)


def _is_block(module: nn.Module, counts: Counter[type[nn.Module]]) -> bool:
    """Whether it is one of several alike, and no network that has blocks of its own."""
    if type(module) in _LISTS or not any(True for _ in module.children()) or counts[type(module)] < 2:
        return False
    return not any(_has_blocks(each) for each in module.modules() if isinstance(each, _LISTS))


def _has_blocks(listed: nn.Module) -> bool:
    kinds = Counter(
        type(each)
        for each in listed.children()
        if type(each) not in _LISTS and any(True for _ in each.children())
    )
    return any(count > 1 for count in kinds.values())


def _ordered(parts: list[_Part], calls: Sequence[Call]) -> list[_Part]:
    """By the first call; what was not called stays behind what was made before it."""
    first: dict[str, int] = {}
    for index, call in enumerate(calls):
        first.setdefault(call.name, index)
    placed: list[tuple[int, int]] = []
    last = -1
    for index, part in enumerate(parts):
        last = first.get(part.names[0], last)
        placed.append((last, index))
    return [parts[index] for _, index in sorted(placed)]


def _merged(parts: list[_Part], calls: Sequence[Call]) -> list[_Part]:
    """Neighbours that are handed the very same tensor become one."""
    given: dict[str, int] = {}
    for call in calls:
        given.setdefault(call.name, call.given)
    made: list[_Part] = []
    for part in parts:
        own = given.get(part.names[0])
        if made and own is not None and own == given.get(made[-1].names[0]):
            made[-1] = _Part(made[-1].names + part.names, made[-1].held + part.held)
        else:
            made.append(part)
    return made


def all_names(model: nn.Module) -> list[str]:
    """Qualified names of the modules of the user's model that hold parameters, themselves or below."""
    return [name for name, module in named_modules(unwrap(model)) if any(True for _ in module.parameters())]
