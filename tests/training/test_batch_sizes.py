"""Memory, limit and table of batch sizes: against counts by hand, allocations as they are, and statistics."""

from __future__ import annotations

import math
from typing import Any

import pytest
import torch
from torch import Tensor, nn
from torch.utils.data import DataLoader, Dataset, TensorDataset

import downslope as ds
from downslope.core.errors import InputError
from downslope.core.loss import Objective
from downslope.training import batch_limit as limits
from downslope.training.batch_limit import free_memory
from downslope.training.live_memory import LiveMemory
from downslope.training.trial_step import TrialStep
from tests.training.problems import classification, regression


def test_live_memory_counts_what_stands_at_once() -> None:
    with LiveMemory() as live:
        a = torch.zeros(1000)
        b = a + 1  # two stand
        view = b[:10]
        del a
        c = torch.zeros(500)  # 4000 + 2000
        c.add_(1)
    assert live.peak == 8000
    assert live.live == 6000
    assert len(view) == 10


def test_live_memory_counts_the_activations_that_the_backward_pass_needs() -> None:
    """A chain of k products keeps k activations of n floats, and at the end gradients beside them."""
    x = torch.randn(1000, requires_grad=True)
    peaks = []
    for length in (4, 8):
        with LiveMemory([x]) as live:
            y = x
            for _ in range(length):
                y = torch.sigmoid(y)
            y.sum().backward()
        peaks.append(live.peak)
        x.grad = None
    assert peaks[1] - peaks[0] == 4 * 4000


def test_memory_of_a_step_grows_in_proportion_to_the_batch() -> None:
    trial = TrialStep(regression(train=_wide(512)), ds.Recipe(optimizer="adam"))
    used = {size: trial.memory(trial.batch(size)) for size in (32, 64, 128, 256)}
    slopes = [(used[2 * k] - used[k]) / k for k in (32, 64, 128)]
    assert max(slopes) / min(slopes) < 1.01
    assert used[256] > used[32]


def _wide(n: int) -> tuple[Tensor, Tensor]:
    generator = torch.Generator().manual_seed(0)
    return torch.randn(n, 4, generator=generator), torch.randn(n, 1, generator=generator)


@pytest.mark.parametrize("optimizer", ["sgd", "adam"])
def test_the_limit_holds_in_a_real_run(optimizer: str) -> None:
    """The peak of a whole `fit`, evaluations and kept weights included, stays below what was foretold."""
    problem = regression(model=_deep, train=_wide(4000), valid=_wide(2000))
    recipe = ds.Recipe(optimizer=optimizer, lr=1e-3, epochs=2)
    data = sum(t.numel() * 4 for t in problem.train.batch + problem.valid.batch)
    for memory in (2_000_000, 3_500_000):
        found = ds.batch_limit(problem, recipe, memory=memory)
        assert 16 < found.size < 4000
        assert not found.all_fit
        assert found.proved == found.size
        assert found.need <= 0.85 * memory
        with LiveMemory() as live:
            ds.fit(problem, recipe.edit(batch_size=found.size, lr=1e-3), folder=False, progress=False)
        assert live.peak - data <= found.need * 1.05
        assert live.peak >= 0.4 * found.need  # and it is no empty promise


def _deep(dropout: float = 0.0) -> nn.Module:
    del dropout
    return nn.Sequential(nn.Linear(4, 64), nn.Tanh(), nn.Linear(64, 64), nn.Tanh(), nn.Linear(64, 1))


def test_the_state_of_the_optimizer_takes_room() -> None:
    problem = regression(
        model=lambda: nn.Sequential(nn.Linear(4, 4000), nn.Linear(4000, 1)), train=_wide(40000)
    )
    plain, adam = (
        ds.batch_limit(problem, ds.Recipe(optimizer=each, lr=1e-3), memory=60_000_000)
        for each in ("gd", "adam")
    )
    assert adam.fixed - plain.fixed >= 2 * 4 * 24_000  # two moments in float32
    assert adam.size < plain.size


def test_accumulation_leaves_room_for_larger_batches() -> None:
    problem, recipe = regression(model=_deep, train=_wide(50_000)), ds.Recipe(optimizer="adam")
    whole = ds.batch_limit(problem, recipe, memory=12_000_000)
    parts = ds.batch_limit(problem, recipe.edit(accumulate=4), memory=12_000_000)
    assert parts.size > 2 * whole.size


def test_where_all_data_fits_the_limit_is_the_data() -> None:
    found = ds.batch_limit(regression())
    assert found.size == 50
    assert found.all_fit
    assert "all of the data" in str(found)


def test_an_allocation_that_fails_halves_the_batch(monkeypatch: pytest.MonkeyPatch) -> None:
    """As a GPU does whose memory another process took in the meantime."""
    own = TrialStep.memory

    def short(self: TrialStep, batch: Any) -> int:
        if len(batch[0]) > 300:
            raise torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 20.00 MiB.")
        return own(self, batch)

    monkeypatch.setattr(TrialStep, "memory", short)
    found = ds.batch_limit(regression(model=_deep, train=_wide(4000)), memory=100_000_000)
    assert found.size == found.proved == 250


def test_another_error_is_no_lack_of_memory(monkeypatch: pytest.MonkeyPatch) -> None:
    def broken(self: TrialStep, batch: Any) -> int:
        raise RuntimeError("shape mismatch")

    monkeypatch.setattr(TrialStep, "memory", broken)
    with pytest.raises(RuntimeError, match="shape mismatch"):
        ds.batch_limit(regression())


def test_a_need_that_bends_upwards_is_drawn_anew(monkeypatch: pytest.MonkeyPatch) -> None:
    """Attention over the batch would need its square: the line is only believed as far as it is proved."""
    monkeypatch.setattr(
        TrialStep, "memory", lambda self, batch: 1000 * len(batch[0]) + 2 * len(batch[0]) ** 2
    )
    found = ds.batch_limit(regression(train=_wide(4000)), memory=2_000_000)
    assert 1000 * found.size + 2 * found.size**2 <= 1_700_000


def test_a_long_proof_is_cut_and_said(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(limits, "PROOF_SECONDS", 0.0)
    found = ds.batch_limit(regression(train=_wide(4000)))
    assert found.proved == 1
    assert "proved up to 1" in str(found)


@pytest.mark.parametrize("margin", [-0.1, 1.0, math.nan])
def test_a_margin_outside_its_domain_is_refused(margin: float) -> None:
    with pytest.raises(InputError, match="must lie in"):
        ds.batch_limit(regression(), margin=margin)


def test_a_model_for_which_there_is_no_room_is_refused_in_one_line() -> None:
    with pytest.raises(InputError, match=r"one example needs .* take a smaller model"):
        ds.batch_limit(regression(), memory=1000)


@pytest.mark.parametrize("verb", ["batch_limit", "batch_table"])
def test_a_dataloader_keeps_its_own_batches(verb: str) -> None:
    loader = DataLoader(TensorDataset(*_wide(20)), batch_size=4)
    with pytest.raises(InputError, match="whose own batch size wins"):
        getattr(ds, verb)(regression(train=loader))


class Drawn(Dataset[Any]):
    """Another example at every look, so that it stays a Dataset."""

    def __len__(self) -> int:
        return 200

    def __getitem__(self, index: int) -> Any:
        return torch.randn(4), torch.randn(1)


def test_a_dataset_that_augments_is_read_in_batches() -> None:
    problem = regression(train=Drawn())
    assert ds.batch_limit(problem).size == 200
    assert [row.size for row in ds.batch_table(problem, sizes=[4, 8], rounds=1).rows] == [4, 8]


def test_free_memory_is_what_the_system_says() -> None:
    free = free_memory(torch.device("cpu"))
    assert 2**20 < free < 2**50


def test_the_error_of_the_gradient_is_that_of_all_batches_of_its_size() -> None:
    """Against the exact covariance of the gradients of single examples, drawn without replacement."""
    problem = classification(train=classification().train)
    recipe = ds.Recipe(optimizer="sgd", lr=0.1)
    found = ds.batch_table(problem, recipe, sizes=[1, 5, 25, 50], rounds=1)
    model, objective, batch = problem.build(0), Objective(problem), problem.train.batch
    parameters = list(model.parameters())
    rows = torch.stack(
        [
            torch.cat([g.reshape(-1) for g in torch.autograd.grad(
                objective(model, tuple(leaf[i : i + 1] for leaf in batch)).value, parameters)])
            for i in range(50)
        ]
    ).double()  # fmt: skip
    trace = float(rows.var(0).sum())
    for row in found.rows:
        exact = math.sqrt(trace / row.size * (50 - row.size) / 49)
        assert row.stderr == pytest.approx(exact, rel=0.35, abs=1e-12)
    assert found.rows[-1].stderr == 0.0


def test_the_table_knows_powers_of_two_and_the_size_from_which_nothing_is_gained() -> None:
    found = ds.batch_table(regression(train=_wide(128)), rounds=1)
    assert [row.size for row in found.rows if row.power_of_two] == [1, 2, 4, 8, 16, 32, 64, 128]
    assert {10, 24, 48, 100} <= {row.size for row in found.rows}
    least = min(row.each for row in found.rows)
    assert found.cheapest.each <= 1.1 * least
    assert str(found).splitlines()[0].split()[:4] == ["batch", "ms", "a", "step"]
    assert found.to_dict()["rows"][0]["size"] == 1


def test_the_table_leaves_no_trace_in_torch_or_in_the_problem() -> None:
    problem = regression()
    before = torch.get_rng_state()
    ds.batch_table(problem, sizes=[2, 4], rounds=1)
    assert torch.equal(before, torch.get_rng_state())


@pytest.mark.parametrize("sizes", [[0], [2.5], [51], [True], []])
def test_sizes_that_the_data_has_not_are_refused(sizes: list[Any]) -> None:
    with pytest.raises(InputError, match="sizes"):
        ds.batch_table(regression(), sizes=sizes)


@pytest.mark.parametrize("rows", [1, 2])
def test_so_few_rows_that_noise_hides_the_gradient_are_told_instead_of_nan_and_inf(rows: int) -> None:
    x = torch.tensor([[1.0], [3.0]])[:rows]
    problem = ds.Problem(model="linear", objective="squared_error", train=(x, 10 * (x - 2)))
    found = ds.batch_table(problem, ds.Recipe(optimizer="adam"))
    assert "nan" not in str(found)
    assert "inf" not in str(found)
    count = "1 row is" if rows == 1 else "2 rows are"
    assert str(found).endswith(f"{count} too few to tell the gradient from its noise: more are needed")
