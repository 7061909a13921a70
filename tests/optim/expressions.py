"""One step of each method as the paper writes it, for symbols (`downslope.testing.rules.symbolic`)."""

from __future__ import annotations


def entering(x):
    """The gradient as it enters: negated for ascent, with the coupled decay."""
    return (-x.g if x.maximize else x.g) + x.weight_decay * x.p


def sgd(x):
    return {"p": x.p - x.lr * entering(x)}


def heavy_ball(x):
    share = 1 if x.t == 1 else 1 - getattr(x, "dampening", 0)
    b = x.momentum * x.b + share * entering(x)
    return {"b": b, "p": x.p - x.lr * b}


def nesterov(x):
    b = x.momentum * x.b + entering(x)
    return {"b": b, "p": x.p - x.lr * (entering(x) + x.momentum * b)}


def adagrad(x):
    s = x.s + entering(x) ** 2
    rate = x.lr / (1 + (x.t - 1) * x.lr_decay)
    return {"s": s, "p": x.p - rate * entering(x) / (x.sqrt(s) + x.eps)}


def rmsprop(x):
    g = entering(x)
    n = x.alpha * x.n + (1 - x.alpha) * g**2
    new = {"n": n}
    if x.centered:
        new["m"] = x.alpha * x.m + (1 - x.alpha) * g
        n = n - new["m"] ** 2
    step = g / (x.sqrt(n) + x.eps)
    if x.momentum != 0:
        step = new["b"] = x.momentum * x.b + step
    return {**new, "p": x.p - x.lr * step}


def adam(x, decoupled=False):
    b1, b2 = x.betas
    g = -x.g if x.maximize else x.g
    g = g if decoupled else g + x.weight_decay * x.p
    m, v = b1 * x.m + (1 - b1) * g, b2 * x.v + (1 - b2) * g**2
    new = {"m": m, "v": v}
    if x.amsgrad:
        v = new["top"] = x.maximum(x.top, v)
    step = m / (1 - b1**x.t) / (x.sqrt(v / (1 - b2**x.t)) + x.eps)
    return {**new, "p": x.p - x.lr * (step + (x.weight_decay * x.p if decoupled else 0))}


def adamw(x):
    return adam(x, decoupled=True)
