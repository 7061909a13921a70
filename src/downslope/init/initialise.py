"""One initialisation over a whole model, each parameter by the role that it plays."""

from __future__ import annotations

import functools
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, cast

import torch
from torch import nn
from torch.nn import Parameter
from torch.nn.parameter import is_lazy

from downslope.core.errors import ModelError
from downslope.init.auto import followers
from downslope.init.bare import bare_matrices, blocks
from downslope.init.chosen import asks_what_follows, chosen, inner, is_whole
from downslope.init.constant import constant
from downslope.init.roles import Held, Init, roles, turned
from downslope.init.trace import Batch, Trace, trace
from downslope.init.xavier import xavier
from downslope.init.zeros import zeros


@torch.no_grad()
def initialise(
    model: nn.Module,
    init: str | Mapping[str, Any] | Init,
    generator: torch.Generator | None = None,
    *,
    batch: Batch = None,
    modules: Sequence[str] = (),
) -> list[str]:
    """Initialise a model in place, by the role of each parameter.

    Weights of linear maps, convolutions (group by group), attention and recurrent inputs by `init`; their
    biases 0, but 1 for an LSTM's forget gate (Gers et al. 2000); recurrent weights orthogonal, gate by gate;
    embeddings N(0, 0.02**2), a padding row 0. With "zeros" all of these are 0. A parametrised weight (weight
    norm) is filled through its parametrisation where that has a way back. Norms stay as they are, and so do
    frozen parameters and those of modules with a role unknown here; but "auto" draws the matrices among these
    last by what reads them, and where that is not seen by `xavier`, which does not ask which axis is the
    input (`bare_matrices`).

    Args:
        model: any module; tied weights are drawn once.
        init: a name of the table ("he", "xavier", "auto", ...), a table of name and settings such as
            ``{"name": "normal", "std": 0.01}``, or a function of weight and generator, or of the model.
        generator: of the draws, on the CPU; by default torch's own.
        batch: what the model is called on: a tensor, a tuple of arguments, a dict of keywords, or
            ``count -> batch``. With it "auto" sees activations that are called as functions; "lsuv" and
            "fixup" need it.
        modules: qualified names; left out, the whole model.

    Returns:
        The names of the parameters that were left as they were, norms included.

    Raises:
        UnknownNameError: no such name.
        ModelError: a lazy parameter without a shape yet, or what a method for whole models raises.
    """
    rule = chosen(init)
    lazy = next((key for key, p in model.named_parameters() if is_lazy(p)), None)
    if lazy is not None:
        raise ModelError(f"parameter {lazy!r} has no shape yet; run the model on one batch first")
    if is_whole(rule):
        if modules:
            raise ModelError(f"init {init!r} works on a whole model, not on {', '.join(modules)} alone")
        return cast("Callable[..., list[str]]", rule)(model, generator, batch=batch)
    wanted = _below(model, modules)
    if asks_what_follows(rule):
        done = _drawn(wanted, rule, seen(model, batch), generator)
    else:
        done = _drawn(wanted, rule, None, generator)
    return [key for each in wanted for key, p in _named(model, each) if id(p) not in done]


def _below(model: nn.Module, modules: Sequence[str]) -> list[nn.Module]:
    return [model.get_submodule(name) for name in modules] or [model]


def _named(model: nn.Module, within: nn.Module) -> Iterator[tuple[str, Parameter]]:
    own = {id(p) for p in within.parameters()}
    return ((key, p) for key, p in model.named_parameters() if id(p) in own)


@dataclass(frozen=True)
class Seen:
    """What is known of the model's forward pass, for the rule that reads what follows.

    Attributes:
        static: Layer to class of activation, by the order of the modules.
        read: Parameter id to class of activation (None: none follows) and its leak, by a traced pass.
        right: Ids of matrices that stand on the right of a product, stored (in, out).
        straight: Ids of bare matrices that enter a map as a layer's weight does, stored (out, in).
    """

    static: Mapping[nn.Module, type[nn.Module]] = field(default_factory=dict[nn.Module, type[nn.Module]])
    read: Mapping[int, tuple[type[nn.Module] | None, float]] = field(
        default_factory=dict[int, tuple[type[nn.Module] | None, float]]
    )
    right: frozenset[int] = frozenset()
    straight: frozenset[int] = frozenset()

    def suited(self, rule: Init, module: nn.Module | None, parameters: Sequence[Parameter]) -> Init:
        """`rule` told of the activation that reads a weight."""
        found = next((self.read[id(p)] for p in parameters if id(p) in self.read), None)
        kind, leak = found or (None if module is None else self.static.get(module), 0.0)
        return functools.partial(rule, follows=kind, leak=leak)


def seen(model: nn.Module, batch: Batch) -> Seen:
    """What follows each weight: by a traced pass where there is a batch that the model takes."""
    static = followers(model)
    if batch is None:
        return Seen(static)
    try:
        traced = trace(model, batch)
    except Exception:  # noqa: BLE001 (any model may fail; the order of its modules then has to do)
        return Seen(static)
    return _read_off(traced, static)


def _read_off(traced: Trace, static: Mapping[nn.Module, type[nn.Module]]) -> Seen:
    readers = traced.readers()
    read: dict[int, tuple[type[nn.Module] | None, float]] = {}
    right, straight = set[int](), set[int]()
    for op in traced.maps:
        after = traced.activation_after(op, readers) if op.is_linear else None
        for weight in op.weights:
            if op.is_linear or op.function == "embedding":
                read.setdefault(id(weight), (after.activation, after.leak) if after else (None, 0.0))
        for weight in op.direct:
            if op.right:
                right.add(id(weight))
            elif op.function == "linear":
                straight.add(id(weight))
    return Seen(static, read, frozenset(right), frozenset(straight))


def _drawn(
    wanted: Sequence[nn.Module], rule: Init, known: Seen | None, generator: torch.Generator | None
) -> set[int]:
    """Ids of the parameters that were filled; `known` is given for a rule that asks what follows."""
    done: set[int] = set()
    kind = inner(rule)
    flags = {"zero": kind is zeros, "alike": kind in (zeros, constant)}
    for module in [each for top in wanted for each in top.modules()]:

        def weigh(held: Held, module: nn.Module = module) -> Init:
            return rule if known is None else known.suited(rule, module, held.parameters)

        for held, fill in roles(module, rule, weigh, **flags):
            ids = {id(p) for p in held.parameters}
            free = all(p.requires_grad for p in held.parameters)
            if free and not ids & done and held.fill(fill, generator):
                done |= ids
    if known is not None:
        for top in wanted:
            _draw_bare(top, rule, known, done, generator)
    return done


def _draw_bare(
    model: nn.Module, rule: Init, known: Seen, done: set[int], generator: torch.Generator | None
) -> None:
    """Matrices without a module of torch's: by what reads them where that was seen, else by `xavier`."""
    for _, parameter in bare_matrices(model):
        if id(parameter) in done:
            continue
        done.add(id(parameter))
        suited = known.suited(rule, None, (parameter,)) if parameter.dim() == 2 else None
        if suited is not None and id(parameter) in known.right:
            turned(suited)(parameter, generator)
        elif suited is not None and id(parameter) in known.straight:
            suited(parameter, generator)
        else:
            for block in blocks(parameter):
                xavier(block, generator)
