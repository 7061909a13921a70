"""All members of a population through a chain of layers at once: one product a layer, without `torch.func`.

    affine map      ``b + x W^T`` of (M, B, inputs) and (M, outputs, inputs), the bits of each member alone
    activation      as it stands
    convolution     one with the members for groups, their channels beside one another (`channels`)
    norms, scales   with a row of their numbers for each member
    dropout         handed to who draws

`torch.func.vmap` gives the same numbers for any model, and takes a dispatch more for every operation: for the
small models that populations are made of that is half of the time.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from typing import Any, NamedTuple, cast

import torch
from torch import Tensor, nn
from torch.nn import functional

from downslope.core.adapted import Adapted, Restore, Standardise, Whiten
from downslope.training.population.channels import CONVOLUTIONS, POOLS, Convolution, beside, members
from downslope.training.population.products import products
from downslope.training.stochastic import RANDOM_MODULES

__all__ = ["ACTIVATIONS", "Flow", "LayerChain", "Link", "Views"]

Views = Mapping[str, Tensor]
"""Parameters and buffers of all members by the template's names, each of shape (M, ...)."""

Draw = Callable[[int, Tensor], Tensor]
"""``draw(index, x)``: what the random module at that place makes of all members' inputs, (M, B, ...)."""

ACTIVATIONS: tuple[type[nn.Module], ...] = (
    nn.ReLU, nn.LeakyReLU, nn.ReLU6, nn.ELU, nn.CELU, nn.SELU, nn.GELU, nn.SiLU, nn.Mish, nn.Hardswish,
    nn.Hardsigmoid, nn.Hardtanh, nn.Hardshrink, nn.Softshrink, nn.Softplus, nn.Softsign, nn.Tanh,
    nn.Tanhshrink, nn.Sigmoid, nn.LogSigmoid, nn.Threshold, nn.Identity,
)  # fmt: skip
"""They act entry by entry and hold no numbers."""

_NORMS = (nn.BatchNorm1d, nn.BatchNorm2d)

_HOOKS = ("_forward_hooks", "_forward_pre_hooks", "_backward_hooks", "_backward_pre_hooks")


class Flow(NamedTuple):
    """What runs through the chain."""

    x: Tensor
    """(M, B, ...), or (B, ...) as long as all members see the same."""
    apart: bool
    """Whether the members' dimension leads."""
    views: Views
    fresh: bool = False
    """Whether nobody needs `x` afterwards, so that it may be overwritten."""

    @property
    def members(self) -> int:
        """How many."""
        return len(next(iter(self.views.values())))

    @property
    def whole(self) -> Tensor:
        """`x` with the members' dimension."""
        return self.x if self.apart else self.x.expand(self.members, *self.x.shape)

    @property
    def rows(self) -> Tensor:
        """`whole` as a table for each member, (M, rows, columns)."""
        x = self.x
        if self.apart:
            return x if x.dim() == 3 else x.flatten(1, -2)
        return (x if x.dim() == 2 else x.flatten(0, -2)).expand(self.members, -1, -1)

    def to(self, x: Tensor) -> Flow:
        """On with `x`, the members apart."""
        return Flow(x, apart=True, views=self.views)

    def dim(self, dim: int) -> int:
        """A dimension as an example's model names it, where the members' may come first."""
        return dim + 1 if self.apart and dim >= 0 else dim


class Link(NamedTuple):
    """One layer of the chain."""

    name: str
    module: Any
    act: Callable[[LayerChain, Link, Flow], Flow]
    place: int
    """Among the random modules; -1 of others."""

    @property
    def trained(self) -> bool:
        """Whether it has numbers that are trained."""
        return any(p.requires_grad for p in self.module.parameters(recurse=False))

    def named(self, name: str) -> str:
        """The name of one of its parameters or buffers."""
        return _joined(self.name, name)


class LayerChain:
    """The forward pass of M models that are one chain of layers, in training or in evaluation.

    The numbers are those of each model alone, up to the rounding of sums; batch norm's buffers move in place.

    Args:
        template: A model of the members' structure; the mode of its modules counts at every call.
        draw: Takes the place of dropout in training; needed where there is any.
    """

    def __init__(self, template: nn.Module, draw: Draw | None = None) -> None:
        self.draw = draw
        random = [each for each in template.modules() if isinstance(each, RANDOM_MODULES)]
        places = {id(each): index for index, each in enumerate(random)}

        def linked(parts: Iterator[tuple[str, nn.Module]]) -> list[Link]:
            return [
                Link(name, module, _ACTS[type(module)], places.get(id(module), -1)) for name, module in parts
            ]

        self.links = linked(_layers("", template))
        """Layers in training; evaluation may add some."""
        self.convolves = any(isinstance(each.module, CONVOLUTIONS) for each in self.links)
        norms = [each.module for each in self.links if type(each.module) in _NORMS]
        self.mixes = any(each.running_mean is None for each in norms)
        """Whether evaluation of an example hangs on those beside it."""
        self._restore = linked(_restoring("", template))
        self._target = linked(_targets("", template))

    @staticmethod
    def runs(template: nn.Module) -> bool:
        """Whether a model is such a chain: layers of known types, by their exact type, without hooks."""
        parts = [*_layers("", template), *_restoring("", template), *_targets("", template)]
        containers = [each for each in template.modules() if type(each) in (nn.Sequential, Adapted)]
        plain = not any(_hooked(each) or "forward" in vars(each) for each in containers)
        return plain and all(_known(each) for _, each in parts)

    def forward(self, views: Views, x: Tensor, *, shared: bool, whole: bool = False) -> Tensor:
        """The outputs of all members.

        Args:
            views: Parameters and buffers, (M, ...) each, by name.
            x: Inputs, (M, B, ...), or (B, ...) where they are `shared`.
            shared: Whether all members see the same examples.
            whole: Whether outputs are wanted in the user's units, as in evaluation, where training is on
                changed targets.

        Returns:
            (M, B, ...); a gradient flows back into `views`.
        """
        flow = Flow(x, not shared, views)
        for link in [*self.links, *self._restore] if whole else self.links:
            flow = link.act(self, link, flow)
        return flow.whole

    def target(self, views: Views, target: Any, *, shared: bool) -> tuple[Any, bool]:
        """The targets that the objective sees in training, and whether all members have the same."""
        flow = Flow(target, not shared, views)
        for link in self._target:
            flow = link.act(self, link, flow)
        return flow.x, not flow.apart

    # -- layers -------------------------------------------------------------------------------------------

    def affine(self, link: Link, flow: Flow) -> Flow:
        """``x W^T + b``."""
        weight, bias = flow.views[link.named("weight")], flow.views.get(link.named("bias"))
        out = products(flow.rows, weight.mT, bias)
        lead = flow.x.shape[1:-1] if flow.apart else flow.x.shape[:-1]
        out = out if len(lead) == 1 else out.reshape(len(weight), *lead, -1)
        return flow.to(out)._replace(fresh=True)

    def convolution(self, link: Link, flow: Flow) -> Flow:
        """One convolution for all members."""
        weight, bias = flow.views[link.named("weight")], flow.views.get(link.named("bias"))
        act = cast("Convolution", Convolution.of(link.module))
        made = act(act.laid(flow.x, weight, apart=flow.apart), bias, flow.members)
        return flow.to(made)._replace(fresh=True)

    def pooled(self, link: Link, flow: Flow) -> Flow:
        """Pooling, channel by channel."""
        if flow.apart:
            return flow.to(members(link.module(beside(flow.x)), flow.members))
        return flow._replace(x=link.module(flow.x), fresh=False)

    def entries(self, link: Link, flow: Flow) -> Flow:
        """An activation."""
        if flow.fresh and type(link.module) is nn.ReLU:
            return flow.to(flow.x.relu_())
        return flow._replace(x=link.module(flow.x), fresh=False)

    def slopes(self, link: Link, flow: Flow) -> Flow:
        """PReLU, with slopes of each member."""
        x, weight = flow.whole, flow.views[link.named("weight")]
        shape = (len(weight), 1, -1, *[1] * (x.dim() - 3)) if x.dim() > 2 else (len(weight), 1)
        return flow.to(torch.where(x > 0, x, weight.view(shape) * x))

    def softmax(self, link: Link, flow: Flow) -> Flow:
        """Softmax, or its logarithm, along a dimension of the examples."""
        dim = flow.dim(int(link.module.dim))
        soft = type(link.module) is nn.Softmax
        return flow._replace(x=flow.x.softmax(dim) if soft else flow.x.log_softmax(dim), fresh=False)

    def flatten(self, link: Link, flow: Flow) -> Flow:
        """Flatten dimensions of the examples."""
        start, end = (flow.dim(each) for each in (link.module.start_dim, link.module.end_dim))
        return flow._replace(x=flow.x.flatten(start, end))

    def unflatten(self, link: Link, flow: Flow) -> Flow:
        """Unflatten a dimension of the examples."""
        module = link.module
        return flow._replace(x=flow.x.unflatten(flow.dim(module.dim), module.unflattened_size))

    def dropped(self, link: Link, flow: Flow) -> Flow:
        """Dropout: what the members' own addresses draw."""
        if not link.module.training:
            return flow
        if self.draw is None:
            raise TypeError(f"{type(link.module).__name__} in training without anyone who draws")
        return flow.to(self.draw(link.place, flow.whole.contiguous()))  # a mask follows the order in memory

    def batch_norm(self, link: Link, flow: Flow) -> Flow:
        """Batch norm over the examples of each member; its running statistics move in place."""
        module = link.module
        mean, variance, weight, bias = (
            flow.views.get(link.named(key)) for key in ("running_mean", "running_var", "weight", "bias")
        )
        if module.training and mean is not None:
            flow.views[link.named("num_batches_tracked")].add_(1)
        rows = flow.whole.transpose(0, 1).flatten(1, 2)
        out = functional.batch_norm(
            rows,
            None if mean is None else mean.view(-1),
            None if variance is None else variance.view(-1),
            None if weight is None else weight.reshape(-1),
            None if bias is None else bias.reshape(-1),
            module.training or mean is None,
            module.momentum,
            module.eps,
        )
        return flow.to(torch.unflatten(out, 1, (flow.members, -1)).transpose(0, 1))

    def layer_norm(self, link: Link, flow: Flow) -> Flow:
        """Layer norm over the last dimensions, with gains of each member."""
        shape = link.module.normalized_shape
        normed = functional.layer_norm(flow.x, shape, None, None, link.module.eps)
        weight, bias = flow.views.get(link.named("weight")), flow.views.get(link.named("bias"))
        if weight is None:
            return flow._replace(x=normed, fresh=False)
        x = flow._replace(x=normed).whole
        each = (len(weight), *[1] * (x.dim() - 1 - len(shape)), *shape)
        x = x * weight.view(each)
        return flow.to(x if bias is None else x + bias.view(each))

    def scaled(self, link: Link, flow: Flow) -> Flow:
        """Standardised, or taken back to the user's units; once for all where all have the same scale."""
        mean, std = flow.views[link.named("mean")], flow.views[link.named("std")]
        back = type(link.module) is Restore
        if flow.apart or not self._same(mean, std):
            x = flow.whole
            mean, std = (
                each.view(len(each), *[1] * (x.dim() - each.dim()), *each.shape[1:]) for each in (mean, std)
            )
            flow = flow.to(x)
        else:
            mean, std = mean[0], std[0]
        x = flow.x
        mean, std = mean.to(x.dtype), std.to(x.dtype)
        return flow._replace(x=x * std + mean if back else (x - mean) / std, fresh=False)

    def whitened(self, link: Link, flow: Flow) -> Flow:
        """Decorrelated; once for all where all do it alike."""
        mean, matrix = flow.views[link.named("mean")], flow.views[link.named("matrix")]
        if flow.apart or not self._same(mean, matrix):
            x = flow.whole
            lead = [1] * (x.dim() - mean.dim())
            mean = mean.view(len(mean), *lead, *mean.shape[1:]).to(x.dtype)
            return flow.to(torch.matmul(x - mean, matrix.view(len(matrix), *lead[1:], *matrix.shape[1:])))
        return flow._replace(x=(flow.x - mean[0].to(flow.x.dtype)) @ matrix[0].to(flow.x.dtype))

    def _same(self, *numbers: Tensor) -> bool:
        """Whether all members that are asked for have the same `numbers`."""
        return all(bool((each == each[:1]).all()) for each in numbers)


_ACTS: dict[type[nn.Module], Callable[[LayerChain, Link, Flow], Flow]] = {
    nn.Linear: LayerChain.affine,
    nn.PReLU: LayerChain.slopes,
    nn.Softmax: LayerChain.softmax,
    nn.LogSoftmax: LayerChain.softmax,
    nn.Flatten: LayerChain.flatten,
    nn.Unflatten: LayerChain.unflatten,
    **dict.fromkeys(_NORMS, LayerChain.batch_norm),
    nn.LayerNorm: LayerChain.layer_norm,
    Standardise: LayerChain.scaled,
    Restore: LayerChain.scaled,
    Whiten: LayerChain.whitened,
    **dict.fromkeys(ACTIVATIONS, LayerChain.entries),
    **dict.fromkeys(RANDOM_MODULES, LayerChain.dropped),
    **dict.fromkeys(CONVOLUTIONS, LayerChain.convolution),
    **dict.fromkeys(POOLS, LayerChain.pooled),
}


def _known(module: nn.Module) -> bool:
    kind, held = type(module), cast("Any", module)
    if kind not in _ACTS or _hooked(module) or ("forward" in vars(module) and kind not in RANDOM_MODULES):
        return False
    if kind in _NORMS:
        return held.momentum is not None
    if kind in CONVOLUTIONS:
        return Convolution.of(module) is not None
    if kind in POOLS:
        return not getattr(held, "return_indices", False)
    if kind in (nn.Softmax, nn.LogSoftmax):
        return held.dim is not None
    return kind is not nn.Unflatten or isinstance(held.dim, int)


def _hooked(module: nn.Module) -> bool:
    return any(getattr(module, each) for each in _HOOKS)


def _layers(name: str, module: nn.Module, *, top: bool = True) -> Iterator[tuple[str, nn.Module]]:
    """The layers of a model in training, by name; what an `Adapted` leaves to evaluation is left out."""
    if type(module) is nn.Sequential:
        children: dict[str, nn.Module] = cast("Any", module)._modules  # one that comes twice acts twice
        for each, child in children.items():
            yield from _layers(_joined(name, each), child, top=False)
    elif type(module) is Adapted:
        before, after = cast("Any", module)._before, cast("Any", module)._after
        if before is not None:
            yield from _layers(_joined(name, "_before"), before, top=False)
        yield from _layers(_joined(name, "inner"), module.inner, top=top)
        if after is not None and cast("Any", module)._target is None:
            yield from _layers(_joined(name, "_after"), after, top=False)
        if not top:
            yield from _restoring(name, module)
    else:
        yield name, module


def _restoring(name: str, module: nn.Module) -> Iterator[tuple[str, nn.Module]]:
    """What takes an output of training to the user's units."""
    if type(module) is Adapted:
        yield from _restoring(_joined(name, "inner"), module.inner)
        after = cast("Any", module)._after
        if after is not None and cast("Any", module)._target is not None:
            yield from _layers(_joined(name, "_after"), after, top=False)


def _targets(name: str, module: nn.Module) -> Iterator[tuple[str, nn.Module]]:
    """What a target goes through before the objective sees it in training."""
    if type(module) is Adapted:
        yield from _targets(_joined(name, "inner"), module.inner)
        target = cast("Any", module)._target
        if target is not None:
            yield from _layers(_joined(name, "_target"), target, top=False)


def _joined(name: str, child: str) -> str:
    return f"{name}.{child}" if name else child
