"""The texts of Adafactor's kernels, by the shape of what is factored; `build` compiles them.

    ones      matrices of one element: elements in a row
    (m, n)    many matrices of up to `UNROLLED` elements: LLVM writes their loops out, vectors run across
    lanes     many of more: transposed block by block, so that a vector holds one element of each of several
    matrices  one matrix after another, each small enough to stay in the cache
    rows      one large matrix cut into bands of rows: totals, join (columns), squares, descend
    vector    what is not factored

Stage 0 takes the means of g**2 and leaves the sums of p**2 and U**2 of each row of its table in float64,
stage 1 steps; between them the host forms each tensor's step length, or the kernel itself, where the row is
the whole tensor. U is formed anew in each stage, by one multiplication and one comparison an element,

    1 / sqrt(V) = min(sqrt(mean(R) / R_i) sqrt(1 / C_j), 1 / eps1)
    U**2 = g**2 min(mean(R) / R_i / C_j, 1 / eps1**2), which needs no roots.

Of one element alone V = R C / max(R, eps1), which is C unless R is small.
Comparisons are written such that NaN stays; `add` adds in an order that is LLVM's. P, G, R, C, the scratch A,
B, D, F and the places I are arrays in memory; a letter r or w before them reads or writes. The texts are
short, as numba's time goes by what they say, not by what LLVM makes of it. Of tiny matrices the places are
spelt x times a constant plus a constant, or LLVM finds them by 10 to 20 % slower code.
"""

from __future__ import annotations

import re

__all__ = ["COLUMNS", "SCALARS", "SHARES", "UNROLLED", "emit"]

COLUMNS = 13
"""Of every table: addresses of P, G, R, C and two more; then m, n, count, row of scalars, place, and two
more: of `rows` B and D, and of their joins the first column and how many bands; of `lanes` I of a block of
matrices and of the rest, and how many a block has."""

SCALARS = 10
"""Of every tensor: keep, gain, low = eps1, top = 1 / eps1, kept = 1 - lr weight_decay, step; then what the
step is made of, rate, least = eps2 and d; and most = top**2."""

SHARES = 1 << 20
"""The place of a row is the middle of its elements, in `SHARES` of all: it tells which thread works."""

UNROLLED = 16
"""Elements up to which this beats blocks that are transposed: 3x3 takes .6 of their time, 5x5 1.2."""

_HEAD = """
def kernel(data):
    rows, table, scalars, sums, begin, end = data[0], data[1], data[2], data[3], data[4], data[5]
    part, parts = {part}
    zero, one = {real}(0.0), {real}(1.0)
    for row in range(rows):
        at = table + {row_bytes} * row
        if word(at, 10) * parts // {shares} != part:
            continue
        P, G, R, C = word(at, 0), word(at, 1), word(at, 2), word(at, 3)
        m, n, count, own = word(at, 6), word(at, 7), word(at, 8), scalars + {own_bytes} * word(at, 9)
        keep, gain, low, top, most = rK(own, 0), rK(own, 1), rK(own, 2), rK(own, 3), rK(own, 9)
        kept, step = rK(own, 4), rK(own, 5)
"""

_STAGES = """
        B, pp, uu = data[8] + data[9] * part, np.float64(0.0), np.float64(0.0)
        for stage in range(begin, end):
            if stage > begin:
                root, cut = np.sqrt(pp / (count * m * n)), np.sqrt(uu / (count * m * n)) / rK(own, 8)
                least = np.float64(rK(own, 7))
                root, cut = root if root > least else least, cut if cut > 1.0 else 1.0
                step = {real}(rK(own, 6) * root / cut)
{stages}
        if begin == 0:
            write_f8(sums, 2 * row, pp)
            write_f8(sums, 2 * row + 1, uu)
"""
"""Around the families whose two stages may follow one another at once."""

_ELEMENTS = """
            for first in range(0, count, 4096):
                last = first + 4096 if first + 4096 < count else count
                if stage == 0:
                    p2, u2 = zero, zero
                    for i in range(first, last):
                        g, p = rG(G, i), rP(P, i)
                        q = g * g
                        {remember}
                        {v}
                        v = low * low if v < low * low else v
                        p2 = add(p2, p * p)
                        u2 = add(u2, q / v)
                    pp += np.float64(p2)
                    uu += np.float64(u2)
                else:
                    for i in range(first, last):
                        {v}
                        v = low * low if v < low * low else v
                        wP(P, i, kept * rP(P, i) - step * (rG(G, i) / np.sqrt(v)))
"""

_R, _C = (f"w{name}({name}, i, keep * r{name}({name}, i) + gain * q)" for name in "RC")
_VECTOR = _ELEMENTS.replace("{remember}", _R).replace("{v}", "v = rR(R, i)")
_ONES = _ELEMENTS.replace("{remember}", f"{_R}; {_C}").replace(
    "{v}", "v = rC(C, i) * (one if rR(R, i) >= low else rR(R, i) * top)"
)

_TINY = """
            for first in range(0, count, 2048):
                last = first + 2048 if first + 2048 < count else count
                if stage == 0:
                    p2, u2 = zero, zero
                    for x in range(first, last):
                        mean = zero
                        for i in range({m}):
                            s = zero
                            for j in range({n}):
                                g = rG(G, x * {mn} + (i * {n} + j))
                                s += g * g
                            wR(R, x * {m} + i, keep * rR(R, x * {m} + i) + gain * {real}(1.0 / {n}) * s)
                            mean += rR(R, x * {m} + i)
                        mean = mean * {real}(1.0 / {m})
                        mean = low if mean < low else mean
                        for j in range({n}):
                            s = zero
                            for i in range({m}):
                                g = rG(G, x * {mn} + (i * {n} + j))
                                s += g * g
                            wC(C, x * {n} + j, keep * rC(C, x * {n} + j) + gain * {real}(1.0 / {m}) * s)
                        for i in range({m}):
                            for j in range({n}):
                                f = mean / rR(R, x * {m} + i) * (one / rC(C, x * {n} + j))
                                f = most if f > most else f
                                g, p = rG(G, x * {mn} + (i * {n} + j)), rP(P, x * {mn} + (i * {n} + j))
                                u2 = add(u2, g * g * f)
                                p2 = add(p2, p * p)
                    pp += np.float64(p2)
                    uu += np.float64(u2)
                else:
                    for x in range(first, last):
                        mean = zero
                        for i in range({m}):
                            mean += rR(R, x * {m} + i)
                        mean = mean * {real}(1.0 / {m})
                        mean = low if mean < low else mean
                        for i in range({m}):
                            for j in range({n}):
                                f = np.sqrt(mean / rR(R, x * {m} + i)) * np.sqrt(one / rC(C, x * {n} + j))
                                f, o = top if f > top else f, x * {mn} + (i * {n} + j)
                                wP(P, o, kept * rP(P, o) - step * (rG(G, o) * f))
"""

_LANES = """
            I, width, size = word(at, 5), word(at, 11), m * n
            for first in range(0, count, width):
                if first + width > count:
                    I, width = word(at, 12), count - first
                D = B + {real_bytes} * size * width
                A, F = D + {real_bytes} * (m + n) * width, D + {real_bytes} * (m + n + size) * width
                Px, Gx = P + {p_bytes} * first * size, G + {p_bytes} * first * size
                limit, p2, u2 = top, zero, zero
                if stage == 0:
                    limit = most
                    for o in range(size * width):
                        g, p = rG(Gx, o), rP(Px, o)
                        wA(A, o, g * g)
                        p2 = add(p2, p * p)
                    for o in range((m + n) * width):
                        wD(D, o, zero)
                    for i in range(m):
                        for j in range(n):
                            o, y, z = (i * n + j) * width, i * width, (m + j) * width
                            for x in range(width):
                                q = rA(A, rI(I, o + x))
                                wB(B, o + x, q)
                                wD(D, y + x, rD(D, y + x) + q)
                                wD(D, z + x, rD(D, z + x) + q)
                for side in range(2):
                    k, S, X, Y = m, R + {r_bytes} * first * m, D, I + 8 * size * width
                    if side == 1:
                        k, S = n, C + {r_bytes} * first * n
                        X, Y = X + {real_bytes} * m * width, Y + 8 * m * width
                    if stage == 0:
                        share = gain / {real}(size // k)
                        for o in range(k * width):
                            wR(S, o, keep * rR(S, o) + share * rD(X, rI(Y, k * width + o)))
                    for o in range(k * width):
                        wD(X, o, rR(S, rI(Y, o)))
                for x in range(width):
                    wF(F, x, zero)
                for i in range(m):
                    for x in range(width):
                        wF(F, x, rF(F, x) + rD(D, i * width + x))
                for x in range(width):
                    mean = rF(F, x) / {real}(m)
                    wF(F, x, low if mean < low else mean)
                for i in range(m):
                    for x in range(width):
                        wD(D, i * width + x, rF(F, x) / rD(D, i * width + x))
                for o in range(m * width, (m + n) * width):
                    wD(D, o, one / rD(D, o))
                if stage == 1:
                    for o in range((m + n) * width):
                        wD(D, o, np.sqrt(rD(D, o)))
                for i in range(m):
                    for j in range(n):
                        o, y, z = (i * n + j) * width, i * width, (m + j) * width
                        for x in range(width):
                            f = rD(D, y + x) * rD(D, z + x)
                            f = limit if f > limit else f
                            u2 = add(u2, rB(B, o + x) * f)
                            wB(B, o + x, f)
                if stage == 0:
                    pp += np.float64(p2)
                    uu += np.float64(u2)
                else:
                    for o in range(size * width):
                        f = rB(B, rI(I, size * width + o))
                        wP(Px, o, kept * rP(Px, o) - step * (rG(Gx, o) * f))
"""

_MATRICES = """
            if stage == 0:
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
                        wB(B, j, one / rC(C, x * n + j))
                    mean = zero
                    for i in range(m):
                        mean = add(mean, rR(R, x * m + i))
                    mean = mean / {real}(m)
                    mean = low if mean < low else mean
                    for i in range(m):
                        h, s = mean / rR(R, x * m + i), zero
                        for j in range(n):
                            f = h * rB(B, j)
                            f = most if f > most else f
                            s = add(s, rG(G, (x * m + i) * n + j) * rG(G, (x * m + i) * n + j) * f)
                        uu += np.float64(s)
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
        B, D = word(at, 4), word(at, 5)
        if begin == 0:
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
        elif begin == 1:
            first, bands = word(at, 11), word(at, 12)
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
        elif begin == 2:
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

_TEXTS = {"ones": _ONES, "lanes": _LANES, "matrices": _MATRICES, "rows": _ROWS, "vector": _VECTOR}


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
    m, n = (1, 1) if isinstance(family, str) else family
    stages = _TEXTS[family] if isinstance(family, str) else _TINY
    body = stages if family == "rows" else _STAGES.replace("{stages}", stages.strip("\n"))
    text = (_HEAD + body).format(
        m=m,
        n=n,
        mn=m * n,
        real=real,
        real_bytes=_BYTES[kind],
        p_bytes=_BYTES[parameter],
        r_bytes=_BYTES[state],
        row_bytes=8 * COLUMNS,
        own_bytes=_BYTES[kind] * SCALARS,
        shares=SHARES,
        part="thread(), threads()" if threads else "data[6], data[7]",
    )
    held = {"P": parameter, "G": parameter, "R": state, "C": state, **dict.fromkeys("ABDF", kind), "I": "i4"}
    places = {name: i for i, name in enumerate(held)}

    def access(found: re.Match[str]) -> str:
        way, name = {"r": "read", "w": "write"}[found[1]], found[2]
        return f"{way}_{kind}(" if name == "K" else f"{way}_{held[name]}_{places[name]}("

    text = re.sub(r"\badd\(", f"add_{kind}(", text)
    return re.sub(r"\b([rw])([PGRCABDFIK])\(", access, text).lstrip("\n")


_BYTES = {"f4": 4, "f8": 8, "b2": 2}
