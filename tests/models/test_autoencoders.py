"""Autoencoders: the linear one against principal components, the variational one by its formula."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from downslope.core.errors import ModelError
from downslope.models import Restored, autoencoder, vae


def test_a_linear_autoencoder_reaches_the_error_of_principal_components() -> None:
    draw = np.random.default_rng(0)
    X = draw.normal(size=(200, 6)) * np.array([3.0, 2.0, 1.0, 0.3, 0.2, 0.1])
    X -= X.mean(0)
    left = np.linalg.svd(X, compute_uv=False)[2:]  # Eckart and Young: the least error that a code of 2 has
    least = float((left**2).sum() / X.size)
    torch.manual_seed(0)
    model = autoencoder(6, code=2, depth=0).double()
    x = torch.from_numpy(X)
    optimizer = torch.optim.LBFGS(model.parameters(), max_iter=400, line_search_fn="strong_wolfe")

    def closure() -> torch.Tensor:
        optimizer.zero_grad()
        loss = (model(x) - x).square().mean()
        loss.backward()
        return loss

    optimizer.step(closure)
    assert closure().item() == pytest.approx(least, rel=1e-6)


@pytest.mark.parametrize("depth", [0, 1, 2])
def test_shapes_come_back_through_a_code_of_the_size_given(depth) -> None:
    x = torch.rand(5, 1, 4, 6)
    for factory in (autoencoder, vae):
        model = factory(24, code=3, width=10, depth=depth, norm="batch", dropout=0.1)
        out = model(x)
        restored = out.reconstruction if isinstance(out, Restored) else out
        assert restored.shape == x.shape
    assert autoencoder(24, code=3).encoder(x).shape == (5, 3)
    mean, log_variance = vae(24, code=3).encode(x)
    assert mean.shape == log_variance.shape == (5, 3)
    by_hand = (24 * 10 + 10) + (10 * 3 + 3) + (3 * 10 + 10) + (10 * 24 + 24)
    assert sum(p.numel() for p in autoencoder(24, code=3, width=10).parameters()) == by_hand
    assert sum(p.numel() for p in vae(24, code=3, width=10).parameters()) == by_hand + 10 * 3 + 3


def test_the_code_is_drawn_from_its_distribution_in_training() -> None:
    torch.manual_seed(0)
    model = vae(4, code=2, depth=0).double()
    x = torch.randn(1, 4, dtype=torch.float64).expand(40_000, 4)
    with torch.no_grad():
        model.encoder[1].bias[2:] = torch.tensor([2.0, -1.0])
        restored, mean, log_variance = model(x)
        centre = model.decoder(mean[:1])
        spread = model.decoder[1].weight @ torch.diag(log_variance[0].exp()) @ model.decoder[1].weight.T
    torch.testing.assert_close(restored.mean(0), centre[0], atol=0.06, rtol=0)
    torch.testing.assert_close(torch.cov(restored.T), spread, atol=0.1, rtol=0.02)


def test_in_eval_mode_the_mean_is_taken_unless_draws_are_asked_for() -> None:
    x = torch.rand(3, 4)
    plain, drawing = vae(4).eval(), vae(4, draw=True).eval()
    restored, mean, _ = plain(x)
    assert torch.equal(restored, plain.decoder(mean))
    assert torch.equal(plain(x).reconstruction, restored)
    assert not torch.equal(drawing(x).reconstruction, drawing(x).reconstruction)


def test_samples_are_decoded_draws_from_a_standard_normal() -> None:
    model = vae(4, code=3)
    draw = torch.Generator().manual_seed(5)
    z = torch.randn(7, 3, generator=torch.Generator().manual_seed(5))
    torch.testing.assert_close(model.sample(7, draw), model.decoder(z))


@pytest.mark.parametrize(
    ("build", "said"),
    [
        (lambda: autoencoder(4, code=0), "code=0"),
        (lambda: vae(4, code=1.5), "code=1.5"),
        (lambda: vae(0), "inputs=0"),
        (lambda: autoencoder(4, dropout=-0.1), "dropout"),
    ],
)
def test_what_is_outside_its_domain_is_refused(build, said) -> None:
    with pytest.raises(ModelError, match=said):
        build()
