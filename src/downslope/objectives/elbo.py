"""The evidence lower bound of a variational autoencoder, with a minus (Kingma and Welling 2014)."""

from __future__ import annotations

import math
from typing import Any, Literal, cast

from torch import Tensor
from torch.nn import functional

from downslope.core.errors import ObjectiveError
from downslope.objectives.objective import as_real, shape_of


def elbo(
    output: Any,
    target: Tensor,
    *,
    likelihood: Literal["bernoulli", "gaussian"] = "bernoulli",
    variance: float = 1.0,
    beta: float = 1.0,
) -> dict[str, Tensor]:
    """``-E_q[log p(x|z)] + beta KL(q(z|x) || N(0, 1))``, a mean over examples, in nats an example.

    Kingma and Welling's equation 10. reconstruction = sum over the entries of x of ``log(1 + e^a) - x a``
    (Bernoulli, a its logit), or of ``(x - a)^2 / (2 v) + log(2 pi v) / 2`` (Gaussian of variance v);
    kl = ``sum_j (mean_j^2 + s_j - 1 - log s_j) / 2`` over the code, s its variance. Both are sums within an
    example: a mean over pixels beside a sum over the code would weigh the code hundreds of times too much.
    At beta 1 the value is an upper bound of ``-log p(x)``; beta above 1 asks for a plainer code (Higgins et
    al. 2017).

    Args:
        output: ``(reconstruction, mean, log_variance)``, as `downslope.models.vae` gives it; the first in
            the target's shape, the others (n, code).
        target: the inputs themselves, (n, ...); for "bernoulli" in [0, 1]. ``Problem(train=X)`` of inputs
            alone gives them.
        likelihood: "bernoulli", for which the reconstruction is logits, or "gaussian", for which it is means.
        variance: v of the Gaussian, float in (0, inf).
        beta: weight of the kl, float in [0, inf).

    Returns:
        Two scalars, "reconstruction" and "kl" (beta within), which are added; each is logged by its name.

    Raises:
        ObjectiveError: an output of another kind, shapes that differ, an argument outside its domain.
    """
    if likelihood not in ("bernoulli", "gaussian"):
        raise ObjectiveError(f"elbo: likelihood={likelihood!r}: must be 'bernoulli' or 'gaussian'")
    if not 0 < variance < math.inf or not 0 <= beta < math.inf:
        raise ObjectiveError(
            f"elbo: variance={variance}, beta={beta}: the first must be positive, the second not negative"
        )
    restored, mean, log_variance = _parts(output, target)
    wanted = as_real(target, restored)
    if likelihood == "bernoulli":
        fault = functional.binary_cross_entropy_with_logits(restored, wanted, reduction="sum")
    else:
        constant = 0.5 * math.log(2 * math.pi * variance) * wanted.numel()
        fault = (restored - wanted).square().sum() / (2 * variance) + constant
    kl = 0.5 * (mean.square() + log_variance.exp() - 1 - log_variance).sum()
    return {"reconstruction": fault / len(wanted), "kl": beta * kl / len(wanted)}


def _parts(output: Any, target: object) -> tuple[Tensor, Tensor, Tensor]:
    """The three tensors of the output, known to fit each other and the target."""
    known = isinstance(output, (tuple, list))
    parts = list(cast("tuple[Any, ...]", output)) if known else []
    if len(parts) != 3 or not all(isinstance(each, Tensor) for each in parts):
        raise ObjectiveError(
            "elbo: the output must be a tuple of three tensors, (reconstruction, mean, log_variance), as "
            f"model='vae' gives it; this is {type(output).__name__}"
        )
    restored, mean, log_variance = cast("list[Tensor]", parts)
    if not isinstance(target, Tensor) or restored.shape != target.shape:
        given = shape_of(target) if isinstance(target, Tensor) else type(target).__name__
        raise ObjectiveError(
            f"elbo: reconstruction {shape_of(restored)} and target {given} differ: the target is the input "
            "itself; give inputs alone, train=X"
        )
    if mean.shape != log_variance.shape or mean.ndim != 2 or len(mean) != len(restored) or not len(mean):
        raise ObjectiveError(
            f"elbo: mean {shape_of(mean)} and log_variance {shape_of(log_variance)} must both be (n, code) "
            f"beside a reconstruction {shape_of(restored)}"
        )
    return restored, mean, log_variance


# Read by a diagnosis and by who averages over batches; what it expects of an output has no name of its own.
elbo.__dict__.update(reduction="mean", surrogate_for="negative log-likelihood", sum_over="entries")
