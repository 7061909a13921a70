"""Batches of a script's training and of its validation, kept as its model and its loss were handed them.

Nothing is called before the end; then copies of the model answer both parts once more, in eval mode and in
training mode, so that what separates the two scores can be told: the mode, or how the inputs were prepared.
"""

from __future__ import annotations

import copy
import math
import weakref
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.modules import module as torch_module
from torch.nn.modules.module import register_module_forward_hook
from torch.utils.hooks import RemovableHandle

from downslope.core import batches
from downslope.core.errors import ModelError
from downslope.core.modules import named_modules
from downslope.diagnosis.compiled import graphs, plain_module
from downslope.diagnosis.measure.modes import NOISY, silenced, still
from downslope.diagnosis.measure.shift import Answers, Part, chunks, first_changed

ROWS = 4096
"""Examples of a part that are kept, at most."""

MOST = 4_000_000
"""Numbers of the inputs that are kept of a part, at most."""

EMPTY = 16
"""Scores in a row of something else than a model's output, after which nothing more is waited for."""

HUGE = 16_000_000
"""Numbers of a batch that is held until it is scored, at most."""

PATIENCE = 20_000
"""Calls of modules after which nobody waits any longer for the one that made what is scored."""

VAIN = 16
"""Times that it is waited in vain in a row, after which nobody waits again."""

LARGEST, FIRST = 50_000_000, 10_000_000
"""Numbers of a model that is copied, at most; and of one whose first weights are kept."""

Loss = Callable[[Tensor, Tensor], Tensor]


@dataclass(frozen=True)
class Pass:
    """One call of a model, and what its loss compared."""

    module: weakref.ref[nn.Module]
    args: tuple[Any, ...]
    kwargs: dict[str, Any]
    training: bool
    shape: tuple[int, ...]
    """Of the output, as the loss was handed it."""
    target: Tensor
    folded: bool = False
    """Whether the loss was handed examples and their steps as one axis, as a model of language is scored."""

    alone: bool = True
    """Whether the model makes just what the loss is handed."""

    def score(self, function: Loss, made: Tensor, target: Tensor) -> Tensor:
        """The loss of some examples of it, handed over as the script did."""
        return function(made.flatten(0, 1), target.flatten(0, 1)) if self.folded else function(made, target)

    @property
    def inputs(self) -> Tensor:
        """What the model was handed first."""
        return batches.tensors((self.args, self.kwargs))[0]


class Shown:
    """The passes of one part."""

    def __init__(self) -> None:
        self.passes: list[Pass] = []
        self._latest: tuple[nn.Module, Any, dict[str, Any], list[Tensor], bool] | None = None
        self._numbers = self._rows = self._empty = 0
        self.first: tuple[weakref.ref[nn.Module], dict[str, Tensor]] | None = None
        """The model that was called first, and its weights at that time."""

    @property
    def outputs(self) -> list[Tensor]:
        """What the latest call made, while it is not known to have been scored."""
        return [] if self._latest is None else self._latest[3]

    @property
    def full(self) -> bool:
        """Whether nothing more is kept."""
        return self._rows >= ROWS or self._numbers >= MOST or self._empty >= EMPTY

    def called(self, module: nn.Module, args: Any, kwargs: Mapping[str, Any], made: Any) -> None:
        """A model was called; its output may be scored next."""
        self._latest = None
        if self.first is None and module.training:
            held = weights(plain_module(module))
            if _numbers(list(held.values())) <= FIRST:
                self.first = weakref.ref(module), {name: each.clone() for name, each in held.items()}
        given = batches.tensors((args, dict(kwargs))) if not self.full else []
        # What was made by something that is trained is no data; and no graph is kept beyond the step.
        if given and not any(each.requires_grad for each in given) and _numbers(given) <= HUGE:
            outputs = [each.detach() for each in batches.tensors(made) if each.dim()]
            self._latest = module, args, dict(kwargs), outputs, module.training

    def scored(self, handed: Tensor, target: Tensor) -> bool:
        """A loss compared `handed`; whether that is what the latest call made, so that both are kept."""
        found, self._latest = self._latest, None
        if found is None or self.full or not handed.dim():
            return False
        module, args, kwargs, outputs, training = found
        given = batches.tensors((args, kwargs))
        rows = len(given[0]) if given[0].dim() else 0
        made = next((each for each in outputs if _same(each, handed)), None)
        folded = made is not None and len(handed) != rows and _folds(module, made, handed, rows)
        many = len(handed) if folded else rows
        if made is None or not rows or len(handed) != many or target.shape[:1] != (many,):
            self._empty += 1
            return False
        if any(each.shape[:1] != (rows,) for each in given):
            self._empty += 1
            return False
        whole = target.detach().reshape(rows, -1, *target.shape[1:]) if folded else target.detach()
        shape = made.shape if folded else handed.shape
        alone = len(outputs) == 1 and made.shape == handed.shape
        self._keep(Pass(weakref.ref(module), args, kwargs, training, shape, whole, folded, alone))
        return True

    def _keep(self, found: Pass) -> None:
        """Copies of a pass; of a batch with all of the data some rows are kept, from its whole length."""
        given, rows = batches.tensors((found.args, found.kwargs)), len(found.target)
        step = max(-(-rows // ROWS), -(-_numbers(given) // MOST))
        args, kwargs = batches.map_tensors(lambda leaf: leaf[::step].clone(), (found.args, found.kwargs))
        left = found.target[::step].clone()
        new = replace(found, args=args, kwargs=kwargs, target=left, shape=(len(left), *found.shape[1:]))
        self._empty = 0
        if not self.passes or _fits(new, self.passes[0]):
            self._numbers += _numbers(batches.tensors((args, kwargs)))
            self._rows += len(left)
            self.passes.append(new)


def weights(module: nn.Module) -> dict[str, Tensor]:
    """Parameters and buffers by name. Not its ``state_dict()``, which may call somebody's hooks, or wait for
    other processes.
    """
    return {name: each.detach() for name, each in (*module.named_parameters(), *module.named_buffers())}


def _numbers(given: list[Tensor]) -> int:
    return sum(each.numel() for each in given)


def _same(made: Tensor, handed: Tensor) -> bool:
    """Whether `handed` are the numbers of `made`, in their order."""
    return (
        made.untyped_storage().data_ptr() == handed.untyped_storage().data_ptr()
        and made.numel() == handed.numel()
        and made.is_contiguous()
        and handed.is_contiguous()
    )


def _folds(module: nn.Module, made: Tensor, handed: Tensor, rows: int) -> bool:
    """Whether `handed` are all steps of all examples of what `module` made, one example after the other.

    Where a layer takes the steps first, the first axis of its model may not be that of the examples.
    """
    if made.shape[:1] != (rows,) or made.dim() < 2 or len(handed) != rows * made.shape[1]:
        return False
    return all(getattr(each, "batch_first", True) for each in module.modules())


def _fits(one: Pass, other: Pass) -> bool:
    """Whether two passes are of one model and one form, but for how many examples they hold."""
    same = one.module() is other.module() and one.training == other.training
    return (
        same
        and one.folded == other.folded
        and one.shape[1:] == other.shape[1:]
        and one.inputs.shape[1:] == other.inputs.shape[1:]
        and one.target.shape[1:] == other.target.shape[1:]
    )


class Overheard:
    """What a script scores without gradients: waits for the model's call that made what is scored.

    Calls of modules are heard from the moment a model goes into eval mode, or from a first score on, until
    enough was scored of what was heard: in training steps nothing is.
    """

    def __init__(self) -> None:
        self.parts: dict[Any, Shown] = {}
        self._call: tuple[nn.Module, Any, Any, Any] | None = None
        self._handle: RemovableHandle | None = None
        self._calls = 0
        self._vain = 0
        self.announced = False

    def moded(self, training: bool) -> None:
        """A model goes into training mode, or into eval mode: what it answers next may be scored."""
        if not training:
            self.announced = True
            self.wait()
        elif self.announced:  # who never calls eval() may well call train()
            self.close()

    def wait(self) -> None:
        """Hear the next calls; of code that was compiled none is."""
        if self._handle is not None or self._vain >= VAIN or graphs():
            return
        self._calls, self._vain = 0, self._vain + 1
        held = weakref.ref(self)

        def heard(module: nn.Module, args: Any, kwargs: Any, made: Any) -> None:
            if (mine := held()) is not None:
                mine._heard(module, args, kwargs, made)

        self._handle = register_module_forward_hook(heard, with_kwargs=True)
        weakref.finalize(self, _forgotten, self._handle)

    def _heard(self, module: nn.Module, args: Any, kwargs: Any, made: Any) -> None:
        self._calls += 1
        if self._calls > PATIENCE or torch.compiler.is_compiling():
            self.close()
        elif not torch.is_grad_enabled():
            self._call = module, args, kwargs, made

    def scored(self, place: Any, handed: Tensor, target: Tensor) -> None:
        """A score was computed at `place` in the script."""
        part = self.parts.setdefault(place, Shown())
        if part.full:
            self.close()
        elif self._handle is None:
            self.wait()
        elif self._call is not None:
            part.called(*self._call)
            self._call = None
            if part.scored(handed, target):
                self._calls = self._vain = 0

    def close(self) -> None:
        """Hear no more."""
        if self._handle is not None:
            _forgotten(self._handle)
            self._handle = self._call = None


def _forgotten(handle: RemovableHandle) -> None:
    """Remove a global hook whole: torch 2.13 leaves that it takes keywords, and goes on to warn of it."""
    handle.remove()
    getattr(torch_module, "_global_forward_hooks_with_kwargs", {}).pop(handle.id, None)


def part_of(shown: Shown, function: Loss, *, training: bool | None = None) -> Part | None:
    """The part as one model is handed it now; None where nothing was kept, or the model is gone.

    Args:
        shown: The passes that were kept.
        function: The loss, as a mean.
        training: The mode of the model; None takes that in which it was called.

    Raises:
        ModelError: the model cannot be copied and called.
    """
    module = shown.passes[0].module() if shown.passes else None
    if module is None:
        return None
    model = copied(plain_module(module)).train(shown.passes[0].training if training is None else training)
    inputs = torch.cat([each.inputs for each in shown.passes])
    target = torch.cat([each.target.flatten(0, 1) if each.folded else each.target for each in shown.passes])

    def answer(change: Callable[[Tensor], Tensor] | None) -> Answers:
        losses: list[float] = []
        outputs: list[Tensor] = []
        for each in shown.passes:
            args, kwargs = batches.map_tensors(torch.clone, (each.args, each.kwargs))
            if change is not None:
                args, kwargs = first_changed(change, (args, kwargs))
            with torch.no_grad():
                made = output_of(model(*args, **kwargs), each.shape)
                rows = chunks(len(made))
                losses += [float(each.score(function, made[a:b], each.target[a:b])) for a, b in rows]
            outputs.append(made.flatten(0, 1) if each.folded else made)
        return Answers(torch.tensor(losses, dtype=torch.float64), torch.cat(outputs))

    return Part(inputs, target, answer)


def output_of(made: Any, shape: tuple[int, ...]) -> Tensor:
    """The tensor of an output that a loss was handed, in the shape in which it was.

    Raises:
        ModelError: there is none of that size.
    """
    size = math.prod(shape)
    found = next(
        (each for each in batches.tensors(made) if each.numel() == size and each.is_floating_point()), None
    )
    if found is None:
        raise ModelError("the model gives an output of another size than it did")
    return found.reshape(shape)


def copied(model: nn.Module) -> nn.Module:
    """A copy of a script's model, which may be called.

    Raises:
        ModelError: why there is none.
    """
    if sum(p.numel() for p in model.parameters()) > LARGEST:
        raise ModelError("the model is too large to be copied for the look")
    if torch.distributed.is_available() and torch.distributed.is_initialized():
        raise ModelError("the processes of a distributed training wait for one another in a pass")
    for _, each in named_modules(model):
        if each._forward_hooks or each._forward_pre_hooks:  # pyright: ignore[reportPrivateUsage]
            raise ModelError("the model carries hooks of its own, which a look beside it would call")
    try:
        return copy.deepcopy(model)
    except Exception as error:
        raise ModelError(f"the model cannot be copied: {type(error).__name__}") from error


def modes(train: Shown, function: Loss) -> dict[str, Any] | None:
    """What `measure.modes` tells, of training batches that were kept; None where none was.

    Returns:
        The same, with ``sure``, the difference of the two modes in its standard errors, and
        ``quiet_sure``, that of eval mode from what it is with every dropout silenced.
    """
    one, two = (part_of(train, function, training=mode) for mode in (True, False))
    module = train.passes[0].module() if train.passes else None
    if one is None or two is None or module is None:
        return None
    trained, (resting, made) = one.answer(None).losses, two.answer(None)
    again = two.answer(None).output
    drawn, quiet = 0.0 if made is None or again is None else _apart(made, again), None
    if drawn > NOISY:
        with silenced():
            quiet = two.answer(None).losses
    named = named_modules(plain_module(module))
    norms = [(name, each) for name, each in named if getattr(each, "running_var", None) is not None]
    return {
        "train": float(trained.mean()), "eval": float(resting.mean()), "norms": [name for name, _ in norms],
        "still": still(norms), "dropouts": [], "batch": len(train.passes[0].target), "drawn": drawn,
        "sure": _sure(trained, resting), "quiet": None if quiet is None else float(quiet.mean()),
        "quiet_sure": None if quiet is None else _sure(quiet, resting),
    }  # fmt: skip


def _apart(one: Tensor, other: Tensor) -> float:
    """Difference of two outputs, root mean square, in their deviation."""
    one, other = one.double(), other.double()
    return float((one - other).square().mean().sqrt() / one.std().clamp_min(1e-300))


TYPICAL = 0.1
"""Share of the mean loss that the median example has to lose before ratios tell what differences, of which a
few are far larger than the rest, do not. Convention."""


def _sure(trained: Tensor, resting: Tensor) -> float:
    """By how many standard errors examples lose from the one to the other, or their logarithms do."""
    lost = resting - trained
    found = _errors(lost)
    if bool((trained > 0).all()) and bool((resting > 0).all()):
        typical = float(lost.median()) >= TYPICAL * float(lost.mean()) > 0
        found = max(found, _errors((resting / trained).log())) if typical else found
    return found


def _errors(values: Tensor) -> float:
    error = float(values.std() / math.sqrt(len(values))) if len(values) > 1 else math.inf
    return float(values.mean()) / max(error, 1e-12)
