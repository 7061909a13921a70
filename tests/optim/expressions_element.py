"""One step of the later element-wise methods as the papers write it, for symbols; see `expressions`."""

from __future__ import annotations

import math

from tests.optim.expressions import entering


def apart(x):
    """The gradient and the parameter before the step, with decay of the one or of the other."""
    if not x.decoupled_weight_decay:
        return entering(x), x.p
    return (-x.g if x.maximize else x.g), x.p - x.lr * x.weight_decay * x.p


def averaged(x):
    beta = x.momentum
    m = beta * x.m + (1 - beta) * entering(x) if beta else entering(x)
    kept = {"m": m} if beta else {}
    return {**kept, "p": x.p - x.lr * (m / (1 - beta**x.t) if x.debias else m)}


def adadelta(x):
    g = entering(x)
    v = x.rho * x.v + (1 - x.rho) * g**2
    step = x.sqrt(x.u + x.eps) / x.sqrt(v + x.eps) * g
    return {"v": v, "u": x.rho * x.u + (1 - x.rho) * step**2, "p": x.p - x.lr * step}


def adamax(x):
    b1, b2 = x.betas
    g = entering(x)
    m, u = b1 * x.m + (1 - b1) * g, x.maximum(b2 * x.u, x.abs(g) + x.eps)
    return {"m": m, "u": u, "p": x.p - x.lr / (1 - b1**x.t) * m / u}


def moments(x, g):
    b1, b2 = x.betas
    return b1 * x.m + (1 - b1) * g, b2 * x.v + (1 - b2) * g**2


def nadam(x):
    g, p = apart(x)
    m, v = moments(x, g)
    now, late = (x.betas[0] * (1 - 0.96 ** (t * x.momentum_decay) / 2) for t in (x.t, x.t + 1))
    product = x.mu_product * now
    ahead = (1 - now) * g / (1 - product) + late * m / (1 - product * late)
    step = ahead / (x.sqrt(v / (1 - x.betas[1] ** x.t)) + x.eps)
    return {"m": m, "v": v, "p": p - x.lr * step}


def rectified(x):
    """Liu et al. 2020, algorithm 2: the rectification, None where the scale waits."""
    b2, t = x.betas[1], x.t
    longest = 2 / (1 - b2) - 1
    length = longest - 2 * t * b2**t / (1 - b2**t)
    if length <= 5:
        return None
    return x.sqrt((length - 4) * (length - 2) * longest / ((longest - 4) * (longest - 2) * length))


def radam(x):
    b1, b2 = x.betas
    g, p = apart(x)
    m, v = moments(x, g)
    step, r = m / (1 - b1**x.t), rectified(x)
    if r is not None:
        step = step * r * x.sqrt(1 - b2**x.t) / (x.sqrt(v) + x.eps)
    return {"m": m, "v": v, "p": p - x.lr * step}


def adabelief(x):
    b1, b2 = x.betas
    g, p = apart(x)
    m = b1 * x.m + (1 - b1) * g
    s = b2 * x.s + (1 - b2) * (g - m) ** 2 + (x.eps if x.eps_root is None else x.eps_root)
    step, left = m / (1 - b1**x.t), 1 - b2**x.t
    if not x.rectify:
        step = step / (x.sqrt(s / left) + x.eps)
    elif (r := rectified(x)) is not None:
        step = step * r * x.sqrt(left) / (x.sqrt(s) + x.eps)
    return {"m": m, "s": s, "p": p - x.lr * step}


def adan(x):
    b1, b2, b3 = x.betas
    g = -x.g if x.maximize else x.g
    d = 0 if x.t == 1 else g + x.last
    m, v = b1 * x.m + (1 - b1) * g, b2 * x.v + (1 - b2) * d
    n = b3 * x.n + (1 - b3) * (g + b2 * d) ** 2
    ahead = m / (1 - b1**x.t) + b2 * v / (1 - b2**x.t)
    step = x.lr * ahead / (x.sqrt(n / (1 - b3**x.t)) + x.eps)
    pull = x.lr * x.weight_decay
    p = (1 - pull) * x.p - step if x.no_prox else (x.p - step) / (1 + pull)
    return {"m": m, "v": v, "n": n, "last": -g, "p": p}


def ademamix(x):
    b1, b2, b3 = x.betas
    g, alpha = -x.g if x.maximize else x.g, x.alpha
    if x.alpha_warmup is not None:
        alpha = alpha * min(x.t / x.alpha_warmup, 1)
    if x.beta3_warmup is not None and x.t < x.beta3_warmup:
        share = x.t / x.beta3_warmup
        first, last = math.log(b1), math.log(b3)
        b3 = math.exp(first * last / ((1 - share) * last + share * first))
    m1, m2 = b1 * x.m1 + (1 - b1) * g, b3 * x.m2 + (1 - b3) * g
    v = b2 * x.v + (1 - b2) * g**2
    step = (m1 / (1 - b1**x.t) + alpha * m2) / (x.sqrt(v / (1 - b2**x.t)) + x.eps)
    return {"m1": m1, "m2": m2, "v": v, "p": x.p - x.lr * (step + x.weight_decay * x.p)}


def lion(x):
    b1, b2 = x.betas
    g = -x.g if x.maximize else x.g
    step = x.sign(b1 * x.m + (1 - b1) * g) + x.weight_decay * x.p
    return {"m": b2 * x.m + (1 - b2) * g, "p": x.p - x.lr * step}


def signum(x):
    g, p = apart(x)
    m = x.momentum * x.m + (1 - x.momentum) * g if x.momentum != 0 else g
    return {**({"m": m} if x.momentum != 0 else {}), "p": p - x.lr * x.sign(m)}
