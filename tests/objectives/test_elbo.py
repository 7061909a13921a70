"""The bound of a variational autoencoder against torch.distributions and against a marginal known exactly."""

from __future__ import annotations

import functools
import math

import pytest
import torch
from torch.distributions import Bernoulli, Independent, MultivariateNormal, Normal, kl_divergence

from downslope.core.errors import ObjectiveError
from downslope.objectives import elbo


@pytest.fixture
def output() -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
    draw = torch.Generator().manual_seed(0)
    shapes = ((5, 2, 3), (5, 4), (5, 4))
    return tuple(torch.randn(*s, generator=draw, dtype=torch.float64) for s in shapes)  # type: ignore[return-value]


@pytest.mark.parametrize("beta", [0.0, 1.0, 4.0])
@pytest.mark.parametrize("likelihood", ["bernoulli", "gaussian"])
def test_both_terms_are_those_of_torchs_distributions(output, likelihood, beta) -> None:
    restored, mean, log_variance = output
    target = torch.randint(2, (5, 2, 3), generator=torch.Generator().manual_seed(1)).double()
    known = Bernoulli(logits=restored) if likelihood == "bernoulli" else Normal(restored, math.sqrt(0.3))
    wanted = -Independent(known, 2).log_prob(target).mean()
    prior = Normal(torch.zeros_like(mean), 1.0)
    kl = kl_divergence(Normal(mean, (0.5 * log_variance).exp()), prior).sum(1).mean()
    found = elbo(output, target, likelihood=likelihood, variance=0.3, beta=beta)
    torch.testing.assert_close(found["reconstruction"], wanted)
    torch.testing.assert_close(found["kl"], beta * kl)
    assert list(found) == ["reconstruction", "kl"]


def test_the_bound_is_tight_for_the_true_posterior_of_a_linear_model() -> None:
    """p(z) = N(0, 1), p(x|z) = N(Wz, v): log p(x) and the posterior are known; the bound meets it there."""
    torch.manual_seed(0)
    v, W = 0.5, torch.tensor([[1.0], [2.0], [-0.5]], dtype=torch.float64)
    x = torch.tensor([[0.3, -1.0, 2.0]], dtype=torch.float64)
    marginal = MultivariateNormal(torch.zeros(3).double(), W @ W.T + v * torch.eye(3).double())
    precision = 1 + (W.T @ W).item() / v
    mean, variance = (x @ W) / v / precision, 1 / precision
    z, weights = _hermite(mean.item(), variance)  # the expectation over q, exactly
    log_variance = torch.full((1, 1), math.log(variance), dtype=torch.float64)

    def bound(shift: float) -> float:
        parts = [
            weight * elbo(((node + shift) * W.T, mean + shift, log_variance), x, **GAUSSIAN)["reconstruction"]
            for node, weight in zip(z, weights, strict=True)
        ]
        kl = elbo((x, mean + shift, log_variance), x, **GAUSSIAN)["kl"]
        return float(torch.stack(parts).sum() + kl)

    truth = -marginal.log_prob(x).item()
    assert bound(0.0) == pytest.approx(truth, rel=1e-10)
    assert bound(0.3) > truth + 0.01


GAUSSIAN = {"likelihood": "gaussian", "variance": 0.5}


def _hermite(mean: float, variance: float) -> tuple[torch.Tensor, torch.Tensor]:
    import numpy as np

    nodes, weights = np.polynomial.hermite_e.hermegauss(20)
    return torch.from_numpy(mean + math.sqrt(variance) * nodes), torch.from_numpy(weights / weights.sum())


def test_it_is_a_mean_over_examples_and_has_the_gradient_of_its_value(output) -> None:
    target = torch.rand(5, 2, 3, generator=torch.Generator().manual_seed(1), dtype=torch.float64)
    once = elbo(output, target)
    thrice = elbo(tuple(torch.cat([each] * 3) for each in output), torch.cat([target] * 3))
    torch.testing.assert_close(once, thrice)
    leaves = [each.clone().requires_grad_() for each in output]
    assert torch.autograd.gradcheck(lambda *o: sum(elbo(o, target).values()), leaves)


def test_targets_of_whole_numbers_are_taken(output) -> None:
    target = torch.randint(2, (5, 2, 3), generator=torch.Generator().manual_seed(1))
    assert elbo(output, target) == elbo(output, target.double())


@pytest.mark.parametrize(
    ("make", "said"),
    [
        (lambda o: elbo(o[0], o[0]), "three tensors"),
        (lambda o: elbo(o[:2], o[0]), "three tensors"),
        (lambda o: elbo(o, torch.zeros(5)), "give inputs alone"),
        (lambda o: elbo((o[0], o[1], o[2][:, :2]), o[0]), "must both be"),
        (lambda o: elbo(o, o[0], likelihood="poisson"), "'gaussian'"),
        (lambda o: elbo(o, o[0], variance=0.0), "variance"),
        (lambda o: elbo(o, o[0], beta=-1.0), "beta"),
        (lambda o: functools.partial(elbo, beta=math.inf)(o, o[0]), "beta"),
    ],
)
def test_what_does_not_fit_is_one_line(output, make, said) -> None:
    with pytest.raises(ObjectiveError, match=said) as told:
        make(output)
    assert "\n" not in str(told.value)
