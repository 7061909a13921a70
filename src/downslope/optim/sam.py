"""SAM: sharpness-aware minimisation (Foret et al. 2021), and its adaptive form (Kwon et al. 2021)."""

from __future__ import annotations

import contextlib
import weakref
from collections.abc import Callable, Generator, Mapping, Sequence
from typing import Any, ClassVar, cast

import torch
from torch import Tensor, nn
from torch.nn.modules.batchnorm import _NormBase  # pyright: ignore[reportPrivateUsage]

from downslope.core.errors import RecipeError
from downslope.optim import ops
from downslope.optim.ascent import DOMAINS, Ascent
from downslope.optim.aside import Aside, params_of
from downslope.optim.bases import Base
from downslope.optim.domains import Domains
from downslope.optim.driver import Optimizer, Params
from downslope.optim.rule import Chain, chain
from downslope.optim.steps import called, check_closure
from downslope.optim.wrapper import Wrapper

__all__ = ["SAM", "held_statistics"]


class SAM(Wrapper):
    """Sharpness-aware minimisation: the base steps from p, by the gradient at p + e.

    ``e = rho g / (|g| + 1e-12)``, over all parameters; adaptive, ``e = rho T**2 g / (|T g| + 1e-12)`` with
    ``T = |p| + eta``: see `Ascent`. Two gradients a step: `step` with a closure, or `first_step` and
    `second_step`. State: the base's; between the two looks one copy of the parameters.

    ::

        loss(model(x), y).backward()                    # the gradient at p
        optimizer.first_step(zero_grad=True)            # climbs to p + e
        with held_statistics(model):                    # batch norm's statistics are taken once
            loss(model(x), y).backward()                # the gradient at p + e
        optimizer.second_step(zero_grad=True)           # back to p; the base steps

    `downslope.fit` does the same by itself, with the same dropout in both looks, and clips the second
    gradient. Works with a GradScaler, by `first_step` and ``scaler.step(optimizer)``: a step whose gradients
    are not finite is skipped, and p comes back.

    Args:
        params: parameters or groups of them; or an optimizer that is made.
        base_optimizer: its class, a factory, or a name; SGD if left out.
        rho: how far p + e is, in [0, inf); 0 is the base itself.
        adaptive: scale by the size of the weights; Kwon et al. take ten times the rho.
        eta: added to that size, in [0, inf); theirs is 0.01.
        **settings: of the base; `schedules` may name rho and eta too.

    Raises:
        RecipeError: a setting outside its domain.

    Differs from: davda54/sam, whose state_dict leaves out the base's state (issue 73), and which does not go
    with a GradScaler (issue 97); the paper, whose experiments take e from each accelerator's part of a batch.
    Source: Foret et al. 2021, "Sharpness-aware minimization for efficiently improving generalization",
    algorithm 1; Kwon et al. 2021, "ASAM", algorithm 1.
    """

    source: ClassVar[str] = "Foret et al. 2021, algorithm 1; Kwon et al. 2021, algorithm 1"
    title: ClassVar[str] = "sam"
    base: ClassVar[str] = "sgd"
    usual: ClassVar[Mapping[str, Any]] = {"rho": 0.05, "adaptive": False, "eta": 0.0}
    domains: ClassVar[Domains] = DOMAINS
    needs_closure: ClassVar[bool] = True
    _used: Sequence[tuple[weakref.ref[Tensor], int]] = ()
    """The gradients of the last step, and which version of them."""
    _climbed: bool = False
    """Whether the first half of a step has been made and the second has not."""
    _step_supports_amp_scaling: ClassVar[bool] = True
    """Tells torch's GradScaler to leave unscaling and skipping to the step."""

    def __init__(
        self,
        params: Params | torch.optim.Optimizer,
        base_optimizer: Base | None = None,
        rho: float = 0.05,
        adaptive: bool = False,
        eta: float = 0.0,
        **settings: Any,
    ) -> None:
        own = {"rho": rho, "adaptive": adaptive, "eta": eta}
        self.start = Aside("old_p")
        super().__init__(params, base_optimizer, own, settings)
        self.climber = _Climber(self.param_groups, self.named)

    @classmethod
    def described(cls, base: Chain, settings: Mapping[str, Any]) -> Chain:
        return chain(Ascent(**{name: settings[name] for name in cls.usual}), base)

    @ops.uncompiled
    def first_step(self, zero_grad: bool = False) -> None:
        """Climb from p to p + e, by the gradients at p; hooks that come before a step run first.

        Args:
            zero_grad: whether to forget them.
        """
        self._climbed = False
        self._open()
        self._climb()
        if zero_grad:
            self.zero_grad()

    def _open(self, given: tuple[Any, ...] = ()) -> tuple[Any, ...]:
        return given if self._climbed else super()._open(given)  # the second half, which a GradScaler calls

    def _climb(self) -> None:
        self.start.put_back()  # a step that was skipped left p at p + e
        self._begin()
        self.start.keep(p for p in params_of(self.param_groups) if p.grad is not None)
        try:
            self.climber.climb(self.param_groups)
        except BaseException:
            self.start.put_back()
            raise
        self._climbed = True

    @ops.uncompiled
    def second_step(self, zero_grad: bool = False) -> None:
        """Back to p, and the base's step by the gradients at p + e; hooks that come after a step run then.

        Args:
            zero_grad: whether to forget them.

        Raises:
            RecipeError: no first half came before it.
        """
        if not (self._climbed or self.start):
            raise RecipeError(
                "second_step() without first_step(): the gradient is not one at p + e; call first_step() "
                "with the gradient at p, evaluate the loss again, and then second_step()"
            )
        self._descend()
        vars(self)["_opt_called"] = True  # torch's schedulers hear of it by a wrapper around `step` alone
        self._close()
        if zero_grad:
            self.zero_grad()

    def _descend(self) -> None:
        self.start.put_back()
        self._climbed = False
        self.base_optimizer.step()
        self._end()

    def _step(self, closure: Callable[[], Any] | None = None) -> Any:
        """With a closure, both halves; without one the second, which a GradScaler asks for.

        The gradients at p are those that are there, if they are new since the last step; else the closure is
        called for them too. It must evaluate the loss and call backward.

        Returns:
            The closure's loss at p, or at p + e where the gradients at p were there; None without a closure.
        """
        if closure is None:
            if not self.start:
                raise RecipeError(
                    "SAM looks at the loss twice a step: give step() a closure that calls backward and "
                    "returns the loss, or call first_step() and second_step()"
                )
            self._scaled()
            return None
        check_closure(closure)
        loss = None
        if not self._has_new():
            self.zero_grad()
            loss = called(closure)
        self._climb()
        self.zero_grad()
        second = called(closure)
        self._descend()
        self._note()
        return second if loss is None else loss

    def _note(self) -> None:
        """The gradients that are there have been used, or are from before the state that was loaded."""
        self._used = [
            (weakref.ref(p.grad), p.grad._version) for p in params_of(self.param_groups) if p.grad is not None
        ]

    def _has_new(self) -> bool:
        """Whether there are gradients that the last step has not used, and not all of them 0."""
        grads = [p.grad for p in params_of(self.param_groups) if p.grad is not None]
        if len(grads) == len(self._used) and all(
            g is old() and g._version == version for g, (old, version) in zip(grads, self._used, strict=True)
        ):
            return False
        return any(bool((g.coalesce().values() if g.is_sparse else g).any()) for g in grads)

    @torch.no_grad()
    def _scaled(self) -> None:
        """The second half where a GradScaler may have scaled the gradients, or found them not finite."""
        scale: Any = getattr(self, "grad_scale", None)
        found: Any = getattr(self, "found_inf", None)
        if found is not None and bool(found):
            self.start.put_back()
            self._climbed = False
            return
        if scale is not None:
            for p in params_of(self.param_groups):
                if p.grad is not None:
                    p.grad.div_(scale.to(p.grad.device))
        self._descend()

    def _saved(self) -> dict[str, Any]:
        """The base's; between the two halves of a step p too, which is not in its place then."""
        return self.start.saved(self.param_groups, super()._saved())

    def _load(self, state_dict: dict[str, Any]) -> None:
        rest, start = self.start.taken(state_dict)
        super()._load(rest)
        self.start.load(self.param_groups, start)
        self._climbed = False
        self._note()


class _Climber(Optimizer):
    """The driver of the climb, on the groups of a `SAM`; it has no state."""

    def __init__(self, groups: list[dict[str, Any]], named: Mapping[str, str]) -> None:
        self.named = dict(named)
        settings = {key: groups[0][key] for key in named.values()}
        mine = [{"params": group["params"]} for group in groups]
        super().__init__(mine, {**settings, "maximize": False})

    @property
    def _domains(self) -> Domains:
        return {key: SAM.domains[name] for name, key in self.named.items()}

    def _compose(self, settings: Mapping[str, Any]) -> Chain:
        return chain(Ascent(**{name: settings[key] for name, key in self.named.items()}))

    def climb(self, groups: list[dict[str, Any]]) -> None:
        """One step of the parameters in these groups, as they are set now."""
        if len(groups) != len(self.param_groups):
            self.param_groups: list[dict[str, Any]] = [{} for _ in groups]
            self._layouts = [None] * len(groups)
        for own, group in zip(self.param_groups, groups, strict=True):
            own |= {key: group[key] for key in ("params", *self.named.values())}
            own["maximize"] = group.get("maximize", False)
        self._step()

    def __getstate__(self) -> dict[str, Any]:
        return {**super().__getstate__(), "named": self.named}


@contextlib.contextmanager
def held_statistics(model: nn.Module) -> Generator[None]:
    """A block after which the statistics of batch and instance norms are what they were.

    Inside, a norm in training mode normalises by its batch, as always.

    Args:
        model: Its norms.
    """
    norms = [each for each in model.modules() if isinstance(each, _NormBase)]
    held = [(each, each.clone()) for norm in norms for each in norm.buffers(recurse=False)]
    try:
        yield
    finally:
        for each, former in held:
            cast("Any", each).data.copy_(former)  # past autograd: a graph that is kept is not out of date
