"""Products of curvature: every way alike, parts as the whole, blocks, and memory that ends."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from scipy.sparse.linalg import eigsh
from torch import nn
from torch.utils.data import DataLoader, IterableDataset, TensorDataset

import downslope as ds
from downslope.core.errors import InputError, ModelError
from downslope.objectives import penalised
from downslope.terrain.ground import Ground, ground_of
from downslope.terrain.operators import as_linear_operator, curvature, dense
from downslope.terrain.operators.curvature import Curvature
from downslope.terrain.spectrum import extremes
from tests.terrain.operators.dense import grounded, hessian, matrix
from tests.terrain.operators.test_gauss_newton import close, data, mlp

KINDS = ("hessian", "gauss_newton", "true", "empirical")


def direction(size: int) -> torch.Tensor:
    return torch.randn(size, dtype=torch.float64, generator=torch.Generator().manual_seed(5))


class Recurrent(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.rnn, self.head = nn.LSTM(4, 2, batch_first=True), nn.Linear(2, 3)

    def forward(self, x):
        return self.head(self.rnn(x[:, None].expand(-1, 3, -1))[0][:, -1])


class Attentive(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.layer = nn.TransformerEncoderLayer(4, 2, 6, dropout=0.0, batch_first=True)
        self.head = nn.Linear(4, 3)

    def forward(self, x):
        return self.head(self.layer(x[:, None] * torch.arange(1, 4)[:, None]).mean(1))


class Convolved(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.body = nn.Sequential(nn.Conv1d(1, 3, 3), nn.BatchNorm1d(3), nn.Tanh(), nn.Dropout(0.5))
        self.head = nn.Linear(6, 3)

    def forward(self, x):
        return self.head(self.body(x[:, None]).flatten(1))


class Tied(nn.Module):
    """One weight under two names, and a part that is never reached."""

    def __init__(self) -> None:
        super().__init__()
        self.one, self.two, self.idle = nn.Linear(4, 4), nn.Linear(4, 4, bias=False), nn.Linear(2, 2)
        self.two.weight = self.one.weight
        self.head = nn.Linear(4, 3)

    def forward(self, x):
        return self.head(self.two(self.one(x).tanh()).tanh())


@pytest.mark.parametrize("kind", [mlp, Recurrent, Attentive, Convolved, Tied])
def test_every_way_gives_the_dense_hessian_whatever_the_model(kind):
    with torch.random.fork_rng():
        torch.manual_seed(0)
        ground = grounded(kind(), penalised("cross_entropy", l2=0.1), data())
    wanted = hessian(ground)
    v = direction(ground.size)
    for way in ("reverse", "linearize", "forward"):
        ground.chosen = {"hessian": way}
        operator = ground.hessian()
        assert operator.way == way
        assert operator.exact
        close(operator.product(v), wanted @ v)


@pytest.mark.parametrize("objective", ["squared_error", nn.MSELoss(), "logistic", nn.L1Loss()])
def test_every_way_goes_with_objectives_of_every_kind(objective):
    x, y = data()
    ground = grounded(mlp(1), objective, (x, (y > 0).float()[:, None]))
    wanted, v = hessian(ground), direction(ground.size)
    for way in ("reverse", "linearize", "forward"):
        ground.chosen = {"hessian": way}
        close(ground.hessian().product(v), wanted @ v)


@pytest.mark.parametrize("kind", KINDS[1:])
def test_every_way_gives_one_gauss_newton_and_one_fisher_matrix(kind):
    ground = grounded(Convolved(), "cross_entropy", data())
    found = []
    for way in ("reverse", "linearize", "forward"):
        ground.chosen = {kind: way}
        found.append(Curvature(ground, kind).product(direction(ground.size)))
    close(found[1], found[0], 1e-13)
    close(found[2], found[0], 1e-13)


def test_the_way_is_timed_where_products_can_pay_for_it_and_told(monkeypatch):
    ground = grounded(mlp(), "cross_entropy", data())
    few = ground.hessian(products=3)
    few.product(direction(ground.size))
    assert (few.way, few.reason) == ("reverse", "no other way can pay within 3 products")
    monkeypatch.setattr(curvature, "_SECONDS", 0.0)
    ground.chosen = {}
    many = ground.gauss_newton(products=10_000)
    close(many.product(direction(ground.size)), ground.gauss_newton().product(direction(ground.size)))
    assert many.reason.startswith("timed on one part: reverse ")
    assert "linearize" in many.reason
    assert many.way == ground.chosen["gauss_newton"]
    assert ground.gauss_newton(products=10_000).way == many.way


def test_graphs_that_do_not_fit_are_formed_anew():
    ground = grounded(mlp(), "cross_entropy", data())
    wanted = matrix(ground.hessian())
    ground.chunk, ground.memory = 3, 1
    operator = ground.hessian(products=4)
    close(matrix(operator), wanted)
    assert operator._kept is None
    assert "timed on one part: reverse" in operator.reason


class Rows(torch.utils.data.Dataset):
    def __init__(self, x, y):
        self.x, self.y = x, y

    def __len__(self):
        return len(self.x)

    def __getitem__(self, i):
        return self.x[i], self.y[i]


class Endless(IterableDataset):
    """A stream without a length, which ends all the same."""

    def __init__(self, x, y):
        self.x, self.y = x, y

    def __iter__(self):
        return iter(zip(self.x, self.y, strict=True))


def masked() -> tuple[torch.Tensor, torch.Tensor]:
    x, y = data(40)
    y[5:18] = 2
    y[18:21] = 7
    return x, y


WEIGHTED = nn.CrossEntropyLoss(
    weight=torch.tensor([1.0, 3.0, 0.5], dtype=torch.float64), ignore_index=7, reduction="mean"
)


@pytest.mark.parametrize("given", ["memory", "dataset", "loader", "stream"])
def test_data_in_pieces_is_the_data_in_one_with_masked_and_weighted_targets(given, monkeypatch):
    x, y = masked()
    monkeypatch.setattr("downslope.core.sources.MEMORY_LIMIT", 0)  # a dataset stays one
    train = {
        "memory": (x, y),
        "dataset": Rows(x, y),
        "loader": DataLoader(TensorDataset(x, y), batch_size=7),
        "stream": Endless(x, y),
    }[given]
    monkeypatch.setattr("downslope.terrain.ground.point.affordable", lambda *_: 6)
    objective = penalised(WEIGHTED, l2=0.3)
    model = mlp()
    problem = ds.Problem(model=lambda: model, objective=objective, train=train)
    pieces = ground_of(problem, model, examples="all", dtype=torch.float64)
    monkeypatch.undo()
    whole = grounded(model, objective, (x, y))
    assert len(list(pieces.parts("hessian"))) > 5
    assert len(list(whole.parts("hessian"))) == 1
    value, slope = pieces.slope()
    wanted, gradient = whole.slope()
    assert abs(value - wanted) <= 1e-13 * wanted
    assert abs(pieces.loss() - wanted) <= 1e-13 * wanted
    close(slope, gradient, 1e-12)
    v = direction(whole.size)
    for kind in KINDS:
        close(Curvature(pieces, kind).product(v), Curvature(whole, kind).product(v), 1e-12)


def test_a_sum_over_examples_stays_one_in_pieces_and_its_penalty_counts_once(monkeypatch):
    x, y = data(40)
    objective = penalised(nn.CrossEntropyLoss(reduction="sum"), l2=0.3)
    whole = grounded(mlp(), objective, (x, y))
    monkeypatch.setattr("downslope.terrain.ground.point.affordable", lambda *_: 16)
    pieces = grounded(mlp(), objective, (x, y))
    assert len(list(pieces.pieces)) == 3
    pieces.chunk = 5
    assert pieces.loss() == pytest.approx(whole.loss(), rel=1e-13)
    close(matrix(pieces.hessian()), matrix(whole.hessian()), 1e-12)
    close(matrix(pieces.fisher("empirical")), matrix(whole.fisher("empirical")), 1e-12)
    assert "the objective is a sum: the loss is that of all 40 examples" in pieces.notes


def test_an_objective_that_couples_its_examples_is_told(monkeypatch):
    x, y = data(40)
    monkeypatch.setattr("downslope.terrain.ground.point.affordable", lambda *_: 10)
    ground = grounded(mlp(), lambda output, target: output.std(0).sum() + output.sum() * 0, (x, y))
    assert any("4 pieces of 10" in note for note in ground.notes)


class Hungry(nn.Module):
    """Runs out of memory above so many examples."""

    def __init__(self, most: int, error: Exception) -> None:
        super().__init__()
        self.body, self.most, self.error = mlp(), most, error

    def forward(self, x):
        if len(x) > self.most:
            raise self.error
        return self.body(x)


@pytest.mark.parametrize(
    "error",
    [
        torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 2 GiB"),
        RuntimeError("DefaultCPUAllocator: not enough memory: you tried to allocate 8 bytes"),
    ],
    ids=["cuda", "cpu"],
)
def test_where_memory_ends_the_examples_are_halved_and_it_is_told(error, monkeypatch):
    x, y = masked()
    monkeypatch.setattr("downslope.terrain.ground.point.affordable", lambda *_: None)
    whole = grounded(mlp(), WEIGHTED, (x, y))
    v = direction(whole.size)
    for kind in KINDS:
        ground = grounded(Hungry(6, error), WEIGHTED, (x, y))
        close(Curvature(ground, kind).product(v), Curvature(whole, kind).product(v), 1e-12)
        assert ground.notes == ["out of memory: parts of 5 examples are looked at, one after the other"]
    ground = grounded(Hungry(1, error), WEIGHTED, (x, y))
    close(ground.slope()[1], whole.slope()[1], 1e-12)
    with pytest.raises(ModelError, match="not enough for a single example"):
        grounded(Hungry(0, error), WEIGHTED, (x, y)).loss()


def test_blocks_are_those_of_the_whole_matrix():
    ground = grounded(mlp(), "cross_entropy", data())
    whole = dense(ground.hessian())
    blocks = ground.hessian().blocks()
    assert list(blocks) == ["0", "2"]
    close(dense(blocks["0"]), whole[:25, :25])
    close(dense(ground.hessian().block("2")), whole[25:, 25:])
    close(
        dense(ground.gauss_newton().block("*.bias")).diag(),
        dense(ground.gauss_newton()).diag()[[*range(20, 25), *range(40, 43)]],
    )
    apart = whole.clone()
    apart[:25, 25:] = apart[25:, :25] = 0
    close(matrix(ground.hessian().block_diagonal()), apart)
    with pytest.raises(InputError, match="no parameter or module 'head'"):
        ground.hessian().block("head")


def test_the_gradient_is_where_a_search_starts_and_it_finds_what_is_orthogonal_to_it_too():
    ground = grounded(mlp(), "cross_entropy", data())
    close(ground.hessian().likely(), ground.slope()[1], 1e-14)
    close(ground.gauss_newton().likely(), ground.slope()[1], 1e-14)
    scale = torch.tensor([10.0, 1.0, 2.0], dtype=torch.float64)
    p = torch.tensor([0.0, 1.0, 0.0], dtype=torch.float64, requires_grad=True)
    found = extremes(Ground.of_closure(lambda: (scale * p.square()).sum() / 2, [p]).hessian(), 1, 0)
    assert found.largest == pytest.approx(10, rel=1e-9)


def test_frozen_parameters_have_no_row():
    model = mlp()
    model[0].weight.requires_grad_(False)
    ground = grounded(model, "cross_entropy", data())
    full = hessian(grounded(mlp(), "cross_entropy", data()))
    close(dense(ground.hessian()), full[20:, 20:])
    close(
        dense(ground.gauss_newton()), dense(grounded(mlp(), "cross_entropy", data()).gauss_newton())[20:, 20:]
    )


def test_scipy_finds_the_eigenvalues():
    ground = grounded(mlp(), "cross_entropy", data())
    values = np.linalg.eigvalsh(hessian(ground).numpy())
    view = as_linear_operator(ground.hessian())
    assert view.dtype == np.float64
    found = eigsh(view, k=2, which="LA", tol=1e-12)[0]
    np.testing.assert_allclose(found, values[-2:], rtol=1e-9)
    np.testing.assert_allclose(view @ np.eye(ground.size, 2), hessian(ground).numpy()[:, :2], atol=1e-12)
    single = ground_of(ds.Problem(model=mlp, objective="cross_entropy", train=data()))
    assert (as_linear_operator(single.hessian()) @ np.ones(43)).dtype == np.float64


def test_a_matrix_too_large_to_form_is_refused():
    p = torch.ones(4, requires_grad=True)
    operator = Ground.of_closure(lambda: p.pow(3).sum(), [p]).hessian()
    assert dense(operator).tolist() == (6 * torch.eye(4)).tolist()
    with pytest.raises(InputError, match="4 parameters make a matrix"):
        dense(operator, largest=3)


def test_a_vector_of_another_size_is_refused_in_one_line():
    problem = ds.Problem(
        model=lambda: torch.nn.Linear(2, 1),
        objective="squared_error",
        train=(torch.zeros(4, 2), torch.zeros(4, 1)),
    )
    hessian = ground_of(problem, problem.build(0)).hessian()
    for wrong in (torch.zeros(2), torch.zeros(1, 3), torch.tensor(1.0)):
        with pytest.raises(InputError, match=r"must have shape \(3,\)"):
            hessian.product(wrong)
