"""Sees the forward passes of a model that somebody else trains, in sampled steps only.

While a window is open torch's global forward hook finds the outermost call of the model; the hooks on its
modules exist during that one call. No module of the user's carries a hook outside of it, because torch takes
another path through a transformer in eval mode where it finds one. A compiled model is not hooked at all: it
is run once more without its compiler, on copies of its buffers and with forked random state.
"""

from __future__ import annotations

import contextlib
import weakref
from collections.abc import Callable, Iterable, Mapping
from typing import Any, cast
from weakref import WeakKeyDictionary

import torch
from torch import Tensor, nn
from torch.func import functional_call
from torch.nn.modules.module import register_module_forward_pre_hook
from torch.utils.hooks import RemovableHandle

from downslope.core import batches
from downslope.core.modules import named_modules
from downslope.diagnosis.compiled import graphs, in_place, is_compiled, plain_module
from downslope.diagnosis.ear import Ear
from downslope.diagnosis.measure.start import count_norms, has_matrix, layer_hook
from downslope.diagnosis.memory import Memory
from downslope.diagnosis.resting import Resting
from downslope.diagnosis.strangers import Strangers
from downslope.training.facts.output import described, node_hook
from downslope.training.probes import Observer

_IN_PLACE = "the model is compiled in place; model = torch.compile(model) lets it be run beside"
_SCRIPTED = "a model of torch.jit takes no hooks; train the model it was made of to have it looked into"

Seen = Callable[[nn.Module, tuple[Any, ...], Mapping[str, Any], Any], None]


class Eye:
    """The forward passes of the models whose parameters one optimizer holds.

    Args:
        parameters: Of the optimizer.
        model: The model, where it is known; otherwise every outermost module that holds some of the
            parameters counts.
        on_forward: Told of every forward pass in an open window: module, args, kwargs, output.
        compiled: Compiled models known so far; while there is one, the global hook is left alone.
        ear: Opened with every window, while nothing is compiled: it might hold a loss, and be compiled anew.

    Attributes:
        observers: Prefix of the names to observer; one model has the prefix "".
        layers: What the first forward pass showed of each layer, for the facts of the start.
        output: The first output: its last activation and its values; None before.
        strangers: Modules that were called in training and that the optimizer, or the model, does not have.
        memory: How far back the gradient comes in a recurrence.
        blind: Why outputs and activations are not seen; None while they are.
        company: Whether any module with parameters was called in training that is none of the optimizer's.
    """

    def __init__(
        self,
        parameters: Iterable[Tensor],
        model: nn.Module | None = None,
        on_forward: Seen | None = None,
        compiled: list[nn.Module] | None = None,
        ear: Ear | None = None,
    ) -> None:
        self.parameters = {id(p) for p in parameters}
        self.model = model
        self.on_forward = on_forward
        self.ear = ear
        self._graphs, self.resting = graphs(), Resting()
        self.compiled = [] if compiled is None else compiled
        self.observers: dict[str, Observer] = {}
        self.layers: list[dict[str, Any]] = []
        self.output: dict[str, Any] | None = None
        self.nodes: list[tuple[str, Any]] = []
        self.blind: str | None = None
        self.company = False
        self.strangers, self.memory = Strangers(), Memory()
        self._at: Observer | None = None
        self._roots: dict[int, str] = {}
        self._held: WeakKeyDictionary[nn.Module, bool] = WeakKeyDictionary()
        self._handles: list[RemovableHandle] = []
        self._called: set[int] = set()
        self._busy = False
        self._first = True
        if model is not None:
            self._adopt(model)
            if is_compiled(model) and not any(model is each for each in self.compiled):
                self.compiled.append(model)

    # -- windows ------------------------------------------------------------------------------------------

    def open(self) -> None:
        """From now on the next forward pass in training mode is measured."""
        self._called.clear()
        for observer in self.observers.values():
            observer.clear()
        self._listen()
        if self.ear is not None and not self.compiled and graphs() <= self._graphs:
            self.ear.open()

    def reopen(self) -> None:
        """Something was compiled since: an open window listens anew."""
        if self._handles:
            self._unhook()
            self._listen()

    def _listen(self) -> None:
        if self.blind is not None:
            return
        if self.model is not None and in_place(self.model):
            self.blind = _IN_PLACE
        elif self.compiled:
            for module in self.compiled:
                if self.owns(module):
                    hook = cast("Any", self._aside)
                    self._handles.append(module.register_forward_pre_hook(hook, with_kwargs=True))
        else:
            self._handles.append(register_module_forward_pre_hook(_weakly(self)))
            # A monitor that nobody keeps, nor closes, must not leave its hook behind.
            weakref.finalize(self, self._handles[-1].remove)

    def close(self) -> None:
        """The end of a window: after the optimizer's step, or for good."""
        self._unhook()
        if self.ear is not None:
            self.ear.close()
        if self._called:
            self._first = False
            self.nodes.clear()

    def _unhook(self) -> None:
        for handle in self._handles:
            handle.remove()
        self._handles.clear()

    @property
    def called(self) -> bool:
        """Whether a forward pass was measured in this window."""
        return bool(self._called)

    # -- models -------------------------------------------------------------------------------------------

    def _adopt(self, module: nn.Module) -> None:
        """Observe `module` from now on; several modules are told apart by their class and number."""
        name = ""
        if self.observers:
            self._rename_first()
            name = _unused(type(module).__name__, self.observers)
        self._roots[id(module)] = name
        self.observers[name] = Observer(plain_module(module))

    def adopt(self, module: nn.Module) -> None:
        """Observe the gradients and weights of a model that no forward hook can look into."""
        if id(module) not in self._roots and self.owns(module):
            self._adopt(module)

    def read(self, module: nn.Module) -> bool:
        """What went through an adopted model is known in this window; whether it is the first one."""
        self._called.add(id(module))
        return self._first

    def _rename_first(self) -> None:
        if "" not in self.observers:
            return
        first = self.observers.pop("")
        name = type(first.inner).__name__ + "."
        self.observers = {name: first}
        self._roots = dict.fromkeys(self._roots, name)

    def owns(self, module: nn.Module) -> bool:
        """Whether `module` is (part of) the model, or holds parameters of the optimizer."""
        known = self._held.get(module)
        if known is None:
            if self.model is None:
                known = any(id(p) in self.parameters for p in module.parameters())
            else:
                parts = plain_module(self.model).modules()
                known = module is self.model or any(module is each for each in parts)
            self._held[module] = known
        return known

    # -- hooks --------------------------------------------------------------------------------------------

    def before(self, module: nn.Module, args: Any) -> None:
        """Before the call of any module."""
        if torch.compiler.is_compiling() or not torch.is_grad_enabled():
            return
        if self._busy:
            if self._at is not None:
                self.strangers.inside(module, self._at.names)
            return
        if id(module) in self._called or self._part(module):
            return
        if not module.training:
            self.resting.met(module)
            self.company = self.company or any(True for _ in module.parameters())
            return
        if not self.owns(module):
            if self.model is None:
                self.company = self.company or any(True for _ in module.parameters())
                self.strangers.meet(module, args, bool(self._called))
            return
        if in_place(module) or isinstance(module, torch.jit.ScriptModule):
            self.blind = _IN_PLACE if in_place(module) else _SCRIPTED
            return
        self._called.add(id(module))
        if self.model is None and id(module) not in self._roots:
            self._adopt(module)
        observer = self.observers[self._roots.get(id(module), next(iter(self.observers)))]
        self._busy, self._at = True, observer
        extra = [*(self._first_hooks(observer) if self._first else []), *self.memory.hooks(observer.inner)]
        self._handles += extra
        observer.renew()
        observer.attach()

        def ended(module: nn.Module, args: Any, kwargs: Any, output: Any) -> None:
            observer.detach()
            for handle in (*extra, end):
                handle.remove()
            self._busy = False
            if output is not None:
                self._forwarded(module, args, kwargs, output)

        end = module.register_forward_hook(ended, with_kwargs=True, always_call=True)

    def _part(self, module: nn.Module) -> bool:
        """Whether it belongs to an observed model, which is called a second time within one step."""
        if id(module) in self._roots:
            return False
        return any(id(module) in each.names for each in self.observers.values())

    def fault(self, error: Exception) -> None:
        """A fault of our own before a call: nothing more is looked into, and the call goes on."""
        self.blind = f"{type(error).__name__}: {(str(error).strip().splitlines() or [''])[0][:120]}"
        self._busy = False
        self._called.clear()
        self._unhook()
        for observer in self.observers.values():
            with contextlib.suppress(Exception):
                observer.detach()

    def _aside(self, module: nn.Module, args: Any, kwargs: Any) -> None:
        """Before the call of a compiled model: the same call beside it, without the compiler."""
        if torch.compiler.is_compiling() or not module.training or not torch.is_grad_enabled():
            return
        if id(module) in self._called:
            return
        self._called.add(id(module))
        if id(module) not in self._roots:
            self._adopt(module)
        observer = self.observers[self._roots[id(module)]]
        inner = plain_module(module)
        copies = {name: each.detach().clone() for name, each in inner.named_buffers()}
        given, named = batches.map_tensors(torch.clone, (args, kwargs))
        extra = self._first_hooks(observer) if self._first else []
        devices = list(range(torch.cuda.device_count())) if torch.cuda.is_initialized() else []
        observer.attach()
        try:
            with torch.random.fork_rng(devices=devices), torch.no_grad():
                output = functional_call(inner, copies, given, named)
        except Exception as error:  # noqa: BLE001 (what cannot be run beside is not looked into)
            self.blind = f"the compiled model could not be run beside itself: {type(error).__name__}"
            return
        finally:
            observer.detach()
            for handle in extra:
                handle.remove()
        self._forwarded(module, args, kwargs, output)

    def _first_hooks(self, observer: Observer) -> list[RemovableHandle]:
        """What is looked at once, before the first step: the signal by layer, and who made the output."""
        handles: list[RemovableHandle] = []
        for name, module in named_modules(observer.inner):
            if has_matrix(module):
                handles.append(module.register_forward_hook(_quiet(layer_hook(name, self.layers))))
            leaf = not any(True for _ in module.children())
            if leaf and not any(True for _ in module.parameters()):
                handles.append(module.register_forward_hook(_quiet(node_hook(name, self.nodes))))
        return handles

    def _forwarded(self, module: nn.Module, args: Any, kwargs: Any, output: Any) -> None:
        try:
            if self._first and self.output is None:
                self.output = self.look(output)
            if self.on_forward is not None:
                self.on_forward(module, args, kwargs, output)
        except Exception as error:  # noqa: BLE001 (nothing we look at may end anybody's training)
            self.blind = f"{type(error).__name__}: {error}"

    def look(self, output: Any) -> dict[str, Any]:
        """What an output is: its last activation, its range; for one tensor only."""
        found = [each for each in batches.tensors(output) if each.is_floating_point()]
        if len(found) != 1 or not found[0].numel():
            return {"tensors": len(found)}
        return described(found[0], self.nodes) | {"tensors": 1}

    # -- results ------------------------------------------------------------------------------------------

    def gradients(self, scale: float) -> None:
        """Gradient norms of every model; at the first step those of the layers too."""
        for observer in self.observers.values():
            observer.gradients(scale)
        self.memory.read()
        if self._first:
            self._layer_gradients(scale)

    def weights(self) -> None:
        """Weight norms, and the weights themselves, before the optimizer's step."""
        for observer in self.observers.values():
            observer.weights()

    def updates(self) -> dict[str, dict[str, float]]:
        """Everything measured in this window, statistic to module to value."""
        merged: dict[str, dict[str, float]] = {}
        for prefix, observer in self.observers.items():
            if not observer.modules and observer.measured():
                observer.survey()  # before it is read what was called, and in which order, is known
            observer.updates()
            for statistic, values in observer.values.items():
                row = merged.setdefault(statistic, {})
                row.update({prefix + name: value for name, value in values.items()})
        return merged

    def surveyed(self) -> dict[str, Any]:
        """The facts of the models after the first window: modules and activations by name."""
        modules: dict[str, Any] = {}
        activations: dict[str, Any] = {}
        for prefix, observer in self.observers.items():
            if not observer.modules:
                observer.survey()
            modules |= {prefix + name: fact for name, fact in observer.modules.items()}
            activations |= {prefix + name: fact for name, fact in observer.activations.items()}
        return {"modules": modules, "activations": activations}

    @property
    def norms(self) -> int:
        """Normalisation layers in all models."""
        return sum(count_norms(observer.inner) for observer in self.observers.values())

    def non_finite_weight(self) -> tuple[str | None, bool]:
        """The first module with a weight that is not finite, None if all are; and whether none is finite."""
        first: str | None = None
        sound = False
        for prefix, observer in self.observers.items():
            for name, parameter in observer.inner.named_parameters():
                if bool(torch.isfinite(parameter.detach()).all()):
                    sound = sound or parameter.requires_grad
                elif first is None:
                    first = prefix + (name.rpartition(".")[0] or "model")
        return first, not sound

    def _layer_gradients(self, scale: float) -> None:
        named: dict[str, nn.Module] = {}
        for observer in self.observers.values():
            named |= dict(named_modules(observer.inner))
        for layer in self.layers:
            weight = cast("Tensor | None", getattr(named.get(layer["name"]), "weight", None))
            if weight is not None and weight.grad is not None and not weight.grad.is_sparse:
                layer["grad_rms"] = float(weight.grad.double().square().mean().sqrt()) / scale


def _weakly(eye: Eye) -> Any:
    """Torch's global forward pre-hook, which keeps nothing alive."""
    held = weakref.ref(eye)

    def hook(module: nn.Module, args: Any) -> None:
        found = held()
        if found is None:
            return
        try:
            found.before(module, args)
        except Exception as error:  # noqa: BLE001 (nothing we look at may end anybody's training)
            found.fault(error)

    return hook


def _quiet(hook: Any) -> Any:
    """`hook`, which may fail on what it was not made for, but must never end anybody's training."""

    def quiet(module: nn.Module, args: Any, output: Any) -> None:
        with contextlib.suppress(Exception):
            hook(module, args, output)

    return quiet


def _unused(name: str, taken: Mapping[str, Any]) -> str:
    number, found = 2, f"{name}."
    while found in taken:
        found, number = f"{name}{number}.", number + 1
    return found
