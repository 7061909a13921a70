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


def sparse_adam(x):
    b1, b2 = x.betas
    g = -x.g if x.maximize else x.g
    m, v = b1 * x.m + (1 - b1) * g, b2 * x.v + (1 - b2) * g**2
    root = x.sqrt(1 - b2**x.t)
    return {"m": m, "v": v, "p": x.p - x.lr * root / (1 - b1**x.t) * m / (x.sqrt(v) + x.eps)}


def lamb(x):
    """Of a tensor of one element, whose norm is its size."""
    b1, b2 = x.betas
    m, v = b1 * x.m + (1 - b1) * x.g, b2 * x.v + (1 - b2) * x.g**2
    r = m / (1 - b1**x.t) / (x.sqrt(v / (1 - b2**x.t)) + x.eps) + x.weight_decay * x.p
    return {"m": m, "v": v, "p": x.p - x.lr * x.abs(x.p) / x.abs(r) * r}


def lars(x):
    """Of a tensor of one element."""
    local = x.trust_coefficient * x.abs(x.p) / (x.abs(x.g) + x.weight_decay * x.abs(x.p) + x.eps)
    share = 1 if x.t == 1 else 1 - x.dampening
    b = share * x.lr * local * (x.g + x.weight_decay * x.p) + x.momentum * x.b
    return {"b": b, "p": x.p - b}


def cautious_adamw(x):
    """Of a tensor of one element: it moves, or it does not."""
    b1, b2 = x.betas
    m, v = b1 * x.m + (1 - b1) * x.g, b2 * x.v + (1 - b2) * x.g**2
    u = m / (1 - b1**x.t) / (x.sqrt(v / (1 - b2**x.t)) + x.eps)
    return {"m": m, "v": v, "p": x.p - x.lr * (x.where(u * x.g > 0, u, 0) + x.weight_decay * x.p)}


def cautious_lion(x):
    """Of a tensor of one element, to whose count the authors add one."""
    b1, b2 = x.betas
    u = x.sign(b1 * x.m + (1 - b1) * x.g)
    step = x.where(u * x.g > 0, u / 2, 0)
    return {"m": b2 * x.m + (1 - b2) * x.g, "p": x.p - x.lr * (step + x.weight_decay * x.p)}


def prodigy(x):
    """Of a problem of one parameter."""
    b1, b2 = x.betas
    b3, first = x.sqrt(b2), x.t == 1
    d, most = (x.d0, x.d0) if first else (x.d, x.d_max)
    r = b3 * x.d_numerator + d / x.d0 * d * x.lr * x.g * (x.p0 - x.p)
    s = b3 * x.s + d / x.d0 * d * x.lr * x.g
    hat = x.d_coef * r / x.abs(s)
    new = x.minimum(x.maximum(most, hat), x.growth_rate * (x.maximum(d, hat) if first else d))
    m, v = b1 * x.m + (1 - b1) * d * x.g, b2 * x.v + (1 - b2) * d**2 * x.g**2
    step = d * x.lr * (m / (x.sqrt(v) + new * x.eps) + x.weight_decay * x.p)
    return {
        "m": m,
        "v": v,
        "s": s,
        "d": new,
        "d_max": x.maximum(most, hat),
        "d_numerator": r,
        "p": x.p - step,
    }


def schedule_free(x, d=None):
    """Defazio et al. 2024, eq. 3-5, p being y; `d` is what stands in the place of g."""
    beta = x.momentum if hasattr(x, "momentum") else x.betas[0]
    rate = x.lr
    average = (x.p - (1 - beta) * x.z) / beta
    z = x.z - rate * (x.g if d is None else d)
    own = x.t**x.r * rate**x.weight_lr_power  # the rate is steady: it is its own maximum
    weight = x.weight_sum + own
    c = own / weight
    average = (1 - c) * average + c * z
    return {"z": z, "weight_sum": weight, "p": (1 - beta) * z + beta * average}


def schedule_free_adamw(x):
    v = x.betas[1] * x.v + (1 - x.betas[1]) * x.g**2
    d = x.g / (x.sqrt(v / (1 - x.betas[1] ** x.t)) + x.eps) + x.weight_decay * x.p
    return {"v": v, **schedule_free(x, d)}
