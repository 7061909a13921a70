"""Methods that add up over a tensor or over everything, once more in float64 numpy, from the papers.

Those of one tensor take (p, its gradients); those of everything take (parameters, for each step the gradient
of each or None). They give the parameters after the steps, and share no code with the package.
"""

from __future__ import annotations

import numpy as np


def norm(xs, order=2.0):
    """The norm of all elements of all arrays together."""
    flat = np.concatenate([np.ravel(x) for x in xs if x is not None])
    return np.linalg.norm(flat, ord=order) if flat.size else 0.0


def clipped_heavy_ball(ps, rows, *, lr, max_norm, norm_type=2.0, momentum=0.9):
    """Pascanu et al. 2013, algorithm 1, with torch's 1e-6; then heavy ball."""
    ps = [np.array(p) for p in ps]
    bs = [None] * len(ps)
    for row in rows:
        shrink = min(1.0, max_norm / (norm(row, norm_type) + 1e-6))
        for i, g in enumerate(row):
            if g is not None:
                bs[i] = shrink * g if bs[i] is None else momentum * bs[i] + shrink * g
                ps[i] = ps[i] - lr * bs[i]
    return ps


def clipped_by_tensor(p, gradients, *, lr, most):
    """Each tensor by its own norm; plain descent."""
    p = np.array(p)
    for g in gradients:
        p = p - lr * g * min(1.0, most / (norm([g]) + 1e-6))
    return p


def clipped_by_value(p, gradients, *, lr, most):
    p = np.array(p)
    for g in gradients:
        p = p - lr * np.clip(g, -most, most)
    return p


def clipped_by_unit(p, gradients, *, lr, clipping, least=1e-3):
    """Brock et al. 2021, equation 3, row by row in a loop."""
    p = np.array(p)
    for g in gradients:
        rows, weights = (np.atleast_2d(g), np.atleast_2d(p)) if g.ndim < 2 else (g, p)
        moved = np.empty_like(rows)
        for i in range(len(rows)):
            most = clipping * max(norm([weights[i]]), least)
            moved[i] = rows[i] if norm([rows[i]]) <= most else most * rows[i] / norm([rows[i]])
        p = p - lr * moved.reshape(p.shape)
    return p


def centralised(p, gradients, *, lr, conv_only=False):
    """Yong et al. 2020, equation 1, filter by filter in a loop."""
    p = np.array(p)
    for g in gradients:
        if g.ndim > (3 if conv_only else 1):
            g = np.stack([row - row.mean() for row in g])
        p = p - lr * g
    return p


def lamb(p, gradients, *, lr, betas=(0.9, 0.999), eps=1e-6, weight_decay=0.01, clamp=(0.0, np.inf),
         adapt=True, maximize=False):  # fmt: skip
    """You et al. 2020, algorithm 2."""
    p = np.array(p)
    b1, b2 = betas
    m = v = 0.0
    for t, g in enumerate(gradients, 1):
        g = -g if maximize else g
        m = b1 * m + (1 - b1) * g
        v = b2 * v + (1 - b2) * g**2
        r = (m / (1 - b1**t)) / (np.sqrt(v / (1 - b2**t)) + eps)
        u = r + weight_decay * p
        weights, steps = norm([p]), norm([u])
        ratio = min(max(weights, clamp[0]), clamp[1]) / steps if adapt and weights > 0 and steps > 0 else 1.0
        p = p - lr * ratio * u
    return p


def lars(p, gradients, *, lr, momentum=0.9, dampening=0.0, weight_decay=0.0, nesterov=False,
         trust_coefficient=1e-3, eps=0.0, adapt=True, maximize=False):  # fmt: skip
    """You, Gitman and Ginsburg 2017, algorithm 1; dampening and Nesterov as torch.optim.SGD has them."""
    p, b = np.array(p), None
    for g in gradients:
        g = -g if maximize else g
        weights, below = norm([p]), norm([g]) + weight_decay * norm([p]) + eps
        local = trust_coefficient * weights / below if adapt and weights > 0 and below > 0 else 1.0
        step = lr * local * (g + weight_decay * p)
        b = step if b is None else momentum * b + (1 - dampening) * step
        p = p - (step + momentum * b if nesterov else b)
    return p


def masked(u, g, least_share, xi):
    """Liang et al. 2024, algorithm 1, with the bound of c_adamw.py and the xi of c_lion.py."""
    phi = (u * g > 0).astype(np.float64)
    return u * phi / max((phi.sum() + xi) / phi.size, least_share) if phi.any() else 0.0 * u


def cautious_adamw(p, gradients, *, lr, betas=(0.9, 0.999), eps=1e-8, weight_decay=0.01, least_share=1e-3,
                   xi=0.0, maximize=False):  # fmt: skip
    p = np.array(p)
    b1, b2 = betas
    m = v = 0.0
    for t, g in enumerate(gradients, 1):
        g = -g if maximize else g
        m = b1 * m + (1 - b1) * g
        v = b2 * v + (1 - b2) * g**2
        u = (m / (1 - b1**t)) / (np.sqrt(v / (1 - b2**t)) + eps)
        p = p - lr * (masked(u, g, least_share, xi) + weight_decay * p)
    return p


def cautious_lion(p, gradients, *, lr, betas=(0.9, 0.99), weight_decay=0.0):
    """Chen et al. 2023, algorithm 2, masked as in c_lion.py."""
    p, m = np.array(p), 0.0
    for g in gradients:
        u = np.sign(betas[0] * m + (1 - betas[0]) * g)
        p = p - lr * (masked(u, g, 0.0, 1.0) + weight_decay * p)
        m = betas[1] * m + (1 - betas[1]) * g
    return p


def cautious_heavy_ball(p, gradients, *, lr, momentum=0.9, least_share=0.0, xi=1.0):
    p, b = np.array(p), None
    for g in gradients:
        b = g if b is None else momentum * b + g
        p = p - lr * masked(b, g, least_share, xi)
    return p


def prodigy(ps, rows, *, lr=1.0, betas=(0.9, 0.999), beta3=None, eps=1e-8, weight_decay=0.0, decouple=True,
            use_bias_correction=False, safeguard_warmup=False, d0=1e-6, d_coef=1.0, growth_rate=np.inf,
            rates=None, ds=None):  # fmt: skip
    """Mishchenko and Defazio 2024, algorithm 4, with the settings of prodigyopt; `rates` gives lr by step."""
    ps, starts = [np.array(p) for p in ps], [None] * len(ps)
    m, v, s = [0.0] * len(ps), [0.0] * len(ps), [0.0] * len(ps)
    b1, b2 = betas
    b3 = np.sqrt(b2) if beta3 is None else beta3
    d = most = d0
    r = k = 0.0
    for n, row in enumerate(rows):
        gamma = lr if rates is None else rates[n]
        unbias = np.sqrt(1 - b2 ** (k + 1)) / (1 - b1 ** (k + 1)) if use_bias_correction else 1.0
        there = [i for i, g in enumerate(row) if g is not None]
        h = {i: row[i] + (0.0 if decouple else weight_decay * ps[i]) for i in there}
        inner = path = 0.0
        for i in there:
            if starts[i] is None:
                starts[i] = ps[i]
            if gamma > 0:
                inner += d / d0 * d * gamma * unbias * np.sum(h[i] * (starts[i] - ps[i]))
                m[i] = b1 * m[i] + (1 - b1) * d * h[i]
                v[i] = b2 * v[i] + (1 - b2) * d**2 * h[i] ** 2
                s[i] = b3 * s[i] + d / d0 * (d if safeguard_warmup else d * gamma * unbias) * h[i]
                path += np.abs(s[i]).sum()
        if path == 0:
            continue
        r = b3 * r + inner
        hat = d_coef * r / path
        larger = max(d, hat) if d == d0 else d
        most = max(most, hat)
        old, d = d, min(most, larger * growth_rate)
        for i in there:
            step = m[i] / (np.sqrt(v[i]) + d * eps) + (weight_decay * ps[i] if decouple else 0.0)
            ps[i] = ps[i] - old * gamma * unbias * step
        k += 1
        if ds is not None:
            ds.append(d)
    return ps
