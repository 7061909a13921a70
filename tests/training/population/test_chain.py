"""A chain of layers for all members at once gives what `torch.func.vmap` of the model gives."""

from __future__ import annotations

import copy
from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from downslope.core.adapted import Adapted, Restore, Standardise, Whiten
from downslope.models.mlp import mlp
from downslope.training.population.chain import ACTIVATIONS, LayerChain

M, B, D, C = 3, 6, 5, 4
DRAW = torch.Generator().manual_seed(0)


def numbers(*shape: int) -> Tensor:
    return torch.randn(shape, generator=DRAW, dtype=torch.float64)


def scale(kind: type[Any], size: int = D) -> nn.Module:
    return kind(numbers(size), numbers(size).abs() + 0.5)


def tied() -> nn.Module:
    act, square = nn.Tanh(), nn.Linear(D, D)
    return nn.Sequential(square, act, square, act, nn.Linear(D, C))


MODELS: dict[str, Callable[[], nn.Module]] = {
    "mlp": lambda: mlp(D, C, width=7),
    "batch norm": lambda: mlp(D, C, width=7, norm="batch", activation="silu"),
    "layer norm": lambda: mlp(D, C, width=7, norm="layer", activation="prelu"),
    "no bias": lambda: nn.Sequential(nn.Linear(D, 3, bias=False), nn.PReLU(3), nn.Linear(3, C, bias=False)),
    "one layer": lambda: nn.Linear(D, C),
    "nested": lambda: nn.Sequential(
        nn.Sequential(nn.LayerNorm(D, elementwise_affine=False), nn.Linear(D, 3)),
        nn.Sequential(nn.Linear(3, C)),
    ),
    "tied": tied,
    "no affine": lambda: nn.Sequential(
        nn.BatchNorm1d(D, affine=False), nn.Linear(D, 3), nn.BatchNorm1d(3, track_running_stats=False)
    ),
    "probabilities": lambda: nn.Sequential(nn.Linear(D, C), nn.LogSoftmax(1)),
    "sequences": lambda: nn.Sequential(
        nn.Unflatten(1, (1, D)), nn.Linear(D, 6), nn.LayerNorm([1, 6]), nn.Softmax(dim=-1), nn.Flatten(),
        nn.Unflatten(-1, (2, 3)), nn.BatchNorm1d(2), nn.Linear(3, 2), nn.Flatten(),
        nn.LayerNorm(4, bias=False),
    ),
    "standardised": lambda: Adapted(mlp(D, C), before=scale(Standardise)),
    "whitened": lambda: Adapted(mlp(D, C), before=Whiten(numbers(D), numbers(D, D))),
    "restored": lambda: Adapted(
        Adapted(mlp(D, C), after=scale(Restore, C), target=scale(Standardise, C)), before=scale(Standardise)
    ),
    "images": lambda: nn.Sequential(
        nn.Linear(D, 32), nn.Unflatten(1, (2, 4, 4)), nn.Conv2d(2, 6, 3, padding=1, groups=2), nn.ReLU(),
        nn.MaxPool2d(2), nn.BatchNorm2d(6), nn.Conv2d(6, 4, (3, 1), padding="same", dilation=2), nn.SiLU(),
        nn.Conv2d(4, 3, 2, stride=2, padding=1, bias=False), nn.AvgPool2d(2, padding=1), nn.Flatten(),
        nn.Linear(12, C),
    ),
    "images first": lambda: nn.Sequential(
        nn.Unflatten(1, (1, 1, D)), nn.MaxPool2d((1, 2), 1), nn.Conv2d(1, 3, (1, 2), stride=(1, 2)),
        nn.Tanh(), nn.AdaptiveMaxPool2d(1), nn.AdaptiveAvgPool2d((2, 1)), nn.Flatten(), nn.Linear(6, C),
    ),
    "channels apart": lambda: nn.Sequential(
        nn.Linear(D, 12), nn.Unflatten(1, (2, 6)), nn.Conv1d(2, 4, 3, padding=1, groups=2), nn.BatchNorm1d(4),
        nn.Conv1d(4, C, 6, padding="valid"), nn.Flatten(),
    ),
    "channels apart, first": lambda: nn.Sequential(
        nn.Unflatten(1, (D, 1)), nn.Conv1d(D, D, 1, groups=D), nn.Flatten(), nn.ReLU(), nn.Linear(D, C)
    ),
    **{
        each.__name__: lambda each=each: nn.Sequential(
            nn.Linear(D, C), each(0.1, 0.2) if each is nn.Threshold else each()
        )
        for each in ACTIVATIONS
    },
}  # fmt: skip


def population(make: Callable[[], nn.Module], *, alike: bool) -> tuple[nn.Module, dict[str, Tensor]]:
    """A template and numbers of all members by name; `alike`: with the same buffers."""
    template = make().double()
    views: dict[str, Tensor] = {}
    for name, p in template.named_parameters(remove_duplicate=False):
        same = next(
            (views[other] for other, q in template.named_parameters() if q is p and other in views), None
        )
        views[name] = numbers(M, *p.shape).requires_grad_() if same is None else same
    for name, buffer in template.named_buffers():
        whole = torch.stack([buffer] * M)
        own = not alike and buffer.is_floating_point()
        views[name] = whole + 0.3 * numbers(*whole.shape).abs() if own else whole
    return template, views


def by_vmap(template: nn.Module, views: dict[str, Tensor], x: Tensor, *, shared: bool, whole: bool) -> Tensor:
    class Call(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.inside = copy.deepcopy(template)  # torch leaves tied parameters without a gradient

        def forward(self, x: Tensor) -> Any:
            model: Any = self.inside
            return model.training_output(x) if isinstance(model, Adapted) and not whole else model(x)

    call = Call()
    unique = dict([*template.named_parameters(), *template.named_buffers()])

    def one(own: dict[str, Tensor], x: Tensor) -> Any:
        return torch.func.functional_call(call, {f"inside.{k}": v for k, v in own.items()}, (x,))

    own = {name: views[name] for name in unique}
    return torch.func.vmap(one, in_dims=(0, None if shared else 0))(own, x)


def slopes(output: Tensor, views: dict[str, Tensor]) -> list[Tensor]:
    leaves = list({id(v): v for v in views.values() if v.requires_grad}.values())
    weights = torch.linspace(-1, 2, output.numel(), dtype=torch.float64).view_as(output)
    return list(torch.autograd.grad((output * weights).sum(), leaves))


@pytest.mark.parametrize("training", [True, False])
@pytest.mark.parametrize(("shared", "alike"), [(True, True), (True, False), (False, False)])
@pytest.mark.parametrize("name", MODELS)
def test_outputs_gradients_and_buffers_are_those_of_vmap(
    name: str, shared: bool, alike: bool, training: bool
) -> None:
    template, views = population(MODELS[name], alike=alike)
    template.train(training)
    assert LayerChain.runs(template)
    x = numbers(B, D) if shared else numbers(M, B, D)
    buffers = {k: v.clone() for k, v in views.items() if not v.requires_grad}
    ours = LayerChain(template).forward(views, x, shared=shared, whole=not training)
    other = views | buffers
    theirs = by_vmap(template, other, x, shared=shared, whole=not training)
    close = {"rtol": 1e-12, "atol": 1e-12}
    torch.testing.assert_close(ours, theirs, **close)
    torch.testing.assert_close(slopes(ours, views), slopes(theirs, other), **close)
    for key, buffer in buffers.items():
        torch.testing.assert_close(views[key], buffer, **close)


def test_targets_go_the_way_they_go_in_training() -> None:
    template, views = population(MODELS["restored"], alike=False)
    chain: Any = LayerChain(template)
    y, model = numbers(B, C), copy.deepcopy(template)
    found, shared = chain.target(views, y, shared=True)
    assert not shared
    for i in range(M):
        model.load_state_dict({k: v[i].detach() for k, v in views.items()}, strict=False)
        for name, buffer in model.named_buffers():
            buffer.copy_(views[name][i])
        torch.testing.assert_close(found[i], model.training_target(y), rtol=1e-12, atol=1e-12)
    plain, _ = population(MODELS["mlp"], alike=True)
    assert LayerChain(plain).target(views, y, shared=True) == (y, True)


def test_dropout_is_drawn_by_who_draws_and_only_in_training() -> None:
    template, views = population(lambda: mlp(D, C, width=7, dropout=0.5), alike=True)
    asked: list[tuple[int, torch.Size]] = []

    def draw(index: int, x: Tensor) -> Tensor:
        asked.append((index, x.shape))
        return torch.zeros_like(x)

    chain, x = LayerChain(template, draw), numbers(B, D)
    output = chain.forward(views, x, shared=True)
    torch.testing.assert_close(output, views["7.bias"].unsqueeze(1).expand_as(output))
    assert asked == [(0, (M, B, 7)), (1, (M, B, 7))]
    template.eval()
    torch.testing.assert_close(
        chain.forward(views, x, shared=True), by_vmap(template, views, x, shared=True, whole=True)
    )
    assert len(asked) == 2


class Twice(nn.Linear):
    """A layer of one's own."""

    def forward(self, input: Tensor) -> Tensor:  # noqa: A002
        """Twice."""
        return 2 * super().forward(input)


def hooked() -> nn.Module:
    layer = nn.Linear(D, C)
    layer.register_forward_hook(lambda module, args, output: 2 * output)
    return nn.Sequential(layer)


def patched() -> nn.Module:
    model: Any = nn.Sequential(nn.Linear(D, C))
    model[0].forward = lambda x: x
    return model


@pytest.mark.parametrize(
    "make",
    [
        lambda: nn.Sequential(Twice(D, C)), hooked, patched,
        lambda: nn.Sequential(nn.utils.parametrizations.weight_norm(nn.Linear(D, C))),
        lambda: nn.Sequential(nn.Linear(D, C), nn.BatchNorm1d(C, momentum=None)),
        lambda: nn.Sequential(
            nn.Unflatten(1, (1, D)), nn.Conv1d(1, 1, 3, padding=1, padding_mode="circular")
        ),
        lambda: nn.Sequential(nn.Unflatten(1, (1, D)), nn.Conv1d(1, 1, 2, padding="same")),
        lambda: nn.ModuleList([nn.Linear(D, C)]),
    ],
)  # fmt: skip
def test_what_is_no_such_chain_is_left_to_others(make: Callable[[], nn.Module]) -> None:
    assert not LayerChain.runs(make())
