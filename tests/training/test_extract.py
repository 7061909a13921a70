"""Features computed once: what torch gives, the training of a frozen body, one model at the end."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor, nn
from torch.utils.data import DataLoader, TensorDataset

import downslope as ds
from downslope.core.errors import DataError, InputError, ModelError
from downslope.models.joined import Body, Joined
from downslope.training import feature_store
from downslope.training.extract import Features

X = torch.randn(60, 1, 8, 8, generator=torch.Generator().manual_seed(0))
Y = (X.mean((1, 2, 3)) > 0).long() + (X[:, 0, 0, 0] > 0).long()
HOW: dict[str, Any] = {"optimizer": "adam", "lr": 0.02, "batch_size": 16, "epochs": 4, "seed": 3}


@pytest.fixture(autouse=True)
def cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("DOWNSLOPE_CACHE", str(tmp_path / "cache"))
    return tmp_path / "cache" / "features"


def net(outputs: int = 5) -> nn.Module:
    """Norm and dropout in the body, so that its mode counts."""
    return nn.Sequential(
        nn.Conv2d(1, 4, 3), nn.BatchNorm2d(4), nn.ReLU(), nn.Flatten(),
        nn.Linear(144, 12), nn.ReLU(), nn.Dropout(0.5), nn.Linear(12, outputs),
    )  # fmt: skip


def trained() -> nn.Module:
    torch.manual_seed(5)
    model = net()
    for _ in range(3):
        model(X)  # statistics of the norm
    return model


def problem(**changes: Any) -> ds.Problem:
    fields: dict[str, Any] = {
        "model": lambda: net(3), "objective": "cross_entropy", "metric": "accuracy",
        "train": (X[:40], Y[:40]), "valid": (X[40:], Y[40:]),
    } | changes  # fmt: skip
    return ds.Problem(**fields)


def extract(*args: Any, **more: Any) -> Features:
    return ds.extract(*args, progress=False, **more)


def fit(of: ds.Problem, **changes: Any) -> ds.Run:
    return ds.fit(of, ds.Recipe(**HOW | changes), folder=False, progress=False, observe=0)


def close(a: Tensor, b: Tensor) -> bool:
    return torch.allclose(a, b, rtol=1e-5, atol=1e-6)


def test_features_are_what_torch_gives_before_the_last_layer_in_eval_mode() -> None:
    model = trained()
    found = extract(problem(), model)
    with torch.no_grad():
        there = model.eval()[:7](X)
    assert close(found.train.batch[0], there[:40])
    assert close(found.valid.batch[0], there[40:])
    assert torch.equal(found.train.batch[1], Y[:40])
    assert not found.train.batch[0].requires_grad


@pytest.mark.parametrize(("layer", "upto"), [("2", 3), ("4", 5), ("0", 1)])
@pytest.mark.parametrize("batch_size", [7, 1000])
def test_features_of_a_layer_are_its_output_whatever_the_batches(
    layer: str, upto: int, batch_size: int
) -> None:
    model = trained()
    found = extract(problem(), model, layer, batch_size=batch_size)
    with torch.no_grad():
        there = model.eval()[:upto](X[:40])
    assert close(found.train.batch[0], there)
    pooled = extract(problem(), model, layer, pool=True).train.batch[0]
    assert close(pooled, there.flatten(2).mean(2) if there.dim() > 2 else there)


def test_a_head_on_features_is_trained_as_a_frozen_body_in_place() -> None:
    model = trained()
    features = extract(problem(), model)
    start = features.join(features.build(HOW["seed"]))
    frozen = problem(weights=start)
    groups = [{"params": ["0.*", "1.*", "4.*"], "train": False}]
    # the dropout between body and head belongs to no frozen module: in this twin there is none
    plain = lambda: nn.Sequential(*(nn.Identity() if isinstance(m, nn.Dropout) else m for m in net(3)))  # noqa: E731
    whole = fit(frozen.edit(model=plain), groups=groups)
    head = fit(features)
    for name in ("train_loss", "valid_loss", "valid_metric"):
        a, b = whole.history.series(name).values, head.history.series(name).values
        np.testing.assert_allclose(a, b, rtol=1e-4, atol=1e-6)
    assert close(features.join(head)(X), whole.model()(X))


def test_the_joined_model_takes_raw_inputs_and_keeps_the_names_of_the_body() -> None:
    model = trained()
    features = extract(problem(), model)
    run = fit(features)
    whole = features.join(run)
    with torch.no_grad():
        there = run.model()(model.eval()[:7](X))
    assert close(whole(X), there)
    assert list(whole.state_dict()) == list(net(3).state_dict())
    assert float((whole(X[40:]).argmax(1) == Y[40:]).float().mean()) == pytest.approx(
        run.summary["valid_metric"]
    )
    assert close(model(X), trained().eval()(X))  # the body that was given stays as it was


def test_a_head_on_a_layer_within_is_joined_and_can_be_trained_on() -> None:
    features = extract(problem(), trained(), "2", head="mlp")
    whole = features.join(fit(features))
    assert isinstance(whole, Joined)
    whole.train()(X).sum().backward()
    assert all(p.grad is not None for p in whole.head.parameters())
    assert whole.body.model[0].weight.grad is not None
    assert whole.body.model[4].weight.grad is None  # behind the layer: never computed


def test_what_adapts_the_model_stays_with_the_body_and_targets_keep_their_units() -> None:
    table = ds.data.diabetes()
    edits = (ds.edits.StandardiseInputs(), ds.edits.StandardiseTargets())
    source = ds.Problem(
        model="mlp", objective="squared_error", train=table.train, valid=table.valid, metric="mae"
    )
    run = fit(source.edit(*edits))
    features = extract(source.edit(*edits), run)
    assert [each.kind for each in features.edits] == ["standardise-targets"]
    head = fit(features, epochs=30)
    x, y = table.valid
    with torch.no_grad():
        mae = float((features.join(head)(x)[:, 0] - y).abs().mean())
    assert mae == pytest.approx(head.summary["valid_metric"], rel=1e-4)
    assert mae < float((y - y.mean()).abs().mean())


def test_a_body_with_a_forward_of_its_own_and_several_inputs() -> None:
    class Two(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.left, self.right = nn.Linear(3, 4), nn.Linear(2, 4)
            self.head = nn.Linear(4, 2)

        def forward(self, a: Tensor, b: Tensor) -> Tensor:
            return self.head(torch.tanh(self.left(a) + self.right(b))) * 1.0

    a, b, y = torch.randn(20, 3), torch.randn(20, 2), torch.randint(0, 2, (20,))
    model = Two()
    of = ds.Problem(model=Two, objective="cross_entropy", train=(a, b, y))
    features = extract(of, model)
    assert close(features.train.batch[0], torch.tanh(model.left(a) + model.right(b)).detach())
    whole = features.join(features.build())
    assert isinstance(whole, Joined)  # the model goes on behind its last layer
    assert whole(a, b).shape == (20, 2)


def test_a_loader_gives_the_same_features_as_memory_with_its_own_targets() -> None:
    model = trained()
    loader = DataLoader(TensorDataset(X[:40], Y[:40]), batch_size=8, shuffle=True)
    found = extract(problem(train=loader), model)
    straight = extract(problem(), model)
    x, y = found.train.batch
    order = [int((straight.train.batch[0] - row).abs().sum(1).argmin()) for row in x]
    assert sorted(order) == list(range(40))
    assert torch.equal(y, Y[:40][order])


def test_features_in_a_file_are_the_same_and_are_found_again(cache: Path, monkeypatch: Any) -> None:
    model = trained()
    first = extract(problem(), model, cache=True)
    files = sorted(each.name for each in cache.iterdir())
    assert len(files) == 2
    assert torch.equal(first.train.batch[0], extract(problem(), model, cache=False).train.batch[0])
    calls: list[int] = []
    monkeypatch.setattr(Body, "forward", lambda *_a, **_k: calls.append(1))
    again = extract(problem(), model, cache=True)
    assert not calls  # nothing was computed
    assert torch.equal(first.train.batch[0], again.train.batch[0])
    assert torch.equal(first.train.batch[1], again.train.batch[1])


def test_other_weights_data_or_layer_make_another_file(cache: Path) -> None:
    model = trained()
    extract(problem(), model, cache=True)
    with torch.no_grad():
        model[0].weight[0, 0, 0, 0] += 1e-3
    for of, layer in ((problem(), None), (problem(train=(X[:40] + 1e-3, Y[:40])), None), (problem(), "4")):
        before = {each.name for each in cache.iterdir()}
        extract(of, model, layer, cache=True)
        assert {each.name for each in cache.iterdir()} - before


def test_features_that_are_large_go_to_a_file_by_themselves(cache: Path, monkeypatch: Any) -> None:
    monkeypatch.setattr(feature_store, "MEMORY_LIMIT", 40 * 12 * 4 - 1)
    extract(problem(), trained())
    assert len(list(cache.iterdir())) == 1  # the validation part is smaller
    monkeypatch.setattr(feature_store, "MEMORY_LIMIT", 40 * 12 * 4)
    extract(problem(train=(X[:40] * 2, Y[:40])), trained())
    assert len(list(cache.iterdir())) == 1


def test_a_file_that_is_broken_or_not_whole_is_made_anew(cache: Path, monkeypatch: Any) -> None:
    model = trained()
    first = extract(problem(), model, cache=True)
    values = first.train.batch[0].clone()
    for path in cache.iterdir():
        path.write_bytes(path.read_bytes()[:150])
    assert torch.equal(extract(problem(), model, cache=True).train.batch[0], values)
    for path in cache.iterdir():
        path.unlink()
    monkeypatch.setattr(feature_store.Store, "close", lambda _: (_ for _ in ()).throw(KeyboardInterrupt))
    with pytest.raises(KeyboardInterrupt):
        extract(problem(), model, cache=True)
    assert list(cache.iterdir()) == []


def test_what_was_computed_is_said_once(capsys: pytest.CaptureFixture[str]) -> None:
    ds.extract(problem(), trained())
    assert (
        capsys.readouterr().err
        == "extract: 12 features of 40 and 20 examples, 0.00288 MB, before layer '7'\n"
    )


def test_the_problems_own_weights_are_the_body_where_no_model_is_given() -> None:
    model = trained()
    found = extract(problem(weights=model))
    assert close(found.train.batch[0], extract(problem(), model).train.batch[0])


def test_a_head_of_all_classes_though_training_lacks_some() -> None:
    few = Y[:40].clamp(max=1)
    assert extract(problem(train=(X[:40], few)), trained()).arguments == {"outputs": 3}


@pytest.mark.parametrize(
    ("call", "kind", "said"),
    [
        (lambda: extract(problem(), trained(), "9"), ModelError, "the model has no layer '9'"),
        (lambda: extract(problem(), 3), ModelError, "must be a module, a Run, or None"),
        (lambda: extract(problem(), nn.Linear(64, 3)), ModelError, "no single last layer"),
        (lambda: extract(problem(), net().append(nn.Conv2d(1, 1, 9)), "4"), None, ""),
        (
            lambda: extract(problem(), nn.Sequential(nn.Linear(7, 3), nn.Linear(3, 2)), "0"),
            ModelError,
            "train: ",
        ),
        (lambda: extract(problem(objective=None, metric=None), trained()), InputError, "name one"),
    ],
)
def test_what_cannot_be_extracted_is_refused_in_one_line(call: Any, kind: Any, said: str) -> None:
    if kind is None:  # a model that breaks behind the layer is none of its business
        assert call().train.batch[0].shape == (40, 12)
        return
    with pytest.raises(kind, match=said) as error:
        call()
    assert "\n" not in str(error.value)


def test_data_without_an_end_is_refused() -> None:
    class Endless(torch.utils.data.IterableDataset[Any]):
        def __iter__(self) -> Any:
            while True:
                yield X[0], Y[0]

    with pytest.raises(DataError, match="data without an end"):
        extract(problem(train=DataLoader(Endless(), batch_size=4), valid=None), trained())
