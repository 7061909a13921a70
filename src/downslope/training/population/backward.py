"""The gradient of a chain of layers by hand, written straight into the rows of the members.

    affine map    dW = dy^T x, db = sum dy, dx = dy W      into the place where the optimizer reads them
    convolution   as torch has it of the one that stands for all members
    others        from their output where that is enough, else by autograd, layer by layer

Autograd gives the same numbers. It makes a tensor for each parameter and one more in which all of them are
joined; with members side by side that takes as long as the products.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Protocol, cast

import torch
from torch import Tensor, nn

from downslope.training.population.chain import Flow, LayerChain, Link, Views
from downslope.training.population.channels import CONVOLUTIONS, Convolution, beside, members
from downslope.training.population.products import products

__all__ = ["ByHand"]

_ATEN: Any = torch.ops.aten

Back = Callable[[Tensor], Tensor]
"""From the gradient by a layer's output to that by its input."""


class Rule(Protocol):
    """A layer forwards, and what takes a gradient back through it; `wanted` is whether any layer is below."""

    def __call__(self, hand: ByHand, link: Link, flow: Flow, wanted: bool) -> tuple[Flow, Back]:
        """The layer's output, and the way back."""
        ...


class ByHand:
    """One step's forward pass, then its backward pass.

    Args:
        chain: Of the members.
    """

    def __init__(self, chain: LayerChain) -> None:
        self.chain = chain
        self._links = [(link, _rule(link.module), link.trained) for link in chain.links]
        self._backs: list[Back] = []
        self._slopes: Views = {}
        self._written: set[int] = set()

    def forward(self, views: Views, x: Tensor, *, shared: bool) -> Tensor:
        """The outputs of all members, (M, B, ...), a leaf by which the losses are to be differentiated.

        Args:
            views: As `LayerChain.forward` takes them; no gradient flows back to them.
            x: Inputs, (M, B, ...), or (B, ...) where they are `shared`.
            shared: Whether all members see the same examples.
        """
        self._backs.clear()
        with torch.no_grad():
            flow = Flow(x, not shared, views)
            for link, rule, trained in self._links:
                if trained or self._backs:
                    flow, back = rule(self, link, flow, bool(self._backs))
                    self._backs.append(back)
                else:
                    flow = link.act(self.chain, link, flow)
            output = flow.whole
        return output.detach().requires_grad_()

    def backward(self, gradient: Tensor, slopes: Views) -> None:
        """Write the gradients of the parameters.

        Args:
            gradient: Of the sum of all losses by the output of `forward`.
            slopes: Where to, of the shapes of the parameters, by their names; one that is not there is left
                out, tied ones share theirs.
        """
        self._slopes = slopes
        self._written.clear()
        with torch.no_grad():
            while self._backs:
                gradient = self._backs.pop()(gradient)

    def writes(self, name: str) -> bool:
        """Whether the gradient of a parameter has a place."""
        return name in self._slopes

    def write(self, name: str, make: Callable[..., Tensor], *given: Any) -> None:
        """Have ``make(*given, out=...)`` write the gradient of a parameter, or what it adds to it."""
        slope = self._slopes.get(name)
        if slope is None:
            return
        place = slope.data_ptr()
        if place in self._written:
            slope.add_(make(*given))
            return
        self._written.add(place)
        make(*given, out=slope)


def _affine(hand: ByHand, link: Link, flow: Flow, wanted: bool) -> tuple[Flow, Back]:
    rows, weight = flow.rows, flow.views[link.named("weight")]
    shape = (len(weight), *(flow.x.shape[1:] if flow.apart else flow.x.shape))

    def back(gradient: Tensor) -> Tensor:
        slope = gradient if gradient.dim() == 3 else gradient.flatten(1, -2)
        hand.write(link.named("weight"), products, slope.mT, rows)
        hand.write(link.named("bias"), torch.sum, slope, 1)
        return products(slope, weight).view(shape) if wanted else gradient

    return hand.chain.affine(link, flow), back


def _convolution(hand: ByHand, link: Link, flow: Flow, wanted: bool) -> tuple[Flow, Back]:
    act = cast("Convolution", Convolution.of(link.module))
    weight = flow.views[link.named("weight")]
    x, apart = (flow.whole, True) if wanted else (flow.x, flow.apart)
    laid = act.laid(x, weight, apart=apart)
    names = [link.named(name) for name in ("weight", "bias")]
    out = act(laid, flow.views.get(names[1]), flow.members)

    def back(gradient: Tensor) -> Tensor:
        asked = (wanted, hand.writes(names[0]), hand.writes(names[1]))
        below, *found = act.back(gradient, laid, wanted=asked)
        for name, slope in zip(names, found, strict=True):
            if slope is not None:
                hand.write(name, _copied, slope)
        return gradient if below is None else below

    return flow.to(out)._replace(fresh=True), back


def _by_output(name: str, slope: Callable[[Tensor, Tensor], Tensor]) -> Rule:
    """The rule of an activation, by its name in torch, whose slope can be told from its output."""
    act, in_place = getattr(torch, name), getattr(torch, f"{name}_")

    def rule(hand: ByHand, link: Link, flow: Flow, wanted: bool) -> tuple[Flow, Back]:
        del hand, link, wanted
        out: Tensor = (in_place if flow.fresh else act)(flow.x)
        return flow._replace(x=out, fresh=False), lambda gradient: slope(gradient, out)

    return rule


def _reshaped(hand: ByHand, link: Link, flow: Flow, wanted: bool) -> tuple[Flow, Back]:
    del wanted
    shape = flow.whole.shape

    def back(gradient: Tensor) -> Tensor:
        slope = gradient.reshape(shape)
        return members(beside(slope), len(slope)) if slope.dim() == 5 else slope  # as what is below lies

    return link.act(hand.chain, link, flow), back


def _autograd(hand: ByHand, link: Link, flow: Flow, wanted: bool) -> tuple[Flow, Back]:
    names = [link.named(name) for name, p in link.module.named_parameters(recurse=False) if p.requires_grad]
    own = {name: flow.views[name].detach().requires_grad_() for name in names}
    with torch.enable_grad():
        leaf = flow.x.detach().requires_grad_(wanted)
        x = leaf.clone() if getattr(link.module, "inplace", False) else leaf
        made = link.act(hand.chain, link, Flow(x, flow.apart, {**flow.views, **own}))
    leaves = ([leaf] if wanted else []) + list(own.values())

    def back(gradient: Tensor) -> Tensor:
        with torch.enable_grad():
            whole = (
                made.x * gradient
            ).sum()  # handed a gradient, torch would first import its compiler's sympy
        found = list(torch.autograd.grad(whole, leaves))
        below = found.pop(0) if wanted else gradient
        for name, slope in zip(names, found, strict=True):
            hand.write(name, _copied, slope)
        return below

    return Flow(made.x.detach(), made.apart, flow.views), back


def _copied(slope: Tensor, out: Tensor | None = None) -> Tensor:
    return slope if out is None else out.copy_(slope)


def _threshold(gradient: Tensor, out: Tensor) -> Tensor:
    """Of a ReLU; in the place of `gradient`, which nobody needs afterwards, where that is whole in memory."""
    if gradient.is_contiguous() and out.is_contiguous():
        return _ATEN.threshold_backward.grad_input(gradient, out, 0, grad_input=gradient)
    return _ATEN.threshold_backward(gradient, out, 0)


_RULES: dict[type[nn.Module], Rule] = {
    nn.Linear: _affine,
    **dict.fromkeys(CONVOLUTIONS, _convolution),
    nn.ReLU: _by_output("relu", _threshold),
    nn.Tanh: _by_output("tanh", _ATEN.tanh_backward),
    nn.Sigmoid: _by_output("sigmoid", _ATEN.sigmoid_backward),
    nn.Flatten: _reshaped,
    nn.Unflatten: _reshaped,
    nn.Identity: _reshaped,
}


def _rule(module: nn.Module) -> Rule:
    return _RULES.get(type(module), _autograd)
