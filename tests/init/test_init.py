"""Each initialisation by its empirical moments, and beside torch's of the same name."""

from __future__ import annotations

import math

import pytest
import torch
from scipy.stats import truncnorm
from torch import nn

from downslope.core import names
from downslope.core.errors import ModelError
from downslope.init import auto, normal, orthogonal
from downslope.init.chosen import is_whole

OUT, IN = 300, 500
RULES = sorted(name for name in names.TABLE["init"] if not is_whole(names.resolve("init", name)))

VARIANCE = {
    "zeros": lambda n_in, n_out: 0.0,
    "normal": lambda n_in, n_out: 1e-4,
    "xavier": lambda n_in, n_out: 2 / (n_in + n_out),
    "xavier_uniform": lambda n_in, n_out: 2 / (n_in + n_out),
    "he": lambda n_in, n_out: 2 / n_in,
    "he_uniform": lambda n_in, n_out: 2 / n_in,
    "lecun": lambda n_in, n_out: 1 / n_in,
    "lecun_uniform": lambda n_in, n_out: 1 / n_in,
    "uniform": lambda n_in, n_out: 0.05**2 / 3,
    # 1 - 2 c phi(c) / (2 Phi(c) - 1) of SciPy's truncnorm(-2, 2).
    "truncated_normal": lambda n_in, n_out: 0.02**2 * truncnorm(-2, 2).var(),
    "auto": lambda n_in, n_out: 2 / (n_in + n_out),
}

TORCH = {
    "normal": lambda w: nn.init.normal_(w, std=0.01),
    "xavier": nn.init.xavier_normal_,
    "xavier_uniform": nn.init.xavier_uniform_,
    "he": lambda w: nn.init.kaiming_normal_(w, nonlinearity="relu"),
    "he_uniform": lambda w: nn.init.kaiming_uniform_(w, nonlinearity="relu"),
    "lecun": lambda w: nn.init.kaiming_normal_(w, nonlinearity="linear"),
    "lecun_uniform": lambda w: nn.init.kaiming_uniform_(w, nonlinearity="linear"),
    "uniform": lambda w: nn.init.uniform_(w, -0.05, 0.05),
    "truncated_normal": lambda w: nn.init.trunc_normal_(w, std=0.02, a=-0.04, b=0.04),
}


def drawn(rule, *shape: int, seed: int = 0) -> torch.Tensor:
    weight = torch.full(shape, float("nan"))
    assert rule(weight, torch.Generator().manual_seed(seed)) is None
    return weight


@pytest.mark.parametrize("name", sorted(VARIANCE))
@pytest.mark.parametrize("kernel", [(), (3, 3)])
def test_mean_and_variance_are_those_of_the_formula(name, kernel):
    shape = (OUT // 3, IN // 5, *kernel) if kernel else (OUT, IN)
    weight = drawn(names.resolve("init", name), *shape).double()
    receptive = math.prod(kernel)
    wanted = VARIANCE[name](shape[1] * receptive, shape[0] * receptive)
    # Six standard errors of a variance (sqrt(2/n)) and of a mean.
    assert weight.var().item() == pytest.approx(wanted, rel=6 * math.sqrt(2 / weight.numel()))
    assert abs(weight.mean().item()) <= 6 * math.sqrt(wanted / weight.numel())


@pytest.mark.parametrize("name", sorted(TORCH))
def test_torchs_namesake_has_the_same_distribution(name):
    ours = drawn(names.resolve("init", name), OUT, IN).flatten()
    with torch.random.fork_rng():
        torch.manual_seed(1)
        theirs = TORCH[name](torch.empty(OUT, IN)).flatten()
    levels = torch.linspace(0.01, 0.99, 25)
    scale = theirs.std().item()
    ours, theirs = (torch.quantile(x[:100_000], levels) for x in (ours, theirs))
    assert (ours - theirs).abs().max().item() < 0.03 * scale
    if "uniform" in name:
        assert ours.abs().max().item() < math.sqrt(3) * scale * 1.02


@pytest.mark.parametrize("shape", [(40, 40), (40, 90), (90, 40), (16, 3, 3, 3)])
def test_orthogonal_rows_or_columns_are_orthonormal(shape):
    weight = drawn(orthogonal, *shape).flatten(1)
    singular = torch.linalg.svdvals(weight)
    torch.testing.assert_close(singular, torch.ones_like(singular))


def test_orthogonal_matrices_are_uniform_and_not_those_of_plain_qr():
    # Over all orthogonal matrices the trace has mean 0 and variance 1; plain QR leaves its diagonal biased.
    traces = torch.stack([drawn(orthogonal, 5, 5, seed=seed).trace() for seed in range(2000)])
    assert abs(traces.mean().item()) < 6 / math.sqrt(2000)
    assert traces.var().item() == pytest.approx(1, rel=0.2)


@pytest.mark.parametrize("name", RULES)
def test_a_seed_decides_and_the_global_stream_is_not_touched(name):
    rule = names.resolve("init", name)
    state = torch.get_rng_state()
    first, again, other = (drawn(rule, 6, 7, seed=seed) for seed in (3, 3, 4))
    assert torch.equal(first, again)
    assert name in ("zeros", "constant") or not torch.equal(first, other)
    assert torch.equal(state, torch.get_rng_state())


@pytest.mark.parametrize("name", RULES)
def test_parameters_keep_their_dtype_and_need_no_graph(name):
    weight = nn.Parameter(torch.empty(6, 7, dtype=torch.float64))
    names.resolve("init", name)(weight)
    assert weight.dtype == torch.float64
    assert weight.is_leaf
    assert weight.isfinite().all()


@pytest.mark.parametrize(
    ("follows", "variance"),
    [
        (nn.ReLU, 2 / IN), (nn.GELU, 2 / IN), (nn.SELU, 1 / IN), (nn.Tanh, 2 / (IN + OUT)),
        (nn.Sigmoid, 2 / (IN + OUT)), (None, 2 / (IN + OUT)),
    ],
)  # fmt: skip
def test_auto_takes_the_activation_that_follows(follows, variance):
    weight = torch.empty(OUT, IN)
    auto(weight, torch.Generator().manual_seed(0), follows=follows)
    assert weight.var().item() == pytest.approx(variance, rel=6 * math.sqrt(2 / weight.numel()))


@pytest.mark.parametrize("name", ["xavier", "he", "lecun", "orthogonal", "auto"])
def test_a_vector_has_no_fans_and_is_refused_in_one_line(name):
    with pytest.raises(ModelError, match="two axes") as told:
        names.resolve("init", name)(torch.empty(5))
    assert "\n" not in str(told.value)


def test_a_negative_deviation_is_refused():
    with pytest.raises(ModelError, match="std=-1"):
        normal(torch.empty(2, 2), std=-1)


@pytest.mark.parametrize(("name", "activation", "kept"), [("he", nn.ReLU, True), ("xavier", nn.ReLU, False),
                                                          ("lecun", nn.Identity, True)])  # fmt: skip
def test_the_second_moment_survives_twenty_layers_only_where_it_should(name, activation, kept):
    draw = torch.Generator().manual_seed(0)
    x = torch.randn(200, 256, generator=draw)
    before = x.square().mean().item()
    weight = torch.empty(256, 256)
    for _ in range(20):
        names.resolve("init", name)(weight, draw)
        x = activation()(x) @ weight.T
    ratio = x.square().mean().item() / before
    assert (0.3 < ratio < 3) == kept
    assert kept or ratio < 1e-5
