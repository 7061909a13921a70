"""What training makes of a problem's augmentation: which batches, by which draws, and whose targets."""

from __future__ import annotations

import random
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor, nn

import downslope as ds
from downslope.cli.main import main
from downslope.core import randomness
from downslope.core.errors import InputError, RunFolderError
from downslope.core.run import load_run
from downslope.training.evaluate import evaluate
from tests.training.problems import same_state


def pictures(n: int = 40, seed: int = 0) -> tuple[Tensor, Tensor]:
    generator = torch.Generator().manual_seed(seed)
    return torch.rand(n, 1, 6, 6, generator=generator), torch.arange(n) % 3


def small(outputs: int = 3) -> nn.Module:
    return nn.Sequential(nn.Conv2d(1, 4, 3), nn.Tanh(), nn.Flatten(), nn.Linear(64, outputs))


def problem(**changes: Any) -> ds.Problem:
    given: dict[str, Any] = {
        "model": small, "objective": "cross_entropy", "train": pictures(), "valid": pictures(12, seed=1),
        "metric": "accuracy", "augment": "shift(1), rotate(10)",
    } | changes  # fmt: skip
    return ds.Problem(**given)


HOW = ds.Recipe(optimizer="sgd", lr=0.1, batch_size=16, epochs=3, seed=3)


def fit(given: ds.Problem, recipe: ds.Recipe = HOW, **options: Any) -> ds.Run:
    return ds.fit(given, recipe, progress=False, **({"folder": False} | options))


def test_each_training_batch_is_changed_by_the_draws_of_its_address() -> None:
    """The losses of a plain loop that augments at (seed, epoch, batch)."""
    run = fit(problem())
    x, y = pictures()
    augment = ds.augment.read("shift(1), rotate(10)")
    model = problem().build(3)
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
    losses: list[float] = []
    for epoch in range(3):
        for index, place in enumerate(randomness.permutation(40, 3, epoch).split(16)):
            with randomness.seeded(3, "augment", epoch, index, 1):
                batch = augment((x[place], y[place]))
            optimizer.zero_grad()
            loss = nn.functional.cross_entropy(model(batch[0]), batch[1])
            loss.backward()
            optimizer.step()
            losses.append(loss.item())
    np.testing.assert_allclose(run.history.series("train_loss").values, losses, rtol=1e-5)
    assert not np.allclose(fit(problem(augment=None)).history.series("train_loss").values, losses, rtol=1e-3)


def test_what_is_reported_is_measured_on_data_as_they_are() -> None:
    run = fit(problem(augment="noise(5.0)"), HOW.edit(epochs=10))
    for part, name in ((pictures(), "train"), (pictures(12, seed=1), "valid")):
        plain = problem(train=part, valid=None, augment=None)
        found = evaluate(plain, run.model())
        assert run.summary[f"{name}_loss"] == pytest.approx(found.loss, rel=1e-6)
        assert run.summary[f"{name}_metric"] == pytest.approx(found.metric, rel=1e-6)


def test_a_second_run_sees_the_same_images() -> None:
    alone, again = fit(problem()), fit(problem())
    assert same_state(again.model().state_dict(), alone.model().state_dict())
    assert not same_state(fit(problem(), HOW.edit(seed=4)).state("last"), alone.state("last"))


@pytest.mark.parametrize("way", ["together", "one by one"])
def test_a_member_of_a_population_sees_the_same_images(way: Any) -> None:
    how = HOW.edit(precision="float64")
    alone = fit(problem(), how).state("last")
    other, same = ds.fit_population(problem(), [how.edit(lr=0.2), how], progress=False, way=way)
    torch.testing.assert_close(same.state("last"), alone, rtol=1e-9, atol=1e-12)
    with pytest.raises(AssertionError):
        torch.testing.assert_close(other.state("last"), alone, rtol=1e-2, atol=1e-3)


def test_the_draws_of_anybodys_code_stand_at_the_address_too() -> None:
    seen: list[tuple[float, float, float]] = []

    def own(batch: Any) -> Any:
        seen.append((random.random(), np.random.rand(), float(torch.rand(()))))  # noqa: NPY002
        return batch

    fit(problem(augment=own))
    first = list(seen)
    seen.clear()
    random.seed(0)
    fit(problem(augment=own))
    assert seen == first
    assert len(set(first)) == len(first) - 1  # the first batch is tried before the first step


def test_code_that_works_in_place_does_not_reach_the_data() -> None:
    x, y = pictures()
    before = x.clone()

    def own(batch: Any) -> Any:
        batch[0].mul_(0.0)
        return batch

    given = problem(train=(x, y), augment=own)
    fit(given, HOW.edit(batch_size="full"))
    assert torch.equal(x, before)
    assert torch.equal(given.train_source.batch[0], before)  # type: ignore[attr-defined]


@pytest.mark.parametrize("objective", ["cross_entropy", nn.CrossEntropyLoss(), nn.functional.cross_entropy])
def test_mixed_class_indices_reach_the_objective_as_rows_of_probabilities(objective: Any) -> None:
    seen: list[Tensor] = []
    given = problem(objective=objective, augment="mixup(1.0)")
    fit(given, on_probe=lambda state: seen.append(state.batch[1]) if state.step else None, observe=0.5)
    assert seen
    for rows in seen:
        assert rows.shape[1] == 3
        np.testing.assert_allclose(rows.sum(1), 1.0, atol=1e-6)


@pytest.mark.parametrize(
    ("objective", "target", "outputs"),
    [
        ("squared_error", torch.randn(40, 1), 1),
        (nn.L1Loss(), torch.randn(40, 1), 1),
        ("logistic", torch.arange(40) % 2, 1),
        (nn.BCEWithLogitsLoss(), (torch.arange(40) % 2).float()[:, None], 1),
    ],
)
def test_numbers_and_yes_or_no_are_interpolated(objective: Any, target: Tensor, outputs: int) -> None:
    seen: list[Tensor] = []
    given = problem(
        objective=objective, metric=None, model=lambda: small(outputs), train=(pictures()[0], target),
        valid=None, augment="cutmix(1.0)",
    )  # fmt: skip
    fit(given, on_probe=lambda state: seen.append(state.batch[1]) if state.step else None, observe=0.5)
    assert all(each.is_floating_point() and each.shape == target[: len(each)].shape for each in seen)
    low, high = float(target.min()), float(target.max())
    values = torch.cat([each.flatten() for each in seen])
    assert low <= float(values.min())
    assert float(values.max()) <= high
    assert len(values.unique()) > 10


FLAT = (torch.rand(9, 4), torch.arange(9) % 3)


def own_loss(output: Tensor, target: Tensor) -> Tensor:
    return nn.functional.cross_entropy(output, target)


@pytest.mark.parametrize(
    ("changes", "told"),
    [
        ({"augment": "mixup", "objective": "hinge"}, "the objective hinge takes no mixture of two targets"),
        ({"augment": "mixup", "objective": nn.MultiMarginLoss()}, "MultiMarginLoss takes no mixture"),
        ({"augment": "cutmix", "objective": own_loss}, "own_loss is not known to the mixing: say labels="),
        ({"augment": "flip", "train": FLAT, "model": lambda: nn.Linear(4, 3)},
         r"augment flip: takes images \(n, c, h, w\), and the inputs are \(9, 4\)"),
        ({"augment": "crop(size=4)"}, r"makes a batch of shapes \[\(16, 1, 4, 4\), \(16,\)\], which model"),
        ({"augment": lambda batch: None}, "gave None: it must return the changed batch"),
        ({"augment": lambda batch: batch / 0}, "failed on a batch of shapes .*TypeError"),
    ],
)  # fmt: skip
def test_what_cannot_be_augmented_is_told_before_the_first_step(
    changes: dict[str, Any], told: str, tmp_path: Path
) -> None:
    with pytest.raises(InputError, match=told) as raised:
        fit(problem(valid=None, metric=None, **changes), folder=tmp_path / "run")
    assert "\n" not in str(raised.value)
    assert not (tmp_path / "run").exists()


def test_an_objective_of_ones_own_takes_mixtures_if_it_is_said_how() -> None:
    assert fit(problem(objective=own_loss, augment="mixup(1.0, labels=soft)")).status == "done"


def test_a_folder_says_the_augmentation_and_another_one_is_no_resumption(tmp_path: Path) -> None:
    fit(problem(), folder=tmp_path / "run")
    kept = load_run(tmp_path / "run")
    assert kept.described["augment"] == "chain(shift(by=1), rotate(degrees=10))"
    assert ds.augment.read(kept.described["augment"]) == problem().augment
    with pytest.raises(RunFolderError, match=r"augment chain.* there and None here"):
        ds.fit(problem(augment=None), HOW, folder=tmp_path / "run", resume=True, progress=False)


def test_the_command_line_augments_and_the_run_finds_its_augmentation_again(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    shift = "chain(shift(1), shape=(1, 8, 8))"
    folder = tmp_path / "run"
    command = ["fit", "digits", "--set", f"augment={shift}", "--set", "epochs=1", "--folder", str(folder)]
    assert main([*command, "--quiet"]) == 0
    found = load_run(folder).the_problem()
    assert found.augment == ds.augment.read(shift)
    assert main(["fit", "digits", "--set", "augment=flip", "--set", "epochs=1", "--quiet"]) == 2
    assert "flat rows are read as images by chain(flip, shape=(c, h, w))" in capsys.readouterr().err


def test_a_stopped_run_goes_on_with_the_images_it_would_have_seen(tmp_path: Path) -> None:
    recipe = HOW.edit(steps=9)
    whole = fit(problem(), recipe, folder=tmp_path / "whole", observe=0)
    fit(problem(), recipe.edit(steps=5), folder=tmp_path / "part", observe=0)
    head = tmp_path / "part" / "run.json"
    head.write_text(head.read_text().replace('"status": "done"', '"status": "interrupted"'))
    again = ds.fit(problem(), recipe, folder=tmp_path / "part", resume=True, progress=False)
    assert same_state(again.state("last"), whole.state("last"))
    losses = [run.history.series("train_loss").values.tolist() for run in (again, whole)]
    assert losses[0] == losses[1]
