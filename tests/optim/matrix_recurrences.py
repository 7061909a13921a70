"""Methods of matrices from their papers, in float64 on numpy arrays, roots and eigenvectors by SciPy."""

from __future__ import annotations

import numpy as np
import scipy.linalg


def muon(
    p, gradients, lr, momentum=0.95, nesterov=True, weight_decay=0.1, adjust_lr_fn="match_rms_adamw", **_
):
    """Jordan and others 2024; for fewer than two dimensions AdamW."""
    if p.ndim < 2:
        return adamw(p, gradients, lr, weight_decay)
    shape, b = p.shape, np.zeros_like(p)
    m, n = shape[0], p.size // shape[0]
    factor = 0.2 * max(m, n) ** 0.5 if adjust_lr_fn == "match_rms_adamw" else max(1.0, m / n) ** 0.5
    for g in gradients:
        b = momentum * b + (1 - momentum) * g
        ahead = (1 - momentum) * g + momentum * b if nesterov else b
        step = newton_schulz(ahead.reshape(m, n)).reshape(shape)
        p = p - lr * (weight_decay * p + factor * step)
    return p


def newton_schulz(x, steps=5, a=3.4445, b=-4.7750, c=2.0315):
    """By the singular values, which the iteration moves one by one: s to a s + b s^3 + c s^5."""
    u, s, vt = np.linalg.svd(x, full_matrices=False)
    s = s / np.sqrt((s**2).sum())
    for _ in range(steps):
        s = a * s + b * s**3 + c * s**5
    return u @ np.diag(s) @ vt


def adamw(p, gradients, lr, weight_decay, betas=(0.9, 0.999), eps=1e-8):
    m = v = np.zeros_like(p)
    for t, g in enumerate(gradients, 1):
        m = betas[0] * m + (1 - betas[0]) * g
        v = betas[1] * v + (1 - betas[1]) * g**2
        mhat, vhat = m / (1 - betas[0] ** t), v / (1 - betas[1] ** t)
        p = p - lr * (mhat / (np.sqrt(vhat) + eps) + weight_decay * p)
    return p


def along(tensor, matrix, side):
    """The tensor, multiplied along one of its sides."""
    return np.moveaxis(np.tensordot(matrix, tensor, axes=(1, side)), 0, side)


def outer(g, side):
    """All sides but one contracted, by einsum: ``G_k G_k'``."""
    letters = "abcdef"[: g.ndim]
    other = letters.replace(letters[side], "z")
    return np.einsum(f"{letters},{other}->{letters[side]}z", g, g)


def inverse_root(matrix, power):
    """By SciPy's eigenvalues; of the pseudo-inverse where they are 0 within rounding."""
    values, vectors = scipy.linalg.eigh(matrix)
    held = values > len(values) * np.finfo(float).eps * values[-1]
    powers = np.where(held, np.abs(values), 1.0) ** -power * held
    return vectors @ np.diag(powers) @ vectors.T


def shampoo(
    p,
    gradients,
    lr,
    betas=(0.9, 1.0),
    epsilon=1e-12,
    weight_decay=0.0,
    precondition_frequency=1,
    start_preconditioning_step=None,
    grafting=None,
    momentum=0.0,
    use_decoupled_weight_decay=True,
    **_,
):
    """Gupta and others 2018, algorithm 2, any number of sides; Shi and others 2023 for what is around it."""
    shape, (b1, b2) = p.shape, betas
    p = p.reshape(shape or (1,))
    factors = [np.zeros((n, n)) for n in p.shape]
    roots = [np.eye(n) for n in p.shape]
    m, v, b = np.zeros_like(p), np.zeros_like(p), np.zeros_like(p)
    start = start_preconditioning_step or precondition_frequency
    for t, g in enumerate(gradients, 1):
        g = g.reshape(p.shape)
        g = g if use_decoupled_weight_decay else g + weight_decay * p
        m = b1 * m + (1 - b1) * g
        mhat = m / (1 - b1**t)
        v = 0.999 * v + 0.001 * g**2
        for side in range(p.ndim):
            weight = 1.0 if b2 == 1.0 else 1 - b2
            factors[side] = b2 * factors[side] + weight * outer(g, side)
            if t == start or (t > start and t % precondition_frequency == 0):
                whole = factors[side] / (1.0 if b2 == 1.0 else 1 - b2**t)
                damped = whole + epsilon * np.eye(len(whole))
                roots[side] = inverse_root(damped, 1 / (2 * p.ndim))
        step = mhat
        for side, root in enumerate(roots):
            step = along(step, root, side)
        if grafting is not None:
            adam = mhat / (np.sqrt(v / (1 - 0.999**t)) + 1e-8)
            other = {"sgd": mhat, "adam": adam}[grafting]
            step = step * np.linalg.norm(other) / np.linalg.norm(step) if t >= start else other
        if use_decoupled_weight_decay:
            step = step + weight_decay * p
        b = momentum * b + step
        p = p - lr * b
    return p.reshape(shape)


def soap(
    p,
    gradients,
    lr,
    betas=(0.95, 0.95),
    eps=1e-8,
    weight_decay=0.01,
    precondition_frequency=10,
    max_precond_dim=10000,
    precondition_1d=False,
    **_,
):
    """Vyas and others 2024, algorithm 3, with m in the parameters' own basis as the paper has it."""
    b1, b2 = betas
    if p.ndim < 2 and not precondition_1d:
        return adamw(p, gradients, lr, weight_decay, betas, eps)
    shape = p.shape
    p = p.reshape(shape or (1,))
    sides = [i for i, n in enumerate(p.shape) if n <= max_precond_dim]
    gg = {i: np.zeros((p.shape[i],) * 2) for i in sides}
    q = {i: np.eye(p.shape[i]) for i in sides}
    m, v = np.zeros_like(p), np.zeros_like(p)

    def turned(x, way=1):
        for i in sides:
            x = along(x, q[i].T if way == 1 else q[i], i)
        return x

    for t, g in enumerate(gradients, 1):
        g = g.reshape(p.shape)
        m = b1 * m + (1 - b1) * g
        v = b2 * v + (1 - b2) * turned(g) ** 2
        mhat, vhat = turned(m) / (1 - b1**t), v / (1 - b2**t)
        p = p - lr * (turned(mhat / (np.sqrt(vhat) + eps), -1) + weight_decay * p)
        for i in sides:
            gg[i] = b2 * gg[i] + (1 - b2) * outer(g, i)
            if t == 1:
                q[i] = scipy.linalg.eigh(gg[i])[1][:, ::-1]
            elif t % precondition_frequency == 0:
                order = np.argsort(-np.einsum("ij,ik,kj->j", q[i], gg[i], q[i]), kind="stable")
                q[i] = scipy.linalg.qr(gg[i] @ q[i][:, order])[0]
                v = np.take(v, order, axis=i)
        if t == 1:
            v = (1 - b2) * turned(g) ** 2
    return p.reshape(shape)
