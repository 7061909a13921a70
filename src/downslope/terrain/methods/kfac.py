"""K-FAC: Kronecker-factored approximate curvature (Martens and Grosse 2015; Grosse and Martens 2016)."""

from __future__ import annotations

import functools
import math
from collections.abc import Callable, Iterable, Sequence
from typing import Any

import torch
from torch import Tensor

from downslope.core import randomness
from downslope.core.adapted import unwrap
from downslope.core.errors import RecipeError
from downslope.core.loss import Loss
from downslope.terrain.ground import Ground, ModelGround
from downslope.terrain.ground.prediction import Directions, Prediction, empirical
from downslope.terrain.hvp import Hessian, flat, length, unflat
from downslope.terrain.kronecker import (
    Block,
    Factors,
    Layer,
    Rows,
    Taps,
    eigenvectors,
    factors_of,
    gradient_of,
    inverse,
    layers_of,
    rows_of,
    second_moment,
    solve,
    why_without,
)
from downslope.terrain.methods.linearised import model_of
from downslope.terrain.methods.method import Method, Step

LARGEST = 8192
"""Rows of a factor, above which a layer has its diagonal alone: 268 MB in float32, and minutes to invert."""


class KFAC(Method):
    """Natural gradient with the Fisher matrix of each layer a Kronecker product of two small ones.

        ``F ~ A (x) G``, ``A = E[a a^T]``, ``G = E[g g^T]``;  ``W <- W - lr (G + ..)^-1 dW (A + ..)^-1``

    a are a layer's inputs (with a 1 for its bias; of a convolution its patches), g the gradients of its
    outputs for targets drawn from the model's own prediction. Both are running means. The damping is split
    between the factors (section 6.3), and the step is shortened where ``lr^2 v^T F v`` would exceed
    `kl_clip` (Ba, Grosse and Martens 2017, section 5). Linear and convolution layers have such a block, any
    number of calls and groups; every other parameter (norms, embeddings, recurrent cells) has the diagonal
    of its Fisher matrix, and that is told once.

    Args:
        params: Parameters, of one group.
        lr: Length of a step, in (0, inf); the trust region decides early on.
        momentum: Share of the last step that is kept, in [0, 1).
        damping: Added to the curvature, in (0, inf), in its unit (loss per squared parameter).
        factor_decay: Decay of the running means, in [0, 1); the first steps average all.
        factors_every: Steps from one measurement of the factors to the next, in [1, inf).
        inverse_every: Steps from one inverse to the next, in [1, inf), after as many with one each.
        fisher: "true" draws one target for each example, "exact" takes the expectation over all of them at
            the price of a backward pass for each output, "empirical" takes the labels.
        sharing: Of a layer that is applied at many positions: "expand" takes each as an example, "reduce"
            first sums them (Eschenhagen et al. 2023). Convolutions too.
        eigenvalues: "kronecker", or "corrected" for the exact diagonal of the Fisher block in the
            eigenvectors of the factors (EKFAC, George et al. 2018).
        kl_clip: Bound of the squared length of a step in the Fisher metric, in (0, inf]; inf for none.
        weight_decay: Strength of an l2 term that the method sees, in [0, inf); it adds to the damping,
            as the curvature of the objective's penalties does.

    Memory: ``2 (i^2 + o^2)`` for a layer of i inputs (with bias) and o outputs, one more of each parameter
    for the momentum; corrected eigenvalues another.

    Raises:
        RecipeError: a setting outside its domain.
        ModelError: without the model, from whose layers the factors are measured.
        ObjectiveError: the objective is no likelihood to draw targets from.

    Differs from Martens and Grosse (2015): lr, momentum and damping are given and not adapted, as in their
    distributed version (Ba et al. 2017), so that a step costs about two gradients.

    Source: Martens and Grosse 2015, Optimizing neural networks with Kronecker-factored approximate
    curvature; Grosse and Martens 2016, A Kronecker-factored approximate Fisher matrix for convolution layers.
    """

    source = "Martens and Grosse 2015"

    def __init__(
        self,
        params: Iterable[Any],
        lr: float = 0.1,
        momentum: float = 0.9,
        damping: float = 1e-2,
        factor_decay: float = 0.95,
        factors_every: int = 1,
        inverse_every: int = 10,
        fisher: str = "true",
        sharing: str = "expand",
        eigenvalues: str = "kronecker",
        kl_clip: float = 1e-3,
        weight_decay: float = 0.0,
    ) -> None:
        if not damping:
            raise RecipeError(
                "damping=0: must lie in (0, inf): a factor of fewer examples than inputs is singular"
            )
        defaults = {
            "lr": lr, "momentum": momentum, "damping": damping, "factor_decay": factor_decay,
            "factors_every": factors_every, "inverse_every": inverse_every, "fisher": fisher,
            "sharing": sharing, "eigenvalues": eigenvalues, "kl_clip": kl_clip, "weight_decay": weight_decay,
        }  # fmt: skip
        super().__init__(params, defaults)
        self._layers: list[Layer] | None = None
        self._pull: dict[int, float] = {}

    @property
    def averaged(self) -> float:
        """Batches that the factors are a mean of."""
        return 1.0 / (1.0 - self.settings["factor_decay"])

    # -- a step -------------------------------------------------------------------------------------------

    def move(self, ground: Ground) -> Step:
        """One step on `ground`."""
        model, own, memory = model_of(ground, "KFAC"), self.settings, self.memory
        here = self.begin(ground)
        step = memory["step"] = memory.get("step", 0) + 1
        memory.setdefault("seed", model.still.seed)
        if self._layers is None:
            self._layers = self._own(model)
        due = (step - 1) % own["factors_every"] == 0
        if due:
            model.within(lambda: self._measure(model, verify=step == 1))
        said = self._without_block(model) if step == 1 else ""
        self._pull = self._beside(model)
        self._invert(step <= own["inverse_every"] or (step - 1) % own["inverse_every"] == 0)
        self._descend(model.params, unflat(here.gradient, model.params))
        return Step(here.value, here.evaluations + due, 0, said=said)

    def _own(self, ground: ModelGround) -> list[Layer]:
        """Layers with a block; in a resumed run those that had one."""
        held = {id(p) for p in self._params}
        found = [
            each
            for each in layers_of(ground.model)
            if all(id(p) in held for p in each.params) and max(each.shape) <= LARGEST
        ]
        begun = self.memory["step"] > 1
        return [each for each in found if not begun or "A" in self.state[each.params[0]]]

    @property
    def _params(self) -> list[Tensor]:
        return [p for group in self.param_groups for p in group["params"] if p.requires_grad]

    @property
    def _decays(self) -> dict[int, float]:
        """The curvature of decay and penalties, by parameter."""
        own = {id(p): float(g["weight_decay"]) for g in self.param_groups for p in g["params"]}
        return {key: each + self._pull.get(key, 0.0) for key, each in own.items()}

    def _beside(self, ground: ModelGround) -> dict[int, float]:
        """The mean curvature of the objective's penalties along each parameter."""
        penalties: Any = getattr(ground.objective.function, "penalties", None)
        if penalties is None:
            return {}

        def summed() -> Tensor:
            found: Iterable[Tensor] = penalties(unwrap(ground.model)).values()
            return functools.reduce(torch.add, found, torch.zeros_like(ground.params[0].sum()))

        total = Hessian(summed, ground.params)
        each = unflat(total.product(torch.ones_like(total.gradient)), ground.params)
        return {id(p): max(0.0, float(one.mean())) for p, one in zip(ground.params, each, strict=True)}

    # -- the curvature ------------------------------------------------------------------------------------

    def _measure(self, ground: ModelGround, *, verify: bool) -> None:
        """Factors and diagonals of a batch, into the running means."""
        sums: dict[int, dict[str, Tensor]] = {}
        for index, (batch, weight, _) in ground.shares():
            with torch.enable_grad(), Taps(self._layers or []) as taps:
                loss = ground.run(batch, index)
            for number, directions in enumerate(self._directions(ground, loss, index)):
                slopes = taps.slopes(*directions)
                if verify and not number:
                    self._drop_what_differs(directions, taps, slopes)
                for layer, calls, found in zip(taps.layers, taps.calls, slopes, strict=True):
                    if layer in (self._layers or []) and calls:
                        rows = functools.partial(rows_of, layer, calls, found, self.settings["sharing"])
                        mine = sums.setdefault(id(layer.params[0]), {})
                        self._add(layer, rows, mine, weight, first=not number)
                self._diagonals(directions, weight, sums)
        self._keep(sums)

    def _add(
        self, layer: Layer, rows: Callable[[], Iterable[Rows]], mine: dict[str, Tensor], weight: float, *,
        first: bool,
    ) -> None:  # fmt: skip
        """A piece's share of a layer's factors, and of its diagonal in the eigenvectors that there are."""
        A, G = factors_of(rows())
        if first:
            _add(mine, "A", A, weight)
        _add(mine, "G", G, weight)
        memory = self.state[layer.params[0]]
        if self.settings["eigenvalues"] == "corrected" and "left" in memory:
            _add(mine, "scale", second_moment(rows(), memory["left"], memory["right"]), weight)

    def _directions(self, ground: ModelGround, loss: Loss, index: int) -> Iterable[Directions]:
        kind = self.settings["fisher"]
        if kind == "empirical":
            return [empirical(loss, ground.objective)]
        prediction = Prediction(loss, ground.objective)
        if kind == "exact":
            return prediction.exact()
        place = randomness.generator(self.memory["seed"], "probe", index, self.memory["step"])
        return [prediction.drawn(place)]

    def _diagonals(self, directions: Directions, weight: float, sums: dict[int, dict[str, Tensor]]) -> None:
        """Squares of the drawn gradient, whose mean is the diagonal of the Fisher matrix."""
        others = self._others()
        if not others:
            return
        found = torch.autograd.grad(
            directions.outputs, others, directions.cotangents, retain_graph=True, allow_unused=True,
            materialize_grads=True,
        )  # fmt: skip
        for p, each in zip(others, found, strict=True):
            square = (each.to_dense() if each.is_sparse else each) ** 2
            _add(sums.setdefault(id(p), {}), "diagonal", square, weight)

    def _others(self) -> list[Tensor]:
        held = {id(p) for layer in self._layers or [] for p in layer.params}
        return [p for p in self._params if id(p) not in held]

    def _drop_what_differs(self, directions: Directions, taps: Taps, slopes: list[list[Tensor]]) -> None:
        """Leave out layers whose gradient is not made of what went through them, such as functional use."""
        kept: list[Layer] = []
        for layer, calls, found in zip(taps.layers, taps.calls, slopes, strict=True):
            true = torch.autograd.grad(
                directions.outputs, layer.params, directions.cotangents, retain_graph=True, allow_unused=True,
                materialize_grads=True,
            )  # fmt: skip
            made = [torch.zeros_like(each) for each in true]
            if calls:
                made = layer.parts(gradient_of(rows_of(layer, calls, found)))
            gap = length(flat([a - b for a, b in zip(true, made, strict=True)]))
            if gap <= 0.05 * length(flat(true)) + torch.finfo(true[0].dtype).tiny ** 0.5:
                kept.append(layer)
        self._layers = kept

    def _keep(self, sums: dict[int, dict[str, Tensor]]) -> None:
        """Running means, which begin as plain ones: ``min(1 - 1/k, factor_decay)`` (section 5)."""
        decay: float = self.settings["factor_decay"]
        for p in self._params:
            memory = self.state[p]
            found = sums.get(id(p), {})
            if found:
                memory["seen"] = memory.get("seen", 0) + 1
            share = min(1 - 1 / memory.get("seen", 1), decay)
            for name, each in found.items():
                held = each if name not in memory else memory[name].lerp(each, 1 - share)
                memory[name] = held.contiguous()

    def _invert(self, due: bool) -> None:
        """The damped blocks of the factors as they are; between times of layers met for the first time."""
        group = self.settings
        for layer in self._layers or []:
            memory = self.state[layer.params[0]]
            if "A" not in memory or ("left" in memory and not due):
                continue
            factors = Factors(memory["A"], memory["G"])
            corrected = group["eigenvalues"] == "corrected"
            damping = group["damping"] + self._decays[id(layer.params[0])]
            made = eigenvectors(factors) if corrected else inverse(factors, damping)
            # In rows, as they come back from a file: in columns a product rounds otherwise.
            memory |= {"left": made.left.contiguous(), "right": made.right.contiguous()}
            if made.scale is not None:
                memory["scale"] = made.scale.contiguous()

    # -- the step itself ----------------------------------------------------------------------------------

    def _descend(self, params: Sequence[Tensor], slopes: Sequence[Tensor]) -> None:
        own = self.settings
        moves = self._preconditioned(params, {id(p): each for p, each in zip(params, slopes, strict=True)})
        along = sum(float((moves[id(p)] * each).sum()) for p, each in zip(params, slopes, strict=True))
        size, factor = own["lr"] ** 2 * along, 1.0
        if size > own["kl_clip"]:
            factor = math.sqrt(own["kl_clip"] / size)
        for p in params:
            memory, ahead = self.state[p], (moves[id(p)] * factor).contiguous()
            if own["momentum"]:
                ahead = memory["momentum"] = ahead + own["momentum"] * memory.get("momentum", 0.0)
            p.data.add_(ahead, alpha=-own["lr"])

    def _preconditioned(self, params: Sequence[Tensor], slopes: dict[int, Tensor]) -> dict[int, Tensor]:
        """The damped inverse curvature times the gradient, for each parameter."""
        damping, decays = float(self.settings["damping"]), self._decays
        found: dict[int, Tensor] = {}
        for layer in self._layers or []:
            memory = self.state[layer.params[0]]
            made = [slopes[id(p)] for p in layer.params]
            if "left" in memory:
                block = Block(memory["left"], memory["right"], memory.get("scale"))
                made = layer.parts(solve(block, layer.matrix(made), damping + decays[id(layer.params[0])]))
            found |= {id(p): each for p, each in zip(layer.params, made, strict=True)}
        for p in params:
            if id(p) not in found:
                diagonal: Tensor = self.state[p].get("diagonal", torch.zeros_like(p))
                spread = torch.maximum(diagonal, diagonal.mean() / 10)  # the square of one draw can be 0
                found[id(p)] = slopes[id(p)] / (spread + damping + decays[id(p)])
        return found

    def _without_block(self, ground: ModelGround) -> str:
        """A sentence about what has no block of its own."""
        others = {id(p) for p in self._others()}
        held: dict[str, list[str]] = {}
        for name, p in zip(ground.names, ground.params, strict=True):
            if id(p) in others:
                held.setdefault(why_without(ground.model, p), []).append(name)
        few = {
            why: ", ".join(names[:4]) + (f" and {len(names) - 4} more" if len(names) > 4 else "")
            for why, names in held.items()
        }
        told = "; ".join(f"{why}: {names}" for why, names in few.items())
        return f"curvature by its diagonal alone, as {told}" if told else ""


def _add(sums: dict[str, Tensor], name: str, value: Tensor, weight: float) -> None:
    sums[name] = weight * value + sums.get(name, 0.0)
