"""What goes through parameters that no module holds, in sampled steps: read off the graph of the loss.

So a network that is written out by hand shows its inputs, its layers and its activations as one of modules
does. Nothing is told where the loss depends on what the optimizer does not hold, where a module is called
beside it, or where no data meets a parameter.
"""

from __future__ import annotations

import math
from typing import Any

import torch
from torch import Tensor

from downslope.diagnosis.chains import Bend, Factor, Graph, bends, examples
from downslope.diagnosis.ear import Call
from downslope.diagnosis.gathered import LARGEST, Gathered
from downslope.diagnosis.loose import Loose, named
from downslope.diagnosis.measure.start import layer_hook
from downslope.diagnosis.settings import parameters_of
from downslope.diagnosis.track import Track
from downslope.diagnosis.zeroed import Zeroed
from downslope.training.probes import ROWS, Observer

FEWEST = 8
"""Examples of a batch from which a unit that is zero for all of them says anything."""

OUTSIDE = "the parameters are tensors of the script itself: what goes through them was not seen"

_LOOKED_UP = ("IndexBackward", "IndexSelectBackward", "EmbeddingBackward", "GatherBackward")


class Raw:
    """Reads the graphs of one optimizer's losses.

    Args:
        track: Of its steps.
        gathered: Keeps the inputs.
    """

    def __init__(self, track: Track, gathered: Gathered) -> None:
        self._track, self._gathered = track, gathered
        self._misses = 0
        self._columns: int | None = None
        """Units of the last layer, where they are its rows and the examples its columns: W @ X."""

    def turned(self, made: Tensor, target: Tensor) -> tuple[Tensor, Tensor]:
        """Output and target with the examples on the first axis."""
        units = self._columns
        if units is None or made.dim() != 2 or made.shape != target.shape:
            return made, target
        return (made.t(), target.t()) if made.shape[0] == units != made.shape[1] else (made, target)

    def of_call(self, call: Call) -> Call:
        """The same of a call; one that is handed more tensors, of whatever shapes, is left alone."""
        if len(call.args) != 2 or any(isinstance(each, Tensor) for each in call.kwargs.values()):
            return call
        return call._replace(args=self.turned(*call.args))

    def look(self, loss: Tensor, call: Call | None) -> bool:
        """Before a backward pass.

        Args:
            loss: What it is of.
            call: The loss function that was called for it, where one was.

        Returns:
            Whether a network was read.
        """
        eye = self._track.eye
        # Of a model in modules the forward pass was seen when it was made.
        if not self._track.armed or eye.called or eye.blind is not None or eye.company or self._misses:
            return False
        if any(not isinstance(each.inner, Loose) for each in eye.observers.values()):
            return False
        with torch.no_grad():
            graph = Graph(loss, eye.parameters)
            if not self._readable(graph):
                self._misses += 1
                if eye.observers:
                    eye.blind = OUTSIDE
                    held = [each.inner for each in eye.observers.values()]
                    self._track.zeroed = Zeroed(dict(p for each in held for p in each.named_parameters()))
                return False
            observer = self._observer(graph)
            if observer is None:
                return False
            loose: Any = observer.inner
            if eye.read(loose):
                self._layers(graph, loose)
                last = [each for each in graph.factors.values() if each.node not in graph.feeding]
                shape = last[-1].node._input_metadata[0].shape if last else ()
                if len(shape) == 2 and all(each.first for each in last):
                    self._columns = int(shape[0])
                if call is not None and call.args:
                    with torch.enable_grad():
                        eye.output = eye.look(self.of_call(call).args[0])
            _measure(graph, loose, observer)
            self._keep(graph)
        return True

    def _readable(self, graph: Graph) -> bool:
        """Whether it is a network: all leaves are held, and data goes into layers and nowhere else."""
        if not graph.whole or not graph.factors or not graph.read():
            return False
        if any(each.entry for each in graph.factors.values()):
            return True
        return any(type(node).__name__.startswith(_LOOKED_UP) for node in graph.nodes)

    def _observer(self, graph: Graph) -> Observer | None:
        """Of the parameters, each bias with its weights."""
        eye = self._track.eye
        if not eye.observers:
            eye.adopt(Loose(named(parameters_of(*self._track.optimizers))))
            fresh = True
        else:
            fresh = not self._track.step
        observer = next(iter(eye.observers.values()), None)
        if observer is None or not isinstance(loose := observer.inner, Loose):
            return None
        if fresh:
            for factor in graph.factors.values():
                for bias in graph.added(factor)[1]:
                    loose.join(factor.leaf, bias)
                _, held = loose.holding(factor.leaf)
                if held.rows is None:
                    rows = factor.rows(factor.leaf.detach())
                    held.sized(factor.rows, tuple(rows.shape))
            observer.renew()
        return observer

    def _layers(self, graph: Graph, loose: Loose) -> None:
        """The layers before the first step, in forward order."""
        eye = self._track.eye
        for factor in graph.factors.values():
            name, held = loose.holding(factor.leaf)
            given, made = examples(factor), _product(factor)
            if given is None or made is None or any(each["name"] == name for each in eye.layers):
                continue
            layer_hook(name, eye.layers)(held, (given,), made)
            if not (factor.node in graph.feeding and _alike(graph, factor)):
                eye.layers[-1]["equal_rows"] = False
        last = [each for each in eye.layers if not self._feeds(graph, loose, str(each["name"]))]
        eye.layers[:] = [each for each in eye.layers if each not in last] + last

    def _feeds(self, graph: Graph, loose: Loose, name: str) -> bool:
        return any(
            loose.holding(each.leaf)[0] == name and each.node in graph.feeding
            for each in graph.factors.values()
        )

    def _keep(self, graph: Graph) -> None:
        """The inputs of the step."""
        parts, apart = _entries(graph)
        gathered = self._gathered
        gathered.partial = gathered.partial or apart or not graph.complete()
        rows = {len(each) for each in parts}
        if len(rows) > 1 or sum(each.numel() for each in parts) > LARGEST:
            parts, gathered.partial = parts[:1], True
        if len(parts) == 1:
            gathered.given(parts[0])
        elif parts:
            gathered.given(torch.cat([each.flatten(1) for each in parts], 1))


def _entries(graph: Graph) -> tuple[list[Tensor], bool]:
    """What the layers are given of data, one tensor for each parameter; and whether any could not be had.

    What one parameter meets in several products of a step are several examples of the same features.
    """
    found: dict[int, dict[Any, Tensor]] = {}
    known, lost = set[Any](), False
    for factor in graph.factors.values():
        given = examples(factor) if factor.entry else None
        if given is None:
            lost = lost or factor.entry
            continue
        key = (given.data_ptr(), given.shape, given.stride())
        if key not in known:
            known.add(key)
            found.setdefault(id(factor.leaf), {})[key] = given
    parts = [_joined([*each.values()]) for each in found.values()]
    if len(parts) > 1:  # a state that begins at zero says nothing
        parts = [each for each in parts if bool(each.any())] or parts[:1]
    return parts, lost


def _joined(given: list[Tensor]) -> Tensor:
    fits = [each for each in given if each.shape[1:] == given[0].shape[1:] and each.dtype == given[0].dtype]
    return fits[0] if len(fits) == 1 else torch.cat(fits)


def _alike(graph: Graph, factor: Factor) -> bool:
    """Whether all units of a layer get the same from all that is added up in them."""
    layers, biases, only = graph.added(factor)
    if not only:
        return False
    rows = [each.rows(each.leaf.detach()) for each in layers]
    same = all(bool((each == each[:1]).all()) for each in rows)
    return same and all(bool((each == each.flatten()[0]).all()) for each in biases if each.numel() > 1)


def _measure(graph: Graph, loose: Loose, observer: Observer) -> None:
    """Outputs and activations of the step."""
    after: dict[Any, list[Bend]] = {}
    for bend in bends(graph):
        after.setdefault(bend.after.node, []).append(bend)
    for node, factor in graph.factors.items():
        name, _ = loose.holding(factor.leaf)
        made = _product(factor)
        if made is None:
            continue
        shape = tuple(int(n) for n in node._input_metadata[0].shape)
        observer.found(name, made, math.prod(shape) // max(len(factor.rows(factor.leaf.detach())), 1))
        for bend in after.get(node, ()):
            units = bend.made.shape[1 if bend.made.dim() == 4 else -1] if bend.made.dim() else 1
            if bend.kind != "relu" or bend.made.numel() >= FEWEST * units:
                observer.activated(f"{name}+{bend.kind}", bend.kind, bend.made)


def _product(factor: Factor) -> Tensor | None:
    """What some examples make of a layer's weights; its bias left out."""
    given = examples(factor)
    if given is None:
        return None
    node, leaf = factor.node, factor.leaf.detach()
    if type(node).__name__ != "ConvolutionBackward0":
        return given[:ROWS] @ factor.rows(leaf).t().to(given.dtype)
    return torch.ops.aten.convolution(
        given[:ROWS], leaf.to(given.dtype), None, node._saved_stride, node._saved_padding,
        node._saved_dilation, node._saved_transposed, node._saved_output_padding, node._saved_groups,
    )  # fmt: skip
