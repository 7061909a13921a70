"""Steps that a script takes without a torch optimizer: parameters that change after a backward pass.

Looked for only while no torch optimizer exists. Which parameters there are says the graph of the first loss;
that they have changed say their version counters or, of ``p.data``, which has none, a few of their values. It
is asked where the next thing begins: a forward pass, a loss, a backward pass, or the end of the script.
Nothing is written, and no hook is left on a module.
"""

from __future__ import annotations

import weakref
from collections.abc import Callable, Generator, Sequence
from contextlib import contextmanager
from typing import Any, NamedTuple

import torch
from torch import Tensor, nn
from torch.nn.modules.module import register_module_forward_pre_hook
from torch.nn.parameter import is_lazy
from torch.utils.hooks import RemovableHandle

from downslope.diagnosis.hand import Hand, Update
from downslope.diagnosis.leaves import leaves, transformed
from downslope.diagnosis.loose import Loose, named
from downslope.diagnosis.track import Track

MARKED = 8
"""Parameters of which some values are kept, until one of them is known to be updated."""

VALUES = 1024
"""Values that are kept of each."""

CALLS = 8
"""Calls of modules after a backward pass at which a step is looked for."""

PATIENCE = 4
"""Backward passes without a step after which other parameters are looked for."""

SAME = 3
"""Backward passes of the same tensors from which no update makes new ones."""

ASKED = 64
"""Gradients of a loss that were asked for beside training, after which no more are looked into."""


class _Mark(NamedTuple):
    parameter: Tensor
    version: int
    values: Tensor

    @classmethod
    def of(cls, parameter: Tensor) -> _Mark:
        version = parameter._version  # pyright: ignore[reportPrivateUsage] (the only count of changes)
        return cls(parameter, version, _few(parameter).clone())

    @property
    def changed(self) -> bool:
        version = self.parameter._version  # pyright: ignore[reportPrivateUsage]
        return version != self.version or not torch.equal(_few(self.parameter), self.values)


class ByHand:
    """Looks for steps that are written out, from the start of a script until an optimizer is made.

    Args:
        follow: Begins a track of the steps of a `Hand`.
        stepped: Told when one was taken.
    """

    def __init__(self, follow: Callable[[Hand], Track], stepped: Callable[[Hand], None]) -> None:
        self._follow, self._stepped = follow, stepped
        self._hand: Hand | None = None
        self._track: Track | None = None
        self._update = Update()
        self._settled = False
        self._passes, self._usual, self._next_search = 0, 1, 0
        self._marks: list[_Mark] = []
        self._leader: Tensor | None = None
        self._inner: set[int] = set()
        self._roots: list[list[Tensor]] = []
        self._others: list[weakref.ref[nn.Module]] = []
        self._loose: Loose | None = None
        self._same = self._asked = 0
        self._mirrors: list[Tensor] = []
        self._blind = self._company = False
        self._handle: RemovableHandle | None = None
        self._calls = 0
        self._listen()

    # -- forward passes -----------------------------------------------------------------------------------

    def _listen(self) -> None:
        self._calls = 0
        if self._handle is None and not self._blind:
            self._handle = register_module_forward_pre_hook(_weakly(self))
            weakref.finalize(self, self._handle.remove)

    def deaf(self) -> None:
        """Hear of no forward pass from now on: a global hook has torch compile its models anew."""
        self._blind = True
        self._unhook()

    def _unhook(self) -> None:
        if self._handle is not None:
            self._handle.remove()
            self._handle = None

    def calling(self, module: nn.Module, args: Any) -> None:
        """Before the call of any module, from a backward pass to the step after it."""
        if torch.compiler.is_compiling() or torch.jit.is_tracing():  # pyright: ignore[reportPrivateImportUsage]
            return
        if not self._settled:
            if self._meet(module) and self._track is not None:
                self._track.eye.before(module, args)
            return
        found, self._calls = self.check(), self._calls + 1
        if found or self._calls >= CALLS:
            self._unhook()
        self._note(module)
        if found and self._track is not None and self._track.armed:
            self._track.eye.before(module, args)

    def _meet(self, module: nn.Module) -> bool:
        """Before the first backward pass: whether this may be the model, or one of several."""
        self._company = self._company or any(True for _ in module.parameters())
        if not module.training or not torch.is_grad_enabled() or id(module) in self._inner:
            return False
        own = [p for p in module.parameters() if p.requires_grad]
        if any(is_lazy(p) or transformed(p) for p in own):
            return False
        self._inner.update(id(each) for each in module.modules())
        if own:
            self._roots.append([*own])
            self._extend(own)
        return bool(own)

    def _note(self, module: nn.Module) -> None:
        """A model that is none of those that are followed, in case that its steps come next."""
        if module.training and torch.is_grad_enabled() and id(module) not in self._inner:
            self._inner.update(id(each) for each in module.modules())
            self._others = [*self._others[-3:], weakref.ref(module)]

    def _extend(self, parameters: Sequence[Tensor]) -> None:
        if self._hand is None or self._track is None:
            self._hand = Hand(list(parameters))
            self._track = self._follow(self._hand)
            self._track.eye.company = self._company
            return
        known = {id(p) for p in self._hand.parameters}
        self._hand.parameters.extend(p for p in parameters if id(p) not in known)
        self._track.eye.parameters.update(id(p) for p in parameters)

    # -- backward passes ----------------------------------------------------------------------------------

    def asked(self, loss: Tensor, inputs: Sequence[Tensor]) -> bool:
        """Whether a gradient that is about to be asked for is one of parameters: it may end in a step.

        None is the slope of a model along its inputs, nor an attack on them.
        """
        if not inputs or not all(p.is_leaf and p.requires_grad for p in inputs):
            return False
        if self._settled and self._hand is not None:
            held = self._hand.parameters
            known = {id(p) for p in held}
            anew = self._loose is not None and [p.shape for p in inputs] == [p.shape for p in held]
            if anew or any(id(p) in known for p in inputs):
                return True
        if self._asked >= ASKED:
            return False
        self._asked += 1
        wanted = {id(p) for p in inputs}
        return any(id(p) in wanted for p in _parameters(loss))

    def passing(self, loss: Tensor, inputs: Sequence[Tensor] | None = None) -> None:
        """Before a backward pass, or one for the gradients of `inputs` alone."""
        if not self.check() and self._passes and not self._made_anew(loss, inputs):
            self._leader = None  # it may stand still while others are updated
        stuck = self._passes >= max(PATIENCE, 2 * self._usual, self._next_search)
        if not self._settled or stuck:
            self._next_search = 2 * self._passes
            self._search(_parameters(loss) if inputs is None else list(inputs))

    def _search(self, own: list[Tensor]) -> None:
        """The parameters of a loss; where they are all new, another training has begun."""
        if not own:
            return
        known = {id(p) for p in self._hand.parameters} if self._hand is not None else set[int]()
        if self._settled and any(id(p) in known for p in own):
            return
        if self._settled and self._track is not None:
            self._track.close()
            self._hand = self._track = None
            self._passes, self._usual, self._next_search = 0, 1, 0
            self._marks.clear()
        self._extend(own)
        if not self._settled:
            self._keep({id(p) for p in own})
        self._settled = True
        self._adopt(own)

    def _keep(self, reached: set[int]) -> None:
        """Of the modules that were called before, those that a loss depends on."""
        idle = [root for root in self._roots if not any(id(p) in reached for p in root)]
        gone = {id(p) for root in idle for p in root}
        if self._hand is not None and self._track is not None and gone:
            self._hand.parameters[:] = [p for p in self._hand.parameters if id(p) not in gone]
            self._track.eye.parameters -= gone
        self._roots.clear()

    def _made_anew(self, loss: Tensor, inputs: Sequence[Tensor] | None) -> bool:
        """Whether an update made new tensors (``w = (w - lr * g).detach().requires_grad_()``): a step."""
        hand, track, loose = self._hand, self._track, self._loose
        if hand is None or track is None or loose is None or self._same >= SAME:
            return False
        found, known = leaves(loss) if inputs is None else inputs, hand.parameters
        if len(found) != len(known) or any(a.shape != b.shape for a, b in zip(found, known, strict=True)):
            return False
        new = {id(old): each for old, each in zip(known, found, strict=True)}
        if not any(old is each for old, each in zip(known, found, strict=True)):
            self._update.exchange(new)
            loose.exchange(new)
            for observer in track.eye.observers.values():
                observer.exchange(new)
            track.eye.parameters.update(id(p) for p in found)
            known[:] = found
            self._step(found[0])
            return True
        self._same += 1
        return False

    def _adopt(self, parameters: Sequence[Tensor]) -> None:
        """Let the eye know of what it has not seen in a forward pass."""
        if self._track is None:
            return
        eye = self._track.eye
        for each in self._others:
            if (module := each()) is not None:
                eye.adopt(module)
        self._others.clear()
        inside = {id(p) for observer in eye.observers.values() for p in observer.inner.parameters()}
        outside = [p for p in parameters if id(p) not in inside]
        if outside:
            loose = Loose(named(outside))
            self._loose = None if eye.observers else loose
            eye.adopt(loose)

    def graded(self, inputs: Sequence[Tensor], gradients: Sequence[Tensor | None]) -> None:
        """The gradients that were asked for were given to the script, which may step by them."""
        if self._track is None or not self._track.armed:
            self.passed()
            return
        with _lent(inputs, gradients):
            self.passed()

    def derived(self, values: Sequence[Tensor], gradients: Sequence[Tensor], loss: Tensor) -> bool:
        """`torch.func.grad` gave the gradients of a function at `values`, of which leaves of ours stand.

        They share the memory of the script's tensors, which may be no leaves; the next values follow them
        where they are new tensors. Whether the function is one of those that are followed.
        """
        if not values or any(transformed(each) for each in (*values, *gradients, loss)):
            return False
        known = {(each.data_ptr(), each.shape): each for each in self._mirrors}
        made = [(each, known.get((each.data_ptr(), each.shape))) for each in values]
        self._mirrors = [each.detach().requires_grad_() if old is None else old for each, old in made]
        if not self._settled and self._hand is not None:
            return False  # a module was called outside of it: that may be the one that is trained
        self.passing(loss, self._mirrors)
        return True

    def function_passed(self, gradients: Sequence[Tensor]) -> None:
        """The gradients of a function were given to the script."""
        self.graded(self._mirrors, [each.detach() for each in gradients])

    def passed(self) -> None:
        """After a backward pass: the gradients are there, and a step may follow."""
        hand, track = self._hand, self._track
        if hand is None or track is None or not self._settled:
            return
        self._passes += 1
        if self._passes >= self._usual:
            track.before(hand, False)
        if track.armed:
            self._update.begin(hand.parameters)
        marked = _spread(hand.parameters) if self._leader is None else [self._leader]
        self._marks = [_Mark.of(p) for p in marked if p.layout is torch.strided]
        self._listen()

    def check(self) -> bool:
        """Whether a step was taken since the last backward pass; it is told."""
        if not self._passes or self._hand is None or self._track is None:
            return False
        found = next((mark.parameter for mark in self._marks if mark.changed), None)
        if found is not None:
            self._step(found)
        return found is not None

    def _step(self, leader: Tensor) -> None:
        self._leader = leader
        self._usual, self._passes, self._next_search = self._passes, 0, 0
        if self._hand is not None and self._track is not None:
            if self._track.armed:
                self._hand.moved(self._update.end())
            self._stepped(self._hand)

    def close(self) -> None:
        """Look no more."""
        self.deaf()
        self._passes = 0
        self._marks.clear()


def _parameters(loss: Tensor) -> list[Tensor]:
    """The leaves of a loss; only parameters of modules where there are any."""
    found = leaves(loss)
    return [p for p in found if isinstance(p, nn.Parameter)] or found


@contextmanager
def _lent(inputs: Sequence[Tensor], gradients: Sequence[Tensor | None]) -> Generator[None]:
    """A block in which gradients are where a backward pass would have left them; all is put back after."""
    kept = [(p, p.grad) for p in inputs]
    try:
        for p, gradient in zip(inputs, gradients, strict=True):
            p.grad = gradient
        yield
    finally:
        for p, gradient in kept:
            p.grad = gradient


def _few(parameter: Tensor) -> Tensor:
    flat = parameter.detach()
    return (flat.view(-1) if flat.is_contiguous() else flat.flatten())[:VALUES]


def _spread(parameters: list[Tensor]) -> list[Tensor]:
    """Some of them, from the first to the last."""
    last = len(parameters) - 1
    if last < MARKED:
        return parameters
    return [parameters[round(i * last / (MARKED - 1))] for i in range(MARKED)]


def _weakly(listener: ByHand) -> Any:
    """Torch's global forward pre-hook, which keeps nothing alive and ends nobody's training."""
    held = weakref.ref(listener)

    def hook(module: nn.Module, args: Any) -> None:
        found = held()
        if found is None:
            return
        try:
            found.calling(module, args)
        except Exception:  # noqa: BLE001 (nothing we look at may end anybody's training)
            found.deaf()

    return hook
