"""``precision="auto"``: tried where it pays, taken within the noise of float32, the same when resumed."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor, nn

import downslope as ds
from downslope.training import band, choices, ways
from downslope.training.ways import Way
from tests.training.problems import regression

FAST = {"float32": 1.0, "float32, channels last": 0.8, "bfloat16": 0.5, "bfloat16, channels last": 0.3}


def images(offset: float = 0.0, n: int = 96) -> tuple[Tensor, Tensor]:
    """Two classes of 8 x 8 images, and a level that has nothing to do with them."""
    generator = torch.Generator().manual_seed(0)
    y = torch.randint(2, (n,), generator=generator)
    x = torch.randn(n, 3, 8, 8, generator=generator)
    x[:, 0, :4] += 1.5 * (y[:, None, None] - 0.5)
    return x + offset, y


def convolutional(first: float = 1.0) -> nn.Module:
    layers = [nn.Conv2d(3, 8, 3, padding=1), nn.BatchNorm2d(8), nn.ReLU(), nn.AdaptiveAvgPool2d(2)]
    model = nn.Sequential(*layers, nn.Flatten(), nn.Linear(32, 2))
    with torch.no_grad():
        model[0].weight.mul_(first)
    return model


def problem(offset: float = 0.0, model: Any = convolutional) -> ds.Problem:
    return ds.Problem(model=model, objective="cross_entropy", train=images(offset), valid=images(offset, 32))


def recipe(**changes: Any) -> ds.Recipe:
    return ds.Recipe(**{"optimizer": "adam", "lr": 0.003, "batch_size": 16, "epochs": 4, "seed": 1} | changes)


@pytest.fixture
def tried(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """Every run pays for trying, and bfloat16 with channels last is the fastest; nothing is remembered."""
    asked: list[str] = []

    def remembered(key: str, measure: Any) -> Any:
        asked.append(key.partition("/")[0])
        return measure()

    monkeypatch.setattr(ways, "WORTH", 0.0)
    monkeypatch.setattr(ways, "LONG", 1)
    monkeypatch.setattr(ways, "_timed", lambda state, total: dict(FAST))
    monkeypatch.setattr(ways.choices, "remembered", remembered)
    return asked


def fit(problem: ds.Problem, recipe: ds.Recipe, **more: Any) -> ds.Run:
    return ds.fit(problem, recipe, **{"folder": False, "progress": False} | more)


def test_a_small_run_tries_nothing_and_has_the_bits_of_float32(monkeypatch: pytest.MonkeyPatch) -> None:
    def never(*_: Any, **__: Any) -> Any:
        raise AssertionError("tried")

    monkeypatch.setattr(ways, "choose", never)
    auto, plain = (fit(problem(), recipe(precision=each)) for each in ("auto", "float32"))
    assert auto.choices["precision"] == "float32"
    for name, tensor in plain.state("last").items():
        assert torch.equal(tensor, auto.state("last")[name])


def test_the_fastest_way_within_the_noise_is_taken_and_told(
    tried: list[str], capsys: pytest.CaptureFixture[str]
) -> None:
    run = fit(problem(), recipe(), progress=True)
    assert run.choices["precision"] == "bfloat16"
    assert run.choices["channels_last"]
    assert run.choices["band"]["holds"]
    assert run.choices["band"]["deviation"] < 0.5 * run.choices["band"]["noise"]
    line = next(each for each in capsys.readouterr().err.splitlines() if each.startswith("precision"))
    assert line.startswith("precision: bfloat16, channels last, 300 ms a step in place of 1e+03, loss off by")
    assert tried.count("ways") == tried.count("band") == 1


def test_weights_and_what_is_kept_stay_float32(tried: list[str], tmp_path: Path) -> None:
    run = fit(problem(), recipe(), folder=tmp_path / "run")
    assert {each.dtype for each in run.state("last").values() if each.is_floating_point()} == {torch.float32}
    again = ds.load_run(tmp_path / "run", problem())
    assert all(p.is_contiguous() for p in again.model("last").parameters())
    plain = fit(problem(), recipe(precision="float32"))
    assert run.summary["valid_loss"] == pytest.approx(plain.summary["valid_loss"], abs=0.02)
    assert run.summary["valid_loss"] != plain.summary["valid_loss"]


def far(tried: list[str]) -> ds.Problem:
    """A level of 300 in the inputs, which bfloat16 holds to within 1: the classes are lost in rounding."""
    del tried
    return problem(300.0, lambda: convolutional(0.05))


def test_bfloat16_is_not_taken_where_its_loss_leaves_the_noise(
    tried: list[str], capsys: pytest.CaptureFixture[str]
) -> None:
    run = fit(far(tried), recipe(), progress=True)
    assert run.choices["precision"] == "float32"
    assert run.choices["channels_last"]  # float32 all the same
    assert not run.choices["band"]["holds"]
    assert "bfloat16 not taken: loss off by" in capsys.readouterr().err


def test_a_run_that_leaves_the_noise_later_goes_on_in_float32(
    tried: list[str], monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr(ways, "measure", lambda *_, **__: band.Band(0.0, 1.0))
    run = fit(far(tried), recipe())
    left = run.facts["left_bfloat16"]
    assert left["step"] == 1
    assert left["rounding"] > 0.5 * left["noise"]
    assert run.choices["precision"] == "float32"
    assert any("in float32" in each for each in caplog.messages)


def test_the_look_leaves_gradients_buffers_and_the_result_as_they_were(
    tried: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    looked = fit(problem(), recipe())
    monkeypatch.setattr(band.Watch, "due", lambda self, step: False)
    blind = fit(problem(), recipe())
    assert looked.choices["precision"] == blind.choices["precision"] == "bfloat16"
    for name, tensor in blind.state("last").items():
        assert torch.equal(tensor, looked.state("last")[name])


def test_full_batches_are_never_rounded(tried: list[str]) -> None:
    run = fit(problem(), recipe(batch_size="full"))
    assert run.choices["precision"] == "float32"
    assert "band" not in tried


@pytest.mark.parametrize("precision", ["float32", "float64", "bfloat16"])
def test_a_precision_that_is_asked_for_is_taken_as_it_is(tried: list[str], precision: str) -> None:
    run = fit(problem(), recipe(precision=precision, epochs=1))
    assert run.choices["precision"] == precision
    assert not {"ways", "band"} & set(tried)


def test_compared_runs_stay_float32(tried: list[str]) -> None:
    with ways.exact():
        assert fit(problem(), recipe(epochs=1)).choices["precision"] == "float32"
    assert not {"ways", "band"} & set(tried)
    found = ds.diagnose(problem(), recipe(), progress=False, folder=False, budget="40 steps")
    assert found.run.choices["precision"] == "float32"


def test_a_resumed_run_takes_the_same_way_and_the_same_bits(tried: list[str], tmp_path: Path) -> None:
    whole = fit(problem(), recipe(), folder=tmp_path / "whole")
    calls = 0

    def stop(state: Any) -> None:
        nonlocal calls
        calls += 1
        if calls == 4:
            raise KeyboardInterrupt

    saves = pytest.MonkeyPatch()
    saves.setattr("downslope.training.checkpoint.SaveTimes.due", lambda self: True)
    with pytest.raises(KeyboardInterrupt):
        fit(problem(), recipe(), folder=tmp_path / "cut", on_probe=stop, observe=0.9)
    saves.undo()
    tried.clear()
    again = fit(problem(), recipe(), folder=tmp_path / "cut", resume=True)
    assert not {"ways", "band"} & set(tried)
    assert again.choices["precision"] == whole.choices["precision"] == "bfloat16"
    assert again.choices["channels_last"]
    for name, tensor in whole.state("last").items():
        assert torch.equal(tensor, again.state("last")[name]), name


def test_a_choice_is_made_once_for_a_machine_and_a_model(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(ways, "WORTH", 0.0)
    monkeypatch.setattr(ways, "LONG", 1)
    timed: list[int] = []
    monkeypatch.setattr(ways, "_timed", lambda state, total: timed.append(total) or dict(FAST))
    own = problem(model=lambda: nn.Sequential(nn.Flatten(), nn.Linear(192, 7), nn.ReLU(), nn.Linear(7, 2)))
    for seed in (0, 1):
        fit(own, recipe(seed=seed))
    assert timed == [24]


def test_the_timing_is_of_real_steps_and_touches_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(ways, "WORTH", 0.0)
    monkeypatch.setattr(ways, "LONG", 1)
    monkeypatch.setattr(ways, "PAYS", 0.0)  # whatever the times, float32 as it is
    run, plain = fit(problem(), recipe(epochs=2)), fit(problem(), recipe(epochs=2, precision="float32"))
    assert "float32" in run.choices["milliseconds"]
    assert all(each > 0 for each in run.choices["milliseconds"].values())
    for name, tensor in plain.state("last").items():
        assert torch.equal(tensor, run.state("last")[name])


def test_a_model_that_cannot_be_copied_runs_as_it_stands(tried: list[str], monkeypatch: Any) -> None:
    monkeypatch.undo()
    monkeypatch.setattr(ways, "WORTH", 0.0)
    monkeypatch.setattr(ways, "LONG", 1)

    class Own(nn.Linear):
        def __deepcopy__(self, memo: Any) -> Any:
            raise RuntimeError("not me")

    run = fit(problem(model=lambda: nn.Sequential(nn.Flatten(), Own(192, 2))), recipe(epochs=1))
    assert run.choices["precision"] == "float32"


class Viewing(nn.Module):
    """Its view is of memory as it was: torch refuses it with channels last."""

    def __init__(self) -> None:
        super().__init__()
        self.conv, self.out = nn.Conv2d(3, 4, 3, padding=1), nn.Linear(256, 2)

    def forward(self, x: Tensor) -> Tensor:
        return self.out(torch.relu(self.conv(x)).view(len(x), -1))


class Narrow(Viewing):
    """Has an operation that knows no bfloat16."""

    def forward(self, x: Tensor) -> Tensor:
        h = self.conv(x)
        if h.dtype == torch.bfloat16:
            raise RuntimeError("not implemented for BFloat16")
        return self.out(torch.relu(h).flatten(1))


@pytest.mark.parametrize(
    ("model", "out"), [(Viewing, "channels last"), (Narrow, "bfloat16")], ids=["view", "operation"]
)
def test_a_way_that_a_model_cannot_go_is_left_out(
    model: Any, out: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(ways, "WORTH", 0.0)
    monkeypatch.setattr(ways, "LONG", 1)
    monkeypatch.setattr(ways, "PAYS", 100.0)  # whatever is not the slowest is taken
    monkeypatch.setattr(ways.choices, "remembered", lambda key, measure: measure())
    run = fit(problem(model=model), recipe(epochs=1))
    assert run.status == "done"
    assert "float32" in run.choices["milliseconds"]
    assert not any(out in each for each in run.choices["milliseconds"])


def test_a_twin_that_fails_leaves_float32(tried: list[str], monkeypatch: pytest.MonkeyPatch) -> None:
    def broken(*_: Any, **__: Any) -> Any:
        raise RuntimeError("no")

    monkeypatch.setattr(ways, "measure", broken)
    assert fit(problem(), recipe(epochs=1)).choices["precision"] == "float32"


def test_compiled_steps_give_what_the_model_gives_and_probes_still_see(
    tried: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    calls: list[int] = []

    def traced(model: nn.Module) -> nn.Module:
        class Traced(nn.Module):
            def forward(self, x: Tensor) -> Tensor:
                calls.append(len(x))
                return model(x)

        return Traced()

    monkeypatch.setattr("downslope.training.step.compiled", traced)
    monkeypatch.setattr(ways, "_timed", lambda *_: {"float32": 1.0, "float32, compiled": 0.1})
    monkeypatch.setattr("downslope.training.ready.probe_price", lambda *_: 1.0)  # no clock decides
    own = ds.Problem(model=convolutional, objective="cross_entropy", train=images(n=90))
    run, plain = fit(own, recipe(), observe=0.5), fit(own, recipe(precision="float32"), observe=0.5)
    assert run.choices["compiled"]
    assert set(calls) == {16}  # the last batch of an epoch has 10, and goes to the model itself
    assert len(calls) < 20  # probed steps too
    assert len(run.history.series("grad_norm").steps) > 3
    for name, tensor in plain.state("last").items():
        assert torch.equal(tensor, run.state("last")[name])


def test_a_rule_on_the_size_decides_and_no_clock() -> None:
    run = fit(regression(), ds.Recipe(optimizer="sgd", lr=0.01, epochs=2))
    assert "milliseconds" not in run.choices


def test_the_ways_have_names_that_tell_them_apart() -> None:
    assert [str(Way(b, c)) for b in (False, True) for c in (False, True)] == list(FAST)
    assert choices.signature(nn.Linear(1, 1)) != choices.signature(nn.Linear(1, 2))
