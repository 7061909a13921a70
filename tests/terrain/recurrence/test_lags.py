"""The Jacobian of a late state by an early one, against powers of matrices and autograd's own Jacobians."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor, nn

import downslope as ds
from downslope.core.errors import InputError, ModelError
from downslope.terrain.recurrence.lags import Lags, lags


def problem(model: nn.Module, x: Tensor, outputs: int = 1) -> ds.Problem:
    return ds.Problem(model=model, objective="squared_error", train=(x, torch.zeros(len(x), outputs).to(x)))


class Read(nn.Module):
    """A recurrence of torch, read out at its last step."""

    def __init__(self, cell: nn.RNNBase) -> None:
        super().__init__()
        self.cell = cell
        wide = (cell.proj_size or cell.hidden_size) * (2 if cell.bidirectional else 1)
        self.head = nn.Linear(wide, 1)

    def forward(self, x: Tensor) -> Tensor:
        made = self.cell(x if self.cell.batch_first else x.transpose(0, 1))[0]
        return self.head(made[:, -1] if self.cell.batch_first else made[-1])


def linear(weight: np.ndarray[Any, Any]) -> Read:
    """h' = W h + x: a rectified recurrence all of whose numbers are positive."""
    cell = nn.RNN(len(weight), len(weight), nonlinearity="relu", bias=False, batch_first=True).double()
    with torch.no_grad():
        cell.weight_hh_l0.copy_(torch.from_numpy(weight))
        cell.weight_ih_l0.copy_(torch.eye(len(weight)))
    return Read(cell).double()


def test_a_linear_recurrence_has_the_singular_values_of_the_powers_of_its_weight() -> None:
    weight = np.random.default_rng(0).uniform(0.0, 0.4, (5, 5))
    x = torch.rand(4, 12, 5, dtype=torch.float64)
    found = lags(problem(linear(weight), x), linear(weight), sequences=3)
    assert found.lags == tuple(range(12))
    assert found.singular_values.shape == (3, 12, 5)
    for lag in (0, 1, 4, 11):
        wanted = np.linalg.svd(np.linalg.matrix_power(weight, lag), compute_uv=False)
        for values in found.singular_values[:, lag].numpy():
            np.testing.assert_allclose(values, wanted, rtol=1e-10, atol=1e-14 * wanted[0])


def test_the_rate_tends_to_the_spectral_radius_as_gelfand_says() -> None:
    """By power iteration, which never sees a singular value; W is far from normal, so that lag 1 misleads."""
    weight = np.array([[0.9, 0.9, 0.9], [0.0, 0.8, 0.9], [0.0, 0.0, 0.7]])
    vector = np.ones(3)
    for _ in range(500):
        vector = weight @ vector
        vector /= np.linalg.norm(vector)
    radius = float(vector @ weight @ vector)
    found = lags(
        problem(linear(weight), torch.rand(2, 400, 3, dtype=torch.float64)), linear(weight), sequences=1
    )
    assert found.radius == {"weight_hh_l0": pytest.approx(0.9)}
    assert radius == pytest.approx(0.9, rel=1e-6)
    assert found.largest[1] > 1.5
    assert found.rate == pytest.approx(radius, rel=0.02)
    assert float(found.directions[-1]) == pytest.approx(1.0, abs=1e-6)  # the main eigenvector alone


@pytest.mark.parametrize(("factor", "power"), [(0.5, -301), (1.5, 176)])
def test_products_of_a_thousand_steps_neither_vanish_nor_overflow(factor: float, power: int) -> None:
    model = linear(np.array([[factor]]))
    x = torch.full((1, 1000, 1), 1e-200 if factor > 1 else 1.0, dtype=torch.float64)
    found = lags(problem(model, x), model)
    assert len(found.lags) <= 65
    assert found.lags[-1] == 999
    assert float(found.largest[-1].log10()) == pytest.approx(999 * np.log10(factor), rel=1e-9)
    assert int(float(found.largest[-1].log10())) == pytest.approx(power, abs=1)
    assert found.rate == pytest.approx(factor, rel=1e-9)


CELLS = {
    "plain": lambda: nn.RNN(2, 4, batch_first=True),
    "steps first": lambda: nn.GRU(2, 4),
    "lstm": lambda: nn.LSTM(2, 4, batch_first=True),
    "gru": lambda: nn.GRU(2, 4, batch_first=True),
    "two layers": lambda: nn.LSTM(2, 3, num_layers=2, batch_first=True, dropout=0.5),
    "projected": lambda: nn.LSTM(2, 4, proj_size=3, batch_first=True),
}


@pytest.mark.parametrize("kind", list(CELLS))
def test_they_are_those_of_the_jacobian_through_all_steps_at_once(kind: str) -> None:
    torch.manual_seed(0)
    model, x = Read(CELLS[kind]()).double(), torch.randn(3, 9, 2, dtype=torch.float64)
    found = lags(problem(model, x), model, sequences=2)
    cell: Any = model.eval().cell
    for row in range(2):
        steps = x[row : row + 1] if cell.batch_first else x[row : row + 1].transpose(0, 1)
        axis = 1 if cell.batch_first else 0
        state = cell(steps.narrow(axis, 0, 4))[1]
        parts = state if isinstance(state, tuple) else (state,)
        shapes = [each.shape for each in parts]

        def late(flat: Tensor, steps: Tensor = steps, shapes: Any = shapes, axis: int = axis) -> Tensor:
            cut = flat.split([each.numel() for each in shapes])
            start = tuple(part.reshape(shape) for part, shape in zip(cut, shapes, strict=True))
            made = cell(steps.narrow(axis, 4, 5), start if len(start) > 1 else start[0])[1]
            return torch.cat([each.flatten() for each in (made if isinstance(made, tuple) else (made,))])

        flat = torch.cat([each.flatten() for each in parts]).detach()
        jacobian = torch.autograd.functional.jacobian(late, flat)  # type: ignore[no-untyped-call]
        wanted = torch.linalg.svdvals(jacobian)
        torch.testing.assert_close(found.singular_values[row, 5], wanted, rtol=1e-9, atol=1e-12)


class Loop(nn.Module):
    """A recurrence of cells, unrolled; the answer is read off the last state."""

    def __init__(self, cell: nn.RNNCellBase, handed: str = "graph") -> None:
        super().__init__()
        self.cell, self.head, self.handed = cell, nn.Linear(cell.hidden_size, 1), handed

    def forward(self, x: Tensor) -> Tensor:
        h = x.new_zeros(len(x), self.cell.hidden_size)
        c = h
        for step in x.unbind(1):
            if self.handed == "values":
                h, c = h.detach(), c.detach()
            if isinstance(self.cell, nn.LSTMCell):
                h, c = self.cell(step, (h, c))
            else:
                h = self.cell(step, h)
        return self.head(h)


@pytest.mark.parametrize("kind", ["RNN", "LSTM", "GRU"])
def test_cells_in_a_loop_have_those_of_the_same_recurrence_in_one_call(kind: str) -> None:
    torch.manual_seed(0)
    whole = Read(getattr(nn, kind)(2, 4, batch_first=True)).double()
    loop = Loop(getattr(nn, f"{kind}Cell")(2, 4)).double()
    loop.cell.load_state_dict({k.removesuffix("_l0"): v for k, v in whole.cell.state_dict().items()})
    loop.head.load_state_dict(whole.head.state_dict())
    x = torch.randn(70, 9, 2, dtype=torch.float64)
    one, other = lags(problem(whole, x), whole, sequences=3), lags(problem(loop, x), loop, sequences=3)
    torch.testing.assert_close(one.singular_values, other.singular_values, rtol=1e-9, atol=1e-14)
    torch.testing.assert_close(one.profile, other.profile, rtol=1e-9, atol=1e-14)
    assert list(one.radius.values()) == pytest.approx(list(other.radius.values()))
    assert (one.module, other.module, other.kind) == ("cell", "cell", f"{kind}Cell")


class Layers(nn.Module):
    """z' = A tanh(z) + x, the linear layer called step after step."""

    def __init__(self) -> None:
        super().__init__()
        self.step = nn.Linear(3, 3, bias=False)

    def forward(self, x: Tensor) -> Tensor:
        z = x.new_zeros(len(x), 3)
        for each in x.unbind(1):
            z = self.step(torch.tanh(z)) + each
        return z.sum(1, keepdim=True)


def test_a_recurrence_of_ones_own_has_the_product_of_its_factors() -> None:
    """dz_T/dz_t = A diag(tanh') ... A diag(tanh'), the slopes by hand in NumPy."""
    torch.manual_seed(1)
    model, x = Layers().double(), torch.randn(2, 7, 3, dtype=torch.float64)
    found = lags(problem(model, x), model, sequences=1)
    weight, z = model.step.weight.detach().numpy(), np.zeros(3)
    factors = []
    for step in x[0].numpy():
        factors.append(weight @ np.diag(1 - np.tanh(z) ** 2))
        z = weight @ np.tanh(z) + step
    product = np.eye(3)
    for lag in range(7):
        wanted = np.linalg.svd(product, compute_uv=False)
        np.testing.assert_allclose(found.singular_values[0, lag].numpy(), wanted, rtol=1e-9, atol=1e-14)
        product = product @ factors[6 - lag]
    assert found.radius == {}


def test_of_both_directions_the_forward_one_is_followed() -> None:
    torch.manual_seed(0)
    two = Read(nn.GRU(2, 4, num_layers=2, bidirectional=True, batch_first=True)).double()
    one = Read(nn.GRU(2, 4, batch_first=True)).double()
    one.cell.load_state_dict({name: getattr(two.cell, name) for name in one.cell.state_dict()})
    x = torch.randn(3, 6, 2, dtype=torch.float64)
    both, alone = lags(problem(two, x), two), lags(problem(one, x), one)
    torch.testing.assert_close(both.singular_values, alone.singular_values)
    assert "forward" in str(both)


class Packed(nn.Module):
    """Sequences of several lengths, each read at its own end."""

    def __init__(self) -> None:
        super().__init__()
        self.cell = nn.RNN(1, 1, nonlinearity="relu", bias=False, batch_first=True)
        nn.init.ones_(self.cell.weight_ih_l0)
        nn.init.constant_(self.cell.weight_hh_l0, 0.5)

    def forward(self, x: Tensor, lengths: Tensor) -> Tensor:
        packed = nn.utils.rnn.pack_padded_sequence(x, lengths.cpu(), batch_first=True, enforce_sorted=False)
        return self.cell(packed)[1][0]


def test_packed_sequences_are_aligned_at_their_ends() -> None:
    x, lengths = torch.rand(20, 9, 1) + 0.1, torch.tensor([5, 9, 7, 6] * 5)
    model = Packed()
    own = ds.Problem(model=model, objective="squared_error", train=(x, lengths, torch.zeros(20, 1)))
    found = lags(own, model, sequences=5)
    # The derivative by the input k steps before a sequence's own end is 0.5^k times the example's noise.
    noise = torch.randn(20, 1, generator=torch.Generator().manual_seed(0))[:, 0].double()
    squares = [noise[lengths > k].square().mean() * 0.25**k for k in range(9)]
    wanted = torch.stack(squares).sqrt().flip(0)
    torch.testing.assert_close(found.profile, wanted / wanted.max(), rtol=1e-5, atol=0.0)
    assert found.lags == tuple(range(9))  # of the five longest
    torch.testing.assert_close(found.largest, 0.5 ** torch.arange(9, dtype=torch.float64))


def test_a_state_without_its_graph_hands_nothing_back_and_that_is_said() -> None:
    model, x = Loop(nn.GRUCell(2, 4), "values"), torch.randn(5, 9, 2)
    found = lags(problem(model, x), model)
    assert found.largest[1:].tolist() == [0.0] * 8
    assert found.reach() == 0
    assert "detach" in str(found)


def test_a_run_a_start_and_a_model_stand_where_they_are_and_stay_as_they_were() -> None:
    data = ds.data.adding(n=40, steps=10)
    own = ds.Problem(model="lstm", objective="squared_error", train=data.train, arguments={"width": 5})
    run = ds.fit(own, ds.Recipe(optimizer="adam", lr=0.05, steps=5), folder=False, progress=False)
    start, end = lags(own, seed=3), lags(own, run)
    model = run.model().train()
    before = {name: value.clone() for name, value in model.state_dict().items()}
    same = lags(own, model)
    torch.testing.assert_close(same.singular_values, end.singular_values)
    assert not torch.allclose(start.singular_values, end.singular_values)
    assert model.training
    assert all(p.grad is None for p in model.parameters())
    for name, value in model.state_dict().items():
        assert torch.equal(value, before[name])
    assert [name.split()[1] for name in end.radius] == ["input", "forget", "cell", "output"]


def test_the_recurrence_can_be_chosen_by_name() -> None:
    class Two(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.first, self.second = nn.GRU(2, 3, batch_first=True), nn.RNN(3, 4, batch_first=True)

        def forward(self, x: Tensor) -> Tensor:
            return self.second(self.first(x)[0])[0][:, -1]

    x = torch.randn(4, 6, 2)
    own = problem(Two(), x, 4)
    assert lags(own, Two()).kind == "GRU"
    assert lags(own, Two(), module="second").kind == "RNN"
    with pytest.raises(ModelError, match=r"no recurrence 'secnd'.*second"):
        lags(own, Two(), module="secnd")


def test_what_has_no_lags_is_told_in_one_line() -> None:
    x = torch.randn(4, 6, 2)
    flat = nn.Sequential(nn.Flatten(), nn.Linear(12, 1))
    with pytest.raises(ModelError, match="no recurrence"):
        lags(problem(flat, x), flat)
    model = Read(nn.GRU(2, 3, batch_first=True))
    with pytest.raises(ModelError, match="sees 2 steps"):
        lags(problem(model, x[:, :2]), model)
    with pytest.raises(InputError, match="sequences=0"):
        lags(problem(model, x), model, sequences=0)


def test_a_recurrence_that_is_not_finite_shows_no_number() -> None:
    model, x = Read(nn.RNN(2, 3, batch_first=True)), torch.randn(4, 6, 2)
    with torch.no_grad():
        model.cell.weight_hh_l0[0, 0] = torch.nan
    found: Lags = lags(problem(model, x), model)
    assert bool(found.largest[1:].isnan().all())
    assert found.radius == {}
