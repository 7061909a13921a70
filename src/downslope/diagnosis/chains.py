"""The graph of a loss whose parameters belong to no module, read as layers and activations.

A layer is a product of a leaf with what is not one: its inputs where no gradient goes there, else what came
from a layer before. Nodes keep what they multiplied until their backward pass has run, so that nothing has
to be wrapped, and nothing is done in steps that are not looked at.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any, NamedTuple

import torch
from torch import Tensor

NODES = 5000
"""Nodes of a graph, at most, that is read: some 10 ms."""

_PRODUCTS: dict[str, tuple[tuple[int, str], tuple[int, str]]] = {
    "AddmmBackward0": ((1, "mat1"), (2, "mat2")),
    "MmBackward0": ((0, "self"), (1, "mat2")),
    "BmmBackward0": ((0, "self"), (1, "mat2")),
    "BaddbmmBackward0": ((1, "batch1"), (2, "batch2")),
    "MvBackward0": ((0, "self"), (1, "vec")),
    "DotBackward0": ((0, "self"), (1, "tensor")),
    "ConvolutionBackward0": ((0, "input"), (1, "weight")),
    "MulBackward0": ((0, "self"), (1, "other")),
}
"""Nodes of products: where their two factors come from, and under which names they are kept."""

_BIASES = {"AddmmBackward0": 0, "BaddbmmBackward0": 0, "ConvolutionBackward0": 2}
_SAME = ("Alias", "Clone", "ToCopy", "Contiguous")
_SHAPED = ("View", "UnsafeView", "ReshapeAlias", "Squeeze", "Unsqueeze")
_MOVED = (*_SAME, *_SHAPED, "Expand", "TBackward", "Transpose", "Permute")
_ADDED = ("AddBackward", "SubBackward", *_MOVED)

Change = Callable[[Tensor], Tensor]


class Factor(NamedTuple):
    """One use of a parameter as a factor of a product."""

    node: Any
    leaf: Tensor
    given: Tensor | None
    """What it was multiplied with, features last (of a convolution as it was); None where not kept."""
    rows: Change
    """From the values of the leaf to one row for each unit."""
    entry: bool
    """Whether the other factor gets no gradient: it is data."""
    first: bool
    """Whether the leaf stands first, so that examples are columns: W @ X."""


class Graph:
    """The nodes behind a loss, in the order in which they were made.

    Args:
        loss: A scalar whose backward pass has not run.
        held: Ids of the parameters that are trained.
    """

    def __init__(self, loss: Tensor, held: set[int]) -> None:
        self.held = held
        self.whole = True
        """Whether all of the graph was read, and all of its leaves are held."""
        found: dict[Any, None] = {}
        queue: list[Any] = [loss.grad_fn]
        while queue:
            node = queue.pop()
            if node is None or node in found:
                continue
            if len(found) >= NODES:
                self.whole = False
                break
            found[node] = None
            queue += [each for each, _ in node.next_functions]
        leaves = [each for each in found if is_leaf(each)]
        self.whole = self.whole and all(id(each.variable) in held for each in leaves)
        self.nodes = sorted((each for each in found if not is_leaf(each)), key=lambda n: n._sequence_nr())
        self.children: dict[Any, list[Any]] = {}
        for node in self.nodes:
            for each, _ in node.next_functions:
                if each is not None:
                    self.children.setdefault(each, []).append(node)
        self.factors = {f.node: f for node in self.nodes if (f := self._factor(node)) is not None}
        self.behind: dict[Any, Factor] = {}
        """Of every node the latest layer that it was made from."""
        for node in self.nodes:
            own = [self._source(each) for each, _ in node.next_functions if each is not None]
            late = [each for each in own if each is not None]
            if late:
                self.behind[node] = max(late, key=lambda each: each.node._sequence_nr())
        self.feeding: set[Any] = set()
        """Nodes from which a later layer is made."""
        for node in reversed(self.nodes):
            if any(each in self.factors or each in self.feeding for each in self.children.get(node, ())):
                self.feeding.add(node)

    def _source(self, node: Any) -> Factor | None:
        return self.factors.get(node) or self.behind.get(node)

    def _factor(self, node: Any) -> Factor | None:
        places = _PRODUCTS.get(type(node).__name__)
        if places is None:
            return None
        chains = [self.chain(node.next_functions[at][0]) for at, _ in places]
        if (chains[0] is None) == (chains[1] is None):
            return None
        own = 0 if chains[0] is not None else 1
        found = chains[own]
        kind = type(node).__name__
        if found is None or (own == 0 and kind == "ConvolutionBackward0"):
            return None
        leaf, change = found
        other, name = places[1 - own]
        entry = node.next_functions[other][0] is None
        given = saved(node, name)
        if kind == "MulBackward0":
            return self._weighed(node, leaf, given) if entry else None
        return Factor(node, leaf, given, _rows(node, own, change), entry, own == 0)

    def _weighed(self, node: Any, leaf: Tensor, given: Tensor | None) -> Factor | None:
        """Data times a number, or its columns times one each and summed: a layer of one unit."""
        if given is None or not given.dim() or given.numel() < 2:
            return None
        if leaf.numel() == 1:
            columns = given.reshape(-1, 1)
        else:
            above = self.children.get(node, ())
            summed = len(above) == 1 and _is(above[0], "SumBackward1")
            if not summed or leaf.dim() != 1 or given.dim() != 2 or given.shape[1] != len(leaf):
                return None
            columns = given
        return Factor(node, leaf, columns, _one_row, True, False)

    def chain(self, node: Any) -> tuple[Tensor, Change] | None:
        """The held leaf that a node is, but for its shape, and how its values come there."""
        found = leaf_behind(node)
        return found if found is not None and id(found[0]) in self.held else None

    def added(self, factor: Factor) -> tuple[list[Factor], list[Tensor], bool]:
        """What is summed into the units of a layer.

        Returns:
            The layers, the biases, and whether that is all: nothing is added that may tell units apart.
        """
        top = factor.node
        while len(above := self.children.get(top, ())) == 1 and _is(above[0], *_ADDED):
            top = above[0]
        layers, biases, only = list[Factor](), list[Tensor](), True
        queue: list[Any] = [top]
        while queue:
            node = queue.pop()
            if (leaf := self.chain(node)) is not None:
                biases.append(leaf[0])
            elif node in self.factors:
                layers.append(self.factors[node])
                at = _BIASES.get(type(node).__name__)
                if at is not None and node.next_functions[at][0] is not None:
                    queue.append(node.next_functions[at][0])
            elif node is not None and _is(node, *_ADDED):
                queue += [each for each, _ in node.next_functions]
            else:
                only = False
        return layers, biases, only

    def read(self) -> bool:
        """Whether data that meets a parameter in a product does so in a layer."""
        return not any(
            type(node).__name__ in _PRODUCTS and node not in self.factors and self._mixes(node)
            for node in self.nodes
        )

    def _mixes(self, node: Any) -> bool:
        places = [node.next_functions[at][0] for at, _ in _PRODUCTS[type(node).__name__]]
        if all(each is not None for each in places):
            return False
        if type(node).__name__ != "MulBackward0":
            return True
        return any(self.chain(each) is not None for each in places)

    def complete(self) -> bool:
        """Whether nothing but the entries of its layers brings data into what is fed to a layer."""
        return all(
            node in self.factors or not any(each is None for each, _ in node.next_functions) or _plain(node)
            for node in self.nodes
            if node in self.feeding
        )


def is_leaf(node: Any) -> bool:
    """Whether a node stands for a leaf tensor."""
    return type(node).__name__ == "AccumulateGrad"


def leaf_behind(node: Any) -> tuple[Tensor, Change] | None:
    """The leaf that a node is, but for its shape, and how its values come there; None of any other."""
    changes: list[Change] = []
    for _ in range(12):
        if node is None:
            return None
        if is_leaf(node):
            return node.variable, _after(changes)
        if not _is(node, *_MOVED) or len(node.next_functions) != 1:
            return None
        changes.append(_change(node))
        node = node.next_functions[0][0]
    return None


def product(node: Any) -> Tensor | None:
    """What a product made, calculated anew; None where the node has not kept enough of its factors."""
    places = _PRODUCTS.get(type(node).__name__)
    if places is None or type(node).__name__ == "ConvolutionBackward0":
        return None
    both: list[Tensor] = []
    for at, name in places:
        value = saved(node, name)
        if value is None:
            found = leaf_behind(node.next_functions[at][0])
            value = None if found is None else found[1](found[0].detach())
        if value is None:
            return None
        both.append(value)
    return both[0] * both[1] if type(node).__name__ == "MulBackward0" else both[0] @ both[1]


def saved(node: Any, name: str) -> Tensor | None:
    """What a node keeps under `name`; None where it keeps nothing, or where somebody's hook would be asked.

    A hook on it may make it anew (a checkpoint), and only once.
    """
    raw: Any = getattr(node, f"_raw_saved_{name}", None)
    if raw is None or raw.unpack_hook is not None:
        return None
    found = getattr(node, f"_saved_{name}", None)
    return found.detach() if isinstance(found, Tensor) else None


def examples(factor: Factor) -> Tensor | None:
    """What a layer was given, examples first and features last; of a convolution as it was."""
    given = factor.given
    if given is None or not given.is_floating_point() or given.layout is not torch.strided:
        return None
    if type(factor.node).__name__ == "ConvolutionBackward0":
        return given
    if given.dim() == 1:
        return given[None]
    if factor.first:
        given = given.transpose(-1, -2)
    return given.flatten(0, -2) if given.dim() > 2 else given


def _one_row(leaf: Tensor) -> Tensor:
    return leaf.reshape(1, -1)


def _rows(node: Any, own: int, change: Change) -> Change:
    """One row for each unit: the columns of a matrix that stands last, the rows of one that stands first."""
    if type(node).__name__ == "ConvolutionBackward0":
        swapped = bool(node._saved_transposed)
        return lambda leaf: (change(leaf).transpose(0, 1) if swapped else change(leaf)).flatten(1)

    def rows(leaf: Tensor) -> Tensor:
        made = change(leaf)
        made = made[0] if made.dim() == 3 else made
        if made.dim() == 1:
            return made[None]
        return made.t() if own else made

    return rows


def _after(changes: list[Change]) -> Change:
    def changed(leaf: Tensor) -> Tensor:
        for each in reversed(changes):
            leaf = each(leaf)
        return leaf

    return changed


def _change(node: Any) -> Change:
    """What a node that moves values does to their shape."""
    if _is(node, "TBackward"):
        return lambda x: x.t()
    if _is(node, "Transpose"):
        first, second = _axis(node._saved_dim0), _axis(node._saved_dim1)
        return lambda x: x.transpose(first, second)
    if _is(node, "Permute"):
        axes = [_axis(each) for each in node._saved_dims]
        return lambda x: x.permute(axes)
    if _is(node, *_SAME):
        return lambda x: x
    shape = tuple(int(n) for n in node._input_metadata[0].shape)
    return (lambda x: x.expand(shape)) if _is(node, "Expand") else (lambda x: x.reshape(shape))


def _axis(number: int) -> int:
    """An axis, which nodes keep without its sign."""
    return number - 2**64 if number >= 2**63 else number


def _plain(node: Any) -> bool:
    """Whether what a node takes beside its gradients is a number, or a shape."""
    if _is(node, *_MOVED):
        return True
    if _is(node, "AddBackward"):  # it keeps nothing; one more than an exponential is a sigmoid's
        return any(_is(each, "ExpBackward") for each, _ in node.next_functions)
    if _is(node, "MulBackward", "DivBackward", "Maximum", "Pow"):
        kept = [saved(node, name) for name in ("self", "other", "exponent")]
        data = [each for each, (at, _) in zip(kept, node.next_functions, strict=False) if at is None]
        return all(each is not None and (each.dim() == 0 or not bool(each.any())) for each in data)
    return False


def _is(node: Any, *names: str) -> bool:
    return node is not None and type(node).__name__.startswith(names)


class Bend(NamedTuple):
    """An activation between two layers."""

    kind: str
    made: Tensor
    """Its output, units last; of a convolution as it was."""
    after: Factor


def bends(graph: Graph) -> Iterator[Bend]:
    """The rectifiers and the squashing functions whose outputs go into a later layer, in forward order."""
    for node in graph.nodes:
        after = graph.behind.get(node)
        if after is None or node not in graph.feeding:
            continue
        found = _bent(node)
        if found is not None:
            kind, made = found
            if type(after.node).__name__ == "ConvolutionBackward0":
                made = made.movedim(1, -1) if made.dim() == 3 else made
            elif after.first and made.dim() > 1:
                made = made.transpose(-1, -2)
            yield Bend(kind, made, after)


def _bent(node: Any) -> tuple[str, Tensor] | None:
    """Kind and output of an activation, as the functions of torch or as people write them out."""
    name = type(node).__name__
    if name in ("ReluBackward0", "TanhBackward0", "SigmoidBackward0"):
        made = saved(node, "result")
        return None if made is None else (name.removesuffix("Backward0").lower(), made)
    if name == "ReciprocalBackward0" and _is(node.next_functions[0][0], "AddBackward"):
        inner = node.next_functions[0][0]
        made = saved(node, "result")
        is_sigmoid = made is not None and any(_is(each, "ExpBackward") for each, _ in inner.next_functions)
        return ("sigmoid", made) if made is not None and is_sigmoid else None
    made = _rectified(node)
    return None if made is None else ("relu", made)


def _rectified(node: Any) -> Tensor | None:
    if _is(node, "ClampMinBackward0", "ClampBackward1", "ThresholdBackward"):
        x = saved(node, "self")
        least = getattr(node, "_saved_min", getattr(node, "_saved_threshold", None))
        open_above = getattr(node, "_saved_max", None) is None
        return x.clamp_min(0) if x is not None and open_above and least == 0 else None
    if not _is(node, "MaximumBackward") or sum(each is None for each, _ in node.next_functions) != 1:
        return None
    both = saved(node, "self"), saved(node, "other")
    at = 0 if node.next_functions[0][0] is None else 1
    x, floor = both[1 - at], both[at]
    return x.clamp_min(0) if x is not None and floor is not None and not bool(floor.any()) else None
