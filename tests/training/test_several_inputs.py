"""Models of several inputs, from memory and from streams: a run is the torch loop that feeds them by hand."""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterator
from typing import Any

import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional
from torch.utils.data import DataLoader, Dataset, IterableDataset

import downslope as ds
from downslope.core.errors import InputError
from downslope.core.examples import cause

N = 60
DRAW = torch.Generator().manual_seed(0)
X = torch.randn(N, 5, 3, generator=DRAW)
IDS = torch.randint(0, 9, (N, 5), generator=DRAW)
MASK = torch.rand(N, 5, generator=DRAW) > 0.3
Y = ((X.sum(2) * MASK).sum(1) > 0).long()
HOW = ds.Recipe(optimizer="sgd", lr=0.5, batch_size="full", steps=6, seed=3)


class Masked(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.table, self.map, self.head = nn.Embedding(9, 4), nn.Linear(3, 4), nn.Linear(4, 2)

    def forward(self, x: Tensor, mask: Tensor) -> Tensor:
        steps = self.map(x) if x.is_floating_point() else self.table(x)
        return self.head((steps.tanh() * mask[:, :, None]).sum(1))


class Named(Masked):
    def forward(self, **inputs: Tensor) -> Tensor:
        return super().forward(inputs["ids"], inputs["mask"])


class Whole(Masked):
    def forward(self, batch: dict[str, Tensor]) -> Tensor:
        return super().forward(batch["ids"], batch["mask"])


class Examples(Dataset[Any]):
    def __init__(self, make: Callable[[int], Any], count: int = N) -> None:
        self.make, self.count = make, count

    def __len__(self) -> int:
        return self.count

    def __getitem__(self, index: int) -> Any:
        return self.make(index)


class Endless(IterableDataset[Any]):
    def __init__(self, make: Callable[[int], Any]) -> None:
        self.make = make

    def __iter__(self) -> Iterator[Any]:
        return (self.make(i) for i in range(N))


def pair(i: int) -> Any:
    return (X[i], MASK[i]), int(Y[i])


def entry(i: int) -> Any:
    return {"ids": IDS[i], "mask": MASK[i], "y": Y[i]}


FORMS: dict[str, tuple[type[Masked], Any]] = {
    "a tuple": (Masked, ((X, MASK), Y)),
    "arrays": (Masked, ([X.numpy(), MASK.numpy()], Y.numpy())),
    "side by side": (Masked, (X, MASK, Y)),
    "a dict for names": (Named, ({"ids": IDS, "mask": MASK}, Y)),
    "a dict as a whole": (Whole, ({"ids": IDS, "mask": MASK}, Y)),
    "a dict with its target": (Named, {"ids": IDS, "mask": MASK, "y": Y}),
    "a dataset of tuples": (Masked, Examples(pair)),
    "a dataset of three": (Masked, Examples(lambda i: (X[i], MASK[i], Y[i]))),
    "a dataset of dicts": (Named, Examples(entry)),
    "a dataset of a dict and a target": (Whole, Examples(lambda i: ({"ids": IDS[i], "mask": MASK[i]}, Y[i]))),
    "a loader of tuples": (Masked, DataLoader(Examples(pair), batch_size=N)),
    "a loader of dicts": (Named, DataLoader(Examples(entry), batch_size=N)),
    "a stream of tuples": (Masked, Endless(pair)),
    "a stream of dicts": (Whole, Endless(entry)),
}


def by_hand(kind: type[Masked]) -> dict[str, Tensor]:
    """Full-batch gradient descent in torch alone, from the weights that `fit` starts from."""
    own = ds.Problem(model=kind, objective="cross_entropy", train=((X, MASK), Y)).build(HOW.seed)
    first = X if kind is Masked else IDS
    for _ in range(6):
        own.zero_grad()
        functional.cross_entropy(Masked.forward(own, first, MASK), Y).backward()
        with torch.no_grad():
            for each in own.parameters():
                each -= 0 if each.grad is None else 0.5 * each.grad
    return own.state_dict()


@pytest.mark.parametrize("form", FORMS)
def test_a_run_is_the_loop_that_feeds_the_model_by_hand(form: str) -> None:
    kind, data = FORMS[form]
    recipe = HOW.edit(batch_size=N, lr=0.5) if "stream" in form else HOW
    problem = ds.Problem(model=kind, objective="cross_entropy", metric="accuracy", train=data, valid=data)
    run = ds.fit(problem, recipe, folder=False, progress=False)
    hand = by_hand(kind)
    for name, value in run.state("last").items():
        torch.testing.assert_close(value, hand[name], msg=name)
    model = run.model("last")
    with torch.no_grad():
        out = Masked.forward(model, X if kind is Masked else IDS, MASK)
    assert run.history.series("valid_loss").values[-1] == pytest.approx(
        float(functional.cross_entropy(out, Y)), rel=1e-5
    )


def test_batches_and_accumulated_parts_cut_every_input_alike() -> None:
    problem = ds.Problem(model=Masked, objective="cross_entropy", train=((X, MASK), Y))
    recipe = ds.Recipe(optimizer="sgd", lr=0.1, batch_size=16, epochs=2, seed=1)
    plain = ds.fit(problem, recipe, folder=False, progress=False)
    parts = ds.fit(problem, recipe.edit(accumulate=4), folder=False, progress=False)
    for name, value in plain.state("last").items():
        torch.testing.assert_close(parts.state("last")[name], value, rtol=1e-4, atol=1e-6)


@pytest.mark.parametrize(
    ("form", "inputs"),
    [("a tuple", (X, MASK)), ("a tuple", [X.numpy(), MASK.numpy()]),
     ("a dict for names", {"ids": IDS, "mask": MASK}), ("a dict as a whole", {"ids": IDS, "mask": MASK})],
)  # fmt: skip
def test_a_run_predicts_from_several_inputs(form: str, inputs: Any) -> None:
    kind, data = FORMS[form]
    problem = ds.Problem(model=kind, objective="cross_entropy", train=data)
    run = ds.fit(problem, HOW, folder=False, progress=False)
    with torch.no_grad():
        out = Masked.forward(run.model(), X if kind is Masked else IDS, MASK)
    found = run.predict(inputs)
    torch.testing.assert_close(found.output, out)
    assert found.values == out.argmax(1).tolist()


def test_a_diagnosis_judges_a_model_of_several_inputs() -> None:
    kind, data = FORMS["a dict for names"]
    problem = ds.Problem(model=kind, objective="cross_entropy", metric="accuracy", train=data, valid=data)
    found = ds.diagnose(problem, ds.Recipe(lr=0.03, epochs=20), progress=False, budget="20s")
    unjudged = dict(found.not_checked)
    assert not [why for why in unjudged.values() if "Error" in why], unjudged


def test_a_metric_and_an_objective_that_ask_for_the_inputs_get_them_as_the_model_does() -> None:
    seen: list[Any] = []

    def objective(output: Tensor, target: Tensor, inputs: Any) -> Tensor:
        seen.append(inputs)
        return functional.cross_entropy(output, target)

    for form, wanted in (("a tuple", tuple), ("a dict for names", dict)):
        kind, data = FORMS[form]
        ds.fit(ds.Problem(model=kind, objective=objective, train=data), HOW, folder=False, progress=False)
        assert isinstance(seen[-1], wanted)
        assert len(seen[-1]) == 2


def fails(i: int, make: Callable[[int], Any], at: int) -> Any:
    return {}["missing"] if i == at else make(i)


@pytest.mark.parametrize(
    ("data", "said"),
    [
        (lambda: Examples(lambda i: fails(i, pair, 2)), "example 2 of the dataset cannot be read: Key"),
        (lambda: Examples(lambda i: fails(i, pair, 57)), "example 57 of the dataset cannot be read: Key"),
        (lambda: Endless(lambda i: fails(i, pair, 57)), "example 57 of the dataset cannot be read: Key"),
        (lambda: DataLoader(Examples(lambda i: fails(i, pair, 57)), batch_size=8),
         "batch 7 of the DataLoader cannot be read: KeyError: 'missing'"),
        (lambda: Examples(lambda i: ((X[i, : 2 + i % 2], MASK[i]), Y[i])),
         r"example 1 is \(\(Tensor\(3, 3\).* and example 0 \(\(Tensor\(2, 3\).*pad or cut them"),
        (lambda: Endless(lambda i: (X[i, : 2 + (i == 40)], Y[i])), r"example 40 is \(Tensor\(3, 3\)"),
        (lambda: Examples(lambda i: (X[i], None)), "makes no batch: TypeError.* give tensors, arrays"),
    ],
)  # fmt: skip
def test_an_example_that_fails_is_named_by_its_place(data: Callable[[], Any], said: str) -> None:
    def go() -> None:
        problem = ds.Problem(model=Masked, objective="cross_entropy", train=data())
        ds.fit(problem, ds.Recipe(epochs=2, batch_size=64), folder=False, progress=False)

    with pytest.raises(InputError, match=said) as told:
        go()
    assert "\n" not in str(told.value)


def test_a_worker_of_a_loader_that_fails_is_one_line() -> None:

    error = KeyError(
        "Caught KeyError in DataLoader worker process 0.\nOriginal Traceback\nKeyError: 'missing'\n"
    )
    assert (
        cause(RuntimeError(error.args[0].replace("Original", "Original Traceback"))) == "KeyError: 'missing'"
    )


def test_a_named_augmentation_of_several_inputs_is_refused_with_the_way_out(caplog: Any) -> None:
    caplog.set_level(logging.ERROR)
    problem = ds.Problem(model=Masked, objective="cross_entropy", train=((X, MASK), Y), augment="noise")
    with pytest.raises(InputError, match="must be one tensor; of several give a function of your own"):
        ds.fit(problem, HOW, folder=False, progress=False)
    own = problem.edit(augment=lambda batch: ((batch[0][0] + 0.1, batch[0][1]), batch[1]))
    assert ds.fit(own, HOW, folder=False, progress=False).status == "done"
