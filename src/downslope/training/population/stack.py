"""The parameters of many models of one shape, a row each, and one template that computes with all of them."""

from __future__ import annotations

import contextlib
import copy
from collections.abc import Generator, Sequence
from typing import Any, NamedTuple, cast

import torch
from torch import Tensor, nn

Place = tuple[dict[str, Any], str]
"""Where a tensor hangs: a module's own table of parameters or buffers, and the name in it."""


class Slot(NamedTuple):
    """One tensor that every model has, under all its names."""

    places: tuple[Place, ...]
    """In the template."""
    shape: torch.Size
    start: int
    """First column, of what is trained."""
    stop: int


def tables(module: nn.Module) -> tuple[dict[str, Any], dict[str, Any]]:
    """A module's own parameters and buffers by name, as it keeps them: they take any tensor."""
    kept = vars(module)
    return kept["_parameters"], kept["_buffers"]


def _held(model: nn.Module) -> dict[int, tuple[Tensor, list[Place]]]:
    """Every parameter and buffer once, with the places where it hangs."""
    found: dict[int, tuple[Tensor, list[Place]]] = {}
    for module in model.modules():
        for table in tables(module):
            for name, tensor in table.items():
                if tensor is not None:
                    found.setdefault(id(tensor), (tensor, []))[1].append((table, name))
    return found


class Stack:
    """Rows of what is trained, ``flat`` of shape (M, P), and stacked tensors of what is not.

    The models keep their modules: their parameters and buffers become views of the rows, so that whatever
    acts on a model of its own (an optimizer, a constraint, an average, what saves it) acts on its row.

    Args:
        models: M models of one structure, on one device, of one floating type.
        order: Parameters of the first model in the order that columns are to have.

    Attributes:
        template: A copy of the first model, for `torch.func.vmap`: `put` hangs tensors into it.
        gradient: (M, P); every parameter's ``grad`` is a view of its row, but of those in `unused`.
        numbers: Tensors of all members by the template's names, (M, ...) each, without a gradient.
        slopes: Views of `gradient` by the names of what is trained.
    """

    def __init__(self, models: Sequence[nn.Module], order: Sequence[Tensor] = ()) -> None:
        self.template = copy.deepcopy(models[0])
        self._models = [list(_held(model).values()) for model in models]
        held = list(_held(self.template).values())
        own = self._models[0]
        place = {id(tensor): k for k, tensor in enumerate(order)}
        trained = [i for i, (tensor, _) in enumerate(own) if tensor.requires_grad]
        trained.sort(key=lambda i: place.get(id(own[i][0]), len(place) + i))
        self._trained, self._fixed = trained, [i for i in range(len(own)) if i not in set(trained)]
        self.slots: list[Slot] = []
        column = 0
        for i in trained:
            tensor, places = held[i]
            self.slots.append(Slot(tuple(places), tensor.shape, column, column + tensor.numel()))
            column += tensor.numel()
        self._template = [held[i][0] for i in [*trained, *self._fixed]]
        self._others = [tuple(held[i][1]) for i in self._fixed]
        place_of = {id(held[i][0]): k for k, i in enumerate([*trained, *self._fixed])}
        named = [
            *self.template.named_parameters(remove_duplicate=False),
            *self.template.named_buffers(remove_duplicate=False),
        ]
        self._names = {name: place_of[id(tensor)] for name, tensor in named}
        self.unused: frozenset[int] = frozenset()
        rows = [torch.cat([each[i][0].detach().reshape(-1) for i in trained]) for each in self._models]
        self._lay(
            torch.stack(rows), [torch.stack([m[i][0].detach() for m in self._models]) for i in self._fixed]
        )

    def __len__(self) -> int:
        return len(self._models)

    def _lay(self, flat: Tensor, others: list[Tensor]) -> None:
        """Take these rows, and make the models' tensors views of them."""
        self.flat, self.others = flat.requires_grad_(), others
        self.gradient = torch.zeros_like(flat, requires_grad=False)
        sizes = [slot.stop - slot.start for slot in self.slots]
        held = zip(self.flat.detach().unbind(0), self.gradient.unbind(0), self._models, strict=True)
        for row, (own, slope, model) in enumerate(held):
            parts = zip(self._trained, self.slots, _cut(own, sizes), _cut(slope, sizes), strict=True)
            for place, (i, slot, values, slopes) in enumerate(parts):
                tensor = model[i][0]
                had = tensor.grad is not None
                tensor.data = values.view(slot.shape)
                tensor.grad = slopes.view(slot.shape) if had or place not in self.unused else None
            for i, stacked in zip(self._fixed, others, strict=True):
                model[i] = (_hang(model[i], stacked[row]), model[i][1])
        self.numbers = self.views(self._columns(self.flat.detach()))
        slopes = self._columns(self.gradient)
        self.slopes = {name: slopes[place] for name, place in self._names.items() if place < len(slopes)}

    def views(self, parts: Sequence[Tensor], others: Sequence[Tensor] | None = None) -> dict[str, Tensor]:
        """Tensors of all members by the template's names, tied ones under each of theirs."""
        held = [*parts, *(self.others if others is None else others)]
        return {name: held[place] for name, place in self._names.items()}

    def own(self, row: int) -> list[Tensor]:
        """The trained parameters of one model, by slot."""
        return [self._models[row][i][0] for i in self._trained]

    def norms(self) -> Tensor:
        """Of the members' gradients, (M,): of the parameters in the model's order, then of those."""
        order = sorted(range(len(self.slots)), key=self._trained.__getitem__)
        parts = [
            self.gradient[:, self.slots[k].start : self.slots[k].stop] for k in order if k not in self.unused
        ]
        each: list[Tensor] = [torch.linalg.vector_norm(part, dim=1) for part in parts]
        return torch.linalg.vector_norm(torch.stack(each, 1), dim=1)

    def leave_out(self, unused: Sequence[int]) -> None:
        """Parameters, by their place among the slots, which no gradient reaches: their ``grad`` is None."""
        self.unused = frozenset(unused)
        for model in self._models:
            for place in self.unused:
                model[self._trained[place]][0].grad = None

    def parts(self) -> list[Tensor]:
        """What is trained, as views of `flat` of shape (M, ...), a gradient flowing back into it."""
        return self._columns(self.flat)

    def _columns(self, flat: Tensor) -> list[Tensor]:
        columns = _cut(flat, [slot.stop - slot.start for slot in self.slots], 1)
        return [part.view(len(flat), *slot.shape) for part, slot in zip(columns, self.slots, strict=True)]

    def taken(self, rows: Sequence[int]) -> tuple[list[Tensor], list[Tensor]]:
        """What is trained and what is not of these rows, without a gradient."""
        whole = list(rows) == list(range(len(self)))
        index = torch.tensor(list(rows), device=self.flat.device)
        flat = self.flat.detach() if whole else self.flat.detach()[index]
        others = self.others if whole else [each[index] for each in self.others]
        return self._columns(flat), others

    @contextlib.contextmanager
    def kept(self) -> Generator[None]:
        """A block after which all rows are what they were."""
        flat, others = self.flat.detach().clone(), [each.clone() for each in self.others]
        try:
            yield
        finally:
            with torch.no_grad():
                self.flat.detach().copy_(flat)
                for each, former in zip(self.others, others, strict=True):
                    each.copy_(former)

    def put(self, parts: Sequence[Tensor], others: Sequence[Tensor]) -> None:
        """Hang tensors of one model into the template."""
        for slot, tensor in zip(self.slots, parts, strict=True):
            for table, name in slot.places:
                table[name] = tensor
        for places, tensor in zip(self._others, others, strict=True):
            for table, name in places:
                table[name] = tensor

    def restore(self) -> None:
        """Hang the template's own tensors back, after a pass under vmap."""
        held = [*[slot.places for slot in self.slots], *self._others]
        for places, tensor in zip(held, self._template, strict=True):
            for table, name in places:
                table[name] = tensor

    def still_there(self, others: Sequence[Tensor]) -> bool:
        """Whether the template holds what was put there: a forward may hang other tensors in their places."""
        return all(
            table[name] is tensor
            for places, tensor in zip(self._others, others, strict=True)
            for table, name in places
        )

    def keep(self, rows: Sequence[int]) -> None:
        """Leave out all but `rows`; models that are left out keep tensors of their own."""
        kept = set(rows)
        for i, model in enumerate(self._models):
            if i not in kept:
                for held in model:
                    tensor = held[0]
                    tensor.data = tensor.data.clone()
                    tensor.grad = None
        self._models = [self._models[i] for i in rows]
        if not rows:
            return
        index = torch.tensor(list(rows), device=self.flat.device)
        self._lay(self.flat.detach()[index], [each[index] for each in self.others])


def _hang(held: tuple[Tensor, list[Place]], view: Tensor) -> Tensor:
    """Put `view` where a tensor of a model hangs; a parameter that is not trained stays one."""
    tensor, places = held
    if isinstance(tensor, nn.Parameter):
        tensor.data = view
        return tensor
    for table, name in places:
        table[name] = view
    return view


def _cut(whole: Tensor, sizes: Sequence[int], dim: int = 0) -> tuple[Tensor, ...]:
    return cast("tuple[Tensor, ...]", whole.split(list(sizes), dim))  # pyright: ignore[reportUnknownMemberType]
