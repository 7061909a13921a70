"""The texts of Adafactor's kernels, by the shape of what is factored; `build` compiles them.

    tiny      many matrices of up to `UNROLLED` elements: written out by element, vectors run across
    matrices  one matrix after another, each small enough to stay in the cache
    rows      one large matrix cut into bands of rows: totals, join (columns), squares, descend
    vector    what is not factored

A first pass takes the means of g**2 and leaves the sums of p**2 and U**2 of each row of its table in float64,
a last one steps; between them the host forms each tensor's step length. U is formed anew in each pass, by one
multiplication and one comparison an element,

    1 / sqrt(V) = min(sqrt(mean(R) / R_i) sqrt(1 / C_j), 1 / eps1).

Comparisons are written such that NaN stays; `add` adds in an order that is LLVM's. P, G, R, C and the scratch
B, D are places in memory; a letter r or w before them reads or writes.
"""

from __future__ import annotations

import re
from collections.abc import Iterable

__all__ = ["COLUMNS", "SCALARS", "UNROLLED", "emit"]

COLUMNS = 12
"""Of every table: addresses of P, G, R, C, B, D; then m, n, count, row of scalars, and two more."""

SCALARS = 6
"""Of every tensor: keep, gain, low = eps1, top = 1 / eps1, kept = 1 - lr weight_decay, step."""

UNROLLED = 16

_HEAD = """
def kernel(data):
    rows, table, scalars, sums, mode = data[0], data[1], data[2], data[3], data[4]
    part, parts = {part}
    zero, one = {real}(0.0), {real}(1.0)
    for row in range(rows * part // parts, rows * (part + 1) // parts):
        at = table + {row_bytes} * row
        P, G, R, C, B, D = word(at, 0), word(at, 1), word(at, 2), word(at, 3), word(at, 4), word(at, 5)
        m, n, count, own = word(at, 6), word(at, 7), word(at, 8), scalars + {own_bytes} * word(at, 9)
        keep, gain, low, top = rK(own, 0), rK(own, 1), rK(own, 2), rK(own, 3)
        kept, step = rK(own, 4), rK(own, 5)
"""

_MATRICES = """
        if mode == 0:
            pp, uu = np.float64(0.0), np.float64(0.0)
            for x in range(count):
                for j in range(n):
                    wB(B, j, zero)
                for i in range(m):
                    s, q = zero, zero
                    for j in range(n):
                        g, p = rG(G, (x * m + i) * n + j), rP(P, (x * m + i) * n + j)
                        s = add(s, g * g)
                        q = add(q, p * p)
                        wB(B, j, rB(B, j) + g * g)
                    wR(R, x * m + i, keep * rR(R, x * m + i) + gain / {real}(n) * s)
                    pp += np.float64(q)
                for j in range(n):
                    wC(C, x * n + j, keep * rC(C, x * n + j) + gain / {real}(m) * rB(B, j))
                for j in range(n):
                    wB(B, j, np.sqrt(one / rC(C, x * n + j)))
                mean = zero
                for i in range(m):
                    mean = add(mean, rR(R, x * m + i))
                mean = mean / {real}(m)
                mean = low if mean < low else mean
                for i in range(m):
                    h, s = np.sqrt(mean / rR(R, x * m + i)), zero
                    for j in range(n):
                        f = h * rB(B, j)
                        f = top if f > top else f
                        u = rG(G, (x * m + i) * n + j) * f
                        s = add(s, u * u)
                    uu += np.float64(s)
            write_f8(sums, 2 * row, pp)
            write_f8(sums, 2 * row + 1, uu)
        else:
            for x in range(count):
                for j in range(n):
                    wB(B, j, np.sqrt(one / rC(C, x * n + j)))
                mean = zero
                for i in range(m):
                    mean = add(mean, rR(R, x * m + i))
                mean = mean / {real}(m)
                mean = low if mean < low else mean
                for i in range(m):
                    h = np.sqrt(mean / rR(R, x * m + i))
                    for j in range(n):
                        f, o = h * rB(B, j), (x * m + i) * n + j
                        f = top if f > top else f
                        wP(P, o, kept * rP(P, o) - step * (rG(G, o) * f))
"""

_ROWS = """
        if mode == 0:
            pp = np.float64(0.0)
            for j in range(n):
                wB(B, j, zero)
            for i in range(count):
                s, q = zero, zero
                for j in range(n):
                    g, p = rG(G, i * n + j), rP(P, i * n + j)
                    s = add(s, g * g)
                    q = add(q, p * p)
                    wB(B, j, rB(B, j) + g * g)
                wR(R, i, keep * rR(R, i) + gain / {real}(n) * s)
                pp += np.float64(q)
            write_f8(sums, 2 * row, pp)
        elif mode == 1:
            first, bands = word(at, 10), word(at, 11)
            for j in range(first, first + count):
                wD(D, j, zero)
            for band in range(bands):
                for j in range(first, first + count):
                    wD(D, j, rD(D, j) + rB(B, band * n + j))
            for j in range(first, first + count):
                wC(C, j, keep * rC(C, j) + gain / {real}(m) * rD(D, j))
            for j in range(first, first + count):
                wD(D, j, np.sqrt(one / rC(C, j)))
            if first == 0:
                whole = np.float64(0.0)
                for i in range(m):
                    whole += np.float64(rR(R, i))
                mean = {real}(whole / np.float64(m))
                wD(D, n, low if mean < low else mean)
        elif mode == 2:
            mean, uu = rD(D, n), np.float64(0.0)
            for i in range(count):
                h, s = np.sqrt(mean / rR(R, i)), zero
                for j in range(n):
                    f = h * rD(D, j)
                    f = top if f > top else f
                    u = rG(G, i * n + j) * f
                    s = add(s, u * u)
                uu += np.float64(s)
            write_f8(sums, 2 * row + 1, uu)
        else:
            mean = rD(D, n)
            for i in range(count):
                h = np.sqrt(mean / rR(R, i))
                for j in range(n):
                    f, o = h * rD(D, j), i * n + j
                    f = top if f > top else f
                    wP(P, o, kept * rP(P, o) - step * (rG(G, o) * f))
"""

_VECTOR = """
        least = low * low
        if mode == 0:
            pp, uu = zero, zero
            for i in range(count):
                g, p = rG(G, i), rP(P, i)
                wR(R, i, keep * rR(R, i) + gain * (g * g))
                v = rR(R, i)
                v = least if v < least else v
                pp = add(pp, p * p)
                uu = add(uu, g * g / v)
            write_f8(sums, 2 * row, np.float64(pp))
            write_f8(sums, 2 * row + 1, np.float64(uu))
        else:
            for i in range(count):
                v = rR(R, i)
                v = least if v < least else v
                wP(P, i, kept * rP(P, i) - step * (rG(G, i) / np.sqrt(v)))
"""

_TEXTS = {"matrices": _MATRICES, "rows": _ROWS, "vector": _VECTOR}


def emit(family: str | tuple[int, int], parameter: str, state: str, *, threads: bool) -> str:
    """The source of ``kernel(data)`` for one family of shapes.

    Args:
        family: a name from above, or the (m, n) of tiny matrices.
        parameter: how p and g lie in memory: ``"f4"``, ``"f8"``, or ``"b2"`` for bfloat16.
        state: how the state does.
        threads: whether the kernel asks OpenMP which part of the rows is its own; else ``data`` tells it.
    """
    kind = "f8" if parameter == "f8" else "f4"
    real = "np.float64" if kind == "f8" else "np.float32"
    size = 8 if kind == "f8" else 4
    body = _TEXTS[family] if isinstance(family, str) else _tiny(*family)
    text = (_HEAD + body).format(
        real=real,
        row_bytes=8 * COLUMNS,
        own_bytes=size * SCALARS,
        part="thread(), threads()" if threads else "data[6], data[7]",
    )
    held = {"P": parameter, "G": parameter, "R": state, "C": state, "B": kind, "D": kind}
    places = {name: i for i, name in enumerate(held)}

    def access(found: re.Match[str]) -> str:
        way, name = {"r": "read", "w": "write"}[found[1]], found[2]
        return f"{way}_{kind}(" if name == "K" else f"{way}_{held[name]}_{places[name]}("

    text = re.sub(r"\badd\(", f"add_{kind}(", text)
    return re.sub(r"\b([rw])([PGRCBDK])\(", access, text).lstrip("\n")


def _tiny(m: int, n: int) -> str:
    first, last = _indented(_tiny_first(m, n), 16), _indented(_tiny_last(m, n), 16)
    return f"""
        if mode == 0:
            pp, uu = zero, zero
            for x in range(count):
{first}
            write_f8(sums, 2 * row, np.float64(pp))
            write_f8(sums, 2 * row + 1, np.float64(uu))
        else:
            for x in range(count):
{last}
"""


def _tiny_first(m: int, n: int) -> list[str]:
    every = [(i, j) for i in range(m) for j in range(n)]
    lines = [f"g{i}_{j} = rG(G, x * {m * n} + {i * n + j})" for i, j in every]
    lines += [f"q{i}_{j} = g{i}_{j} * g{i}_{j}" for i, j in every]
    lines += [f"a, b = gain / {{real}}({n}), gain / {{real}}({m})"]
    for i in range(m):
        total = _sum(f"q{i}_{j}" for j in range(n))
        lines += [f"wR(R, x * {m} + {i}, keep * rR(R, x * {m} + {i}) + a * ({total}))"]
    for j in range(n):
        total = _sum(f"q{i}_{j}" for i in range(m))
        lines += [f"wC(C, x * {n} + {j}, keep * rC(C, x * {n} + {j}) + b * ({total}))"]
    lines += _tiny_factors(m, n)
    for i, j in every:
        lines += [f"f = h{i} * k{j}", "f = top if f > top else f", f"u{i}_{j} = g{i}_{j} * f"]
    lines += [f"uu = add(uu, {_sum(f'u{i}_{j} * u{i}_{j}' for i, j in every)})"]
    lines += [f"p{i}_{j} = rP(P, x * {m * n} + {i * n + j})" for i, j in every]
    return [*lines, f"pp = add(pp, {_sum(f'p{i}_{j} * p{i}_{j}' for i, j in every)})"]


def _tiny_last(m: int, n: int) -> list[str]:
    lines = _tiny_factors(m, n)
    for i in range(m):
        for j in range(n):
            o = f"x * {m * n} + {i * n + j}"
            lines += [f"f = h{i} * k{j}", "f = top if f > top else f"]
            lines += [f"wP(P, {o}, kept * rP(P, {o}) - step * (rG(G, {o}) * f))"]
    return lines


def _tiny_factors(m: int, n: int) -> list[str]:
    """The two factors of 1 / sqrt(V): of the rows, with their mean, and of the columns."""
    lines = [f"r{i} = rR(R, x * {m} + {i})" for i in range(m)]
    lines += [f"mean = {{real}}({1 / m!r}) * ({_sum(f'r{i}' for i in range(m))})"]
    lines += ["mean = low if mean < low else mean"]
    lines += [f"h{i} = np.sqrt(mean / r{i})" for i in range(m)]
    return [*lines, *(f"k{j} = np.sqrt(one / rC(C, x * {n} + {j}))" for j in range(n))]


def _sum(terms: Iterable[str]) -> str:
    return " + ".join(terms)


def _indented(lines: list[str], by: int) -> str:
    return "\n".join(" " * by + line for line in lines)
