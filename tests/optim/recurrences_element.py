"""The later element-wise methods once more, in float64 numpy, written from the papers."""

from __future__ import annotations

import numpy as np


def averaged(p, gradients, *, lr, momentum=0.9, weight_decay=0.0, debias=False, maximize=False):
    """The exponential average of the gradients from zero, over the sum of its weights if debiased."""
    p, seen = np.array(p, dtype=np.float64), []
    for t, g in enumerate(gradients):
        seen.append((-g if maximize else g) + weight_decay * p)
        weights = (1 - momentum) * momentum ** np.arange(t, -1, -1.0)
        mean = sum(w * g for w, g in zip(weights, seen, strict=True))
        p = p - lr * mean / (weights.sum() if debias else 1.0)
    return p


def adadelta(p, gradients, *, lr=1.0, rho=0.9, eps=1e-6, weight_decay=0.0, maximize=False):
    """Zeiler 2012, algorithm 1, with a rate."""
    p = np.array(p, dtype=np.float64)
    squares, steps = np.zeros_like(p), np.zeros_like(p)
    for g in gradients:
        g = (-g if maximize else g) + weight_decay * p
        squares = rho * squares + (1 - rho) * g**2
        step = -np.sqrt(steps + eps) / np.sqrt(squares + eps) * g
        steps = rho * steps + (1 - rho) * step**2
        p = p + lr * step
    return p


def adamax(p, gradients, *, lr=2e-3, betas=(0.9, 0.999), eps=1e-8, weight_decay=0.0, maximize=False):
    """Kingma and Ba 2015, algorithm 2, with torch's eps beside the gradient."""
    p = np.array(p, dtype=np.float64)
    m, u = np.zeros_like(p), np.zeros_like(p)
    for t, g in enumerate(gradients, start=1):
        g = (-g if maximize else g) + weight_decay * p
        m = betas[0] * m + (1 - betas[0]) * g
        u = np.maximum(betas[1] * u, np.abs(g) + eps)
        p = p - lr / (1 - betas[0] ** t) * m / u
    return p


def nadam(
    p, gradients, *, lr=2e-3, betas=(0.9, 0.999), eps=1e-8, weight_decay=0.0, momentum_decay=4e-3,
    decoupled_weight_decay=False, maximize=False,
):  # fmt: skip
    """Dozat 2016 in torch's documentation; the product of the momenta is formed anew at every step."""
    p = np.array(p, dtype=np.float64)
    m, v = np.zeros_like(p), np.zeros_like(p)
    mu = [betas[0] * (1 - 0.96 ** (t * momentum_decay) / 2) for t in range(1, len(gradients) + 2)]
    for t, g in enumerate(gradients, start=1):
        g = -g if maximize else g
        if decoupled_weight_decay:
            p = p - lr * weight_decay * p
        else:
            g = g + weight_decay * p
        m = betas[0] * m + (1 - betas[0]) * g
        v = betas[1] * v + (1 - betas[1]) * g**2
        mhat = mu[t] * m / (1 - np.prod(mu[: t + 1])) + (1 - mu[t - 1]) * g / (1 - np.prod(mu[:t]))
        p = p - lr * mhat / (np.sqrt(v / (1 - betas[1] ** t)) + eps)
    return p


def rectified(t, b2):
    """Liu et al. 2020, algorithm 2: the rectification of step t, None where the scale waits."""
    longest = 2 / (1 - b2) - 1
    length = longest - 2 * t * b2**t / (1 - b2**t)
    if length <= 5:
        return None
    return np.sqrt((length - 4) * (length - 2) * longest / ((longest - 4) * (longest - 2) * length))


def radam(
    p, gradients, *, lr=1e-3, betas=(0.9, 0.999), eps=1e-8, weight_decay=0.0, decoupled_weight_decay=False,
    maximize=False,
):  # fmt: skip
    """Liu et al. 2020, algorithm 2, with torch's eps and threshold."""
    p = np.array(p, dtype=np.float64)
    m, v = np.zeros_like(p), np.zeros_like(p)
    for t, g in enumerate(gradients, start=1):
        g = -g if maximize else g
        if decoupled_weight_decay:
            p = (1 - lr * weight_decay) * p
        else:
            g = g + weight_decay * p
        m = betas[0] * m + (1 - betas[0]) * g
        v = betas[1] * v + (1 - betas[1]) * g**2
        mhat, r = m / (1 - betas[0] ** t), rectified(t, betas[1])
        if r is None:
            p = p - lr * mhat
        else:
            p = p - lr * r * mhat * np.sqrt(1 - betas[1] ** t) / (np.sqrt(v) + eps)
    return p


def adabelief(
    p, gradients, *, lr=1e-3, betas=(0.9, 0.999), eps=1e-16, weight_decay=0.0, decoupled_weight_decay=True,
    eps_root=None, rectify=False, maximize=False,
):  # fmt: skip
    """Zhuang et al. 2020, algorithm 2; rectified as their code does."""
    p = np.array(p, dtype=np.float64)
    m, s = np.zeros_like(p), np.zeros_like(p)
    for t, g in enumerate(gradients, start=1):
        g = -g if maximize else g
        if decoupled_weight_decay:
            p = p * (1 - lr * weight_decay)
        else:
            g = g + weight_decay * p
        m = betas[0] * m + (1 - betas[0]) * g
        s = betas[1] * s + (1 - betas[1]) * (g - m) ** 2 + (eps if eps_root is None else eps_root)
        mhat, left = m / (1 - betas[0] ** t), 1 - betas[1] ** t
        r = rectified(t, betas[1]) if rectify else None
        if not rectify:
            p = p - lr * mhat / (np.sqrt(s / left) + eps)
        elif r is None:
            p = p - lr * mhat
        else:
            p = p - lr * r * np.sqrt(left) * mhat / (np.sqrt(s) + eps)
    return p


def adan(
    p, gradients, *, lr=1e-3, betas=(0.98, 0.92, 0.99), eps=1e-8, weight_decay=0.0, no_prox=False,
    maximize=False,
):  # fmt: skip
    """Xie et al. 2022, algorithm 1, in the paper's betas, the shares of what is new."""
    p = np.array(p, dtype=np.float64)
    new = [1 - b for b in betas]
    m, v, n, last = np.zeros_like(p), np.zeros_like(p), np.zeros_like(p), None
    for t, g in enumerate(gradients, start=1):
        g = -g if maximize else g
        change = np.zeros_like(p) if last is None else g - last
        m = (1 - new[0]) * m + new[0] * g
        v = (1 - new[1]) * v + new[1] * change
        n = (1 - new[2]) * n + new[2] * (g + (1 - new[1]) * change) ** 2
        mhat, vhat, nhat = (x / (1 - b**t) for x, b in zip((m, v, n), betas, strict=True))
        step = lr / (np.sqrt(nhat) + eps) * (mhat + (1 - new[1]) * vhat)
        p = (1 - lr * weight_decay) * p - step if no_prox else (p - step) / (1 + lr * weight_decay)
        last = g
    return p


def ademamix(
    p, gradients, *, lr=1e-3, betas=(0.9, 0.999, 0.9999), alpha=2.0, beta3_warmup=None, alpha_warmup=None,
    eps=1e-8, weight_decay=0.0, maximize=False,
):  # fmt: skip
    """Pagliardini et al. 2024, algorithm 1, and its two schedulers as the text has them."""
    p = np.array(p, dtype=np.float64)
    fast, slow, v = np.zeros_like(p), np.zeros_like(p), np.zeros_like(p)
    first, second, third = betas
    for t, g in enumerate(gradients, start=1):
        g = -g if maximize else g
        weight = alpha if alpha_warmup is None else min(t * alpha / alpha_warmup, alpha)
        decay = third
        if beta3_warmup is not None:
            part = t / beta3_warmup
            below = (1 - part) * np.log(third) + part * np.log(first)
            decay = min(np.exp(np.log(first) * np.log(third) / below), third) if part < 1 else third
        fast = first * fast + (1 - first) * g
        slow = decay * slow + (1 - decay) * g
        v = second * v + (1 - second) * g**2
        root = np.sqrt(v / (1 - second**t)) + eps
        p = p - lr * ((fast / (1 - first**t) + weight * slow) / root + weight_decay * p)
    return p


def lion(p, gradients, *, lr=1e-4, betas=(0.9, 0.99), weight_decay=0.0, maximize=False):
    """Chen et al. 2023, algorithm 2."""
    p = np.array(p, dtype=np.float64)
    m = np.zeros_like(p)
    for g in gradients:
        g = -g if maximize else g
        c = betas[0] * m + (1 - betas[0]) * g
        p = p - lr * (np.sign(c) + weight_decay * p)
        m = betas[1] * m + (1 - betas[1]) * g
    return p


def signum(
    p, gradients, *, lr=1e-3, momentum=0.9, weight_decay=0.0, decoupled_weight_decay=False, maximize=False
):
    """Bernstein et al. 2018, Signum."""
    p = np.array(p, dtype=np.float64)
    m = np.zeros_like(p)
    for g in gradients:
        g = -g if maximize else g
        m = momentum * m + (1 - momentum) * (g if decoupled_weight_decay else g + weight_decay * p)
        p = p - lr * (np.sign(m) + (weight_decay * p if decoupled_weight_decay else 0.0))
    return p
