"""Made sequences: the answer is in the inputs, and nowhere else."""

from __future__ import annotations

import pytest
import torch

import downslope as ds
from downslope.core.errors import DataError
from downslope.data import adding, motifs


def test_the_target_of_adding_is_the_sum_of_the_two_marked_numbers():
    table = adding(n=200, steps=11, seed=3)
    for x, y in (table.train, table.valid or table.train):
        numbers, marks = x.unbind(2)
        assert torch.equal(marks.sum(1), torch.full((len(x),), 2.0))
        assert torch.equal(marks[:, :5].sum(1), torch.ones(len(x)))
        assert torch.equal((numbers * marks).sum(1), y)
        assert numbers.min() >= 0
        assert numbers.max() <= 1
    assert len(table.train[1]) == 160


def test_the_mean_of_adding_has_the_error_that_the_paper_gives():
    target = adding(n=20_000, valid=0.0, steps=4).train[1]
    assert float(((target - 1) ** 2).mean()) == pytest.approx(1 / 6, abs=0.005)


def test_every_sequence_holds_the_motif_of_its_class():
    table = motifs(n=300, steps=9, tokens=7, kinds=3, length=3, seed=5)
    spelt = [torch.tensor([int(token) for token in name.split()]) for name in table.classes]
    assert len({tuple(each.tolist()) for each in spelt}) == 3
    x, y = table.train
    for row, label in zip(x, y, strict=True):
        windows = row.unfold(0, 3, 1)
        assert bool((windows == spelt[int(label)]).all(1).any())


@pytest.mark.parametrize("made", [adding, motifs])
def test_a_seed_repeats_and_another_differs(made):
    first, again, other = made(n=50, seed=1), made(n=50, seed=1), made(n=50, seed=2)
    assert torch.equal(first.train[0], again.train[0])
    assert not torch.equal(first.train[0], other.train[0])


@pytest.mark.parametrize(
    ("made", "arguments", "said"),
    [(adding, {"steps": 1}, "steps=1"), (motifs, {"kinds": 1}, "kinds=1"),
     (motifs, {"length": 13}, "length=13"), (adding, {"valid": 1.0}, "valid=1.0")],
)  # fmt: skip
def test_what_is_outside_its_domain_is_refused(made, arguments, said):
    with pytest.raises(DataError, match=said):
        made(**arguments)


@pytest.mark.parametrize("name", ["gru", "transformer"])
def test_a_named_model_takes_its_sizes_from_sequences(name):
    for table, objective in ((adding(n=60, steps=5), "mse"), (motifs(n=60), "cross_entropy")):
        problem = ds.Problem(model=name, objective=objective, train=table.train, valid=table.valid)
        run = ds.fit(problem, ds.Recipe(steps=3), folder=False, progress=False)
        assert run.status == "done"
