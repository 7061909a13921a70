"""The methods once more, in float64 numpy, written from the papers; they share no code with the package."""

from __future__ import annotations

import numpy as np


def sgd(p, gradients, *, lr, momentum=0.0, dampening=0.0, weight_decay=0.0, nesterov=False, maximize=False):
    """Sutskever et al. 2013, eq. 1-4, in the variables of torch's documentation."""
    p, b = np.array(p, dtype=np.float64), None
    for g in gradients:
        g = (-g if maximize else g) + weight_decay * p
        b = g if b is None else momentum * b + (1 - dampening) * g
        d = g + momentum * b if nesterov else (b if momentum else g)
        p = p - lr * d
    return p


def adagrad(p, gradients, *, lr, lr_decay=0.0, weight_decay=0.0, start=0.0, eps=1e-10, maximize=False):
    """Duchi, Hazan and Singer 2011, figure 1, diagonal."""
    p = np.array(p, dtype=np.float64)
    s = np.full_like(p, start)
    for t, g in enumerate(gradients):
        g = (-g if maximize else g) + weight_decay * p
        s = s + g**2
        p = p - lr / (1 + t * lr_decay) * g / (np.sqrt(s) + eps)
    return p


def rmsprop(
    p, gradients, *, lr, alpha=0.99, eps=1e-8, weight_decay=0.0, momentum=0.0, centered=False, maximize=False
):
    """Graves 2013, eq. 38-45, with eps outside of the root."""
    p = np.array(p, dtype=np.float64)
    n, m, b = np.zeros_like(p), np.zeros_like(p), np.zeros_like(p)
    for g in gradients:
        g = (-g if maximize else g) + weight_decay * p
        n = alpha * n + (1 - alpha) * g**2
        m = alpha * m + (1 - alpha) * g
        variance = n - m**2 if centered else n
        b = momentum * b + g / (np.sqrt(variance) + eps)
        p = p - lr * b
    return p


def adam(p, gradients, *, lr, betas=(0.9, 0.999), eps=1e-8, l2=0.0, decay=0.0, amsgrad=False, maximize=False):
    """Kingma and Ba 2015, algorithm 1; Loshchilov and Hutter 2019, algorithm 2.

    With amsgrad, Reddi, Kale and Kumar 2018, algorithm 2, debiased.
    """
    p = np.array(p, dtype=np.float64)
    m, v, top = np.zeros_like(p), np.zeros_like(p), np.zeros_like(p)
    for t, g in enumerate(gradients, start=1):
        g = (-g if maximize else g) + l2 * p
        m = betas[0] * m + (1 - betas[0]) * g
        v = betas[1] * v + (1 - betas[1]) * g**2
        top = np.maximum(top, v)
        mhat, vhat = m / (1 - betas[0] ** t), (top if amsgrad else v) / (1 - betas[1] ** t)
        p = p - lr * (mhat / (np.sqrt(vhat) + eps) + decay * p)
    return p


def adafactor(
    p, gradients, *, lr=1e-2, beta2_decay=-0.8, eps=(None, 1e-3), d=1.0, weight_decay=0.0, matrix=False,
    maximize=False,
):  # fmt: skip
    """Shazeer and Stern 2018, algorithms 4 and 5, with eps1 and lr where torch has them."""
    p = np.array(p, dtype=np.float64)
    shape = p.shape
    if matrix and p.ndim > 2:
        p = p.reshape(len(p), -1)
    low = np.finfo(np.float64).eps if eps[0] is None else eps[0]
    rows, columns, square = 0.0, 0.0, 0.0
    for t, g in enumerate(gradients, start=1):
        g = np.reshape(-g if maximize else g, p.shape)
        b = 1 - t**beta2_decay
        if p.ndim > 1:
            rows = b * rows + (1 - b) * (g**2).mean(-1)
            columns = b * columns + (1 - b) * (g**2).mean(-2)
            mean = np.maximum(rows.mean(-1), low)
            v = np.einsum("...i,...j,...->...ij", rows, columns, 1 / mean)
        else:
            square = v = b * square + (1 - b) * g**2
        u = g / np.maximum(np.sqrt(v), low)
        size, cut = np.sqrt((p**2).mean()), max(1.0, np.sqrt((u**2).mean()) / d)
        p = p - lr * weight_decay * p - max(eps[1], size) * min(lr, 1 / np.sqrt(t)) * u / cut
    return p.reshape(shape)
