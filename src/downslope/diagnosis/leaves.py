"""The parameters behind a loss, found in its graph; and what no graph is of."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

NODES = 20_000
"""Nodes of a graph that are looked at for its parameters."""

BREADTH = 1024
"""Nodes that wait, from which on the latest comes first: taking the first of a long list is slow."""


def leaves(loss: Tensor) -> list[Tensor]:
    """The leaf tensors that a loss gets a gradient for, in about the order in which it used them."""
    found: dict[int, Tensor] = {}
    queue, known = [loss.grad_fn], set[Any]()
    while queue and len(known) < NODES:
        node: Any = queue.pop(0) if len(queue) < BREADTH else queue.pop()
        if node is None or node in known:
            continue
        known.add(node)  # held, so that no later one gets its identity
        queue += [parent for parent, _ in node.next_functions]
        leaf = getattr(node, "variable", None)
        if isinstance(leaf, Tensor):
            found[id(leaf)] = leaf
    return list(reversed(found.values()))


_functorch: Any = torch._C._functorch  # type: ignore[attr-defined] # pyright: ignore[reportPrivateUsage, reportAttributeAccessIssue, reportUnknownMemberType, reportUnknownVariableType] (there is no public way)


def transformed(tensor: Tensor) -> bool:
    """Whether it belongs to a transform of `torch.func` that is at work: after that it is none."""
    return bool(_functorch.is_functorch_wrapped_tensor(tensor))
