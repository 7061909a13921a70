"""The text of one loop for a traced chain, which numba compiles.

    for every row of the address table that is this thread's:
        for every element of the row: p, g, state -> p, state

Beside the update there is one loop for each link that wants sums: it evaluates the chain up to that link,
writes no tensor, and leaves the row's totals in float64. Those of float32 are added in short blocks of their
own type, at twice the width of float64's vectors; a row whose total is not finite is formed and added again
in float64, since a square, or a block, may overflow where the row does not. Largest elements are found among
the bits as whole numbers: so compared, NaN is the largest of all. Rows, and the elements of a row, are added
in one order, whatever the number of threads.

A chain whose step is the number 0 leaves p alone, and writes its states.

A row of the table is (p, g, elements, elements before it, row of scalars, state 0, state 1, ...), and, where
bfloat16 is rounded by chance, two words from which its random bits are drawn. Where p is the float32 copy of
a parameter of half precision, that one stands after the states; what it holds counts, unless it is the copy
rounded. A row of the scalars holds the sign of ``maximize`` and what the rules read. Literals are of the
loop's own type, as a float64 among float32 would halve its speed. NaN stays NaN: torch's maximum gives it
from either side, torch's sign gives 0.
"""

from __future__ import annotations

import copy
import math
from collections.abc import Sequence

from downslope.optim.kernel.trace import Arg, Op, Program, Traced

__all__ = ["COLUMNS", "NARROW", "STORAGE", "emit"]

COLUMNS = 5
"""Of the table, before the states."""

BLOCK = 512
"""Elements that are added in float32 before their sum goes to float64: so few that vectors of eight and more
round it a dozen times at most, so many that the conversion costs nothing."""

STORAGE = {"float32": "f4", "float64": "f8", "bfloat16": "b2"}
"""What tensors may be, and what the reading and writing functions call it."""

NARROW = {"bfloat16": "b2", "float16": "h2"}
"""What parameters that have a float32 copy may be."""

_INFIX = {
    "add": "+", "sub": "-", "mul": "*", "truediv": "/", "gt": ">", "ge": ">=", "lt": "<", "le": "<=",
    "eq": "==", "ne": "!=",
}  # fmt: skip
_CALLS = {"sqrt": "np.sqrt", "abs": "abs", "maximum": "np.maximum", "minimum": "np.minimum"}


def emit(
    traced: Traced,
    storage: Sequence[str],
    *,
    threads: bool,
    chance: bool = False,
    squares: int | None = None,
    grad: str = "",
    owner: str = "",
) -> str:
    """The source of ``kernel(data)`` for a chain.

    Args:
        traced: its programs.
        storage: of p and of every state, as in `STORAGE`.
        threads: whether the kernel asks OpenMP which part of the rows is its own; else ``data`` tells it.
        chance: whether bfloat16 is rounded by chance.
        squares: the state, by its position, of which the update adds up the squares as they were written.
        grad: storage of g, where it is not p's, as in `NARROW`.
        owner: storage, as in `NARROW`, of the parameter of which p is the copy; "" where it stays as it is.
    """
    return _Text(traced, storage, grad or storage[0], owner, chance=chance, squares=squares).whole(threads)


class _Text:
    def __init__(
        self,
        traced: Traced,
        storage: Sequence[str],
        grad: str,
        owner: str,
        *,
        chance: bool,
        squares: int | None,
    ) -> None:
        self.traced, self.storage, self.chance, self.squares = traced, storage, chance, squares
        self.grad, self.owner = grad, owner
        self.columns = COLUMNS + traced.states + 2 * chance + bool(owner)
        self.wide = storage[0] == "f8"
        self.real = "np.float64" if self.wide else "np.float32"
        self.kind = "f8" if self.wide else "f4"
        self.scalars = ["sign", *traced.scalars]
        self.narrow: _Text | None = None

    def whole(self, threads: bool) -> str:
        part = "part, parts = thread(), threads()" if threads else "part, parts = data[6], data[7]"
        lines = [
            "def kernel(data):",
            "    rows, table, scalars = data[0], data[1], data[2]",
            "    sums, mode, total = data[3], data[4], data[5]",
            f"    {part}",
            "    first, last = total * part // parts, total * (part + 1) // parts",
            f"    zero, one = {self.real}(0.0), {self.real}(1.0)",
            "    for row in range(rows):",
            f"        at = table + {8 * self.columns} * row",
            "        if word(at, 3) < first or word(at, 3) >= last:",
            "            continue",
            "        P, G, n = word(at, 0), word(at, 1), word(at, 2)",
            *(f"        S{i} = word(at, {COLUMNS + i})" for i in range(self.traced.states)),
            *([f"        Q = word(at, {COLUMNS + self.traced.states})"] if self.owner else []),
            f"        K = scalars + {(8 if self.wide else 4) * len(self.scalars)} * word(at, 4)",
            *(f"        {name} = read_{self.kind}(K, {i})" for i, name in enumerate(self.scalars)),
        ]
        for mode, program in enumerate(self.traced.measures.values(), 1):
            lines += [f"        if mode == {mode}:", *(f"    {line}" for line in self._measure(program))]
        if self.traced.measures:
            lines += ["        if mode == 0:", *(f"    {line}" for line in self._update())]
        else:
            lines += self._update()
        return "\n".join([*lines, ""])

    def _update(self) -> list[str]:
        step, *states = self.traced.update.results
        body = self._body(self.traced.update, {"p"} if step != 0.0 else set())
        written: list[tuple[int, str]] = []
        for i, (result, storage) in enumerate(zip(states, self.storage[1:], strict=True)):
            if result != f"s{i}":
                written.append((1 + i, f"_{2 + i}(S{i}, i, {self._stored(result, storage)}"))
        new = f"p - {self._real(step)}"
        if self.owner:
            body.append(f"new = {new}")
            body.append(f"write_{self.owner}_{2 + self.traced.states}(Q, i, new)")
            new = "new"
        if step != 0.0:
            written.append((0, f"_0(P, i, {new}"))
        by_chance = [i for i, _ in written if self.chance and self.storage[i] == "b2"]
        pairs = sorted({i // 2 for i in by_chance})  # of 32 bits, two arrays take 16 each
        body += [f"w{j} = draw(A, B{j}, i)" for j in pairs]
        for i, rest in written:
            way = "write" if i not in by_chance else ("lower", "upper")[i % 2]
            body.append(f"{way}_{self.storage[i]}{rest}{f', w{i // 2})' if i in by_chance else ')'}")
        start = [f"A = word(at, {self.columns - 2})"] if pairs else []
        start += [f"B{j} = word(at, {self.columns - 1}) ^ {j}" for j in pairs]
        if self.squares is not None:
            return _deeper(_deeper([*start, *self._squared(body, self.squares)]))
        return [
            *(f"        {line}" for line in start),
            "        for i in range(n):",
            *(f"            {line}" for line in body),
        ]

    def _squared(self, body: list[str], state: int) -> list[str]:
        """The loop with `body` that adds up squares of a state too, as `_totals` does."""
        x = self._read(2 + state, f"S{state}", self.storage[1 + state])
        block = [
            "part = zero",
            f"for i in range(block, min(block + {BLOCK}, n)):",
            *_deeper([*body, f"x = {x}", f"part = add_{self.kind}(part, x * x)"]),
            "total = total + np.float64(part)",
        ]
        again = ["total = np.float64(0.0)", "for i in range(n):", f"    x = np.float64({x})"]
        return [
            "total = np.float64(0.0)",
            f"for block in range(0, n, {BLOCK}):",
            *_deeper(block),
            "if not abs(total) < np.inf:",
            *_deeper([*again, "    total = add_f8(total, x * x)"]),
            "write_f8(sums, row, total)",
        ]

    def _measure(self, program: Program) -> list[str]:
        sums = [f"total{i}" for i, peak in enumerate(program.peaks) if not peak]
        lines = self._totals(program, exact=True)
        if sums and not self.wide:
            held = " and ".join(f"abs({name}) < np.inf" for name in sums)
            again = self._widened()._totals(program, exact=True)
            lines = [*self._totals(program, exact=False), f"if not ({held}):", *_deeper(again)]
        count = len(program.results)
        lines += [f"write_f8(sums, {count} * row + {i}, total{i})" for i in range(count)]
        return _deeper(_deeper(lines))

    def _widened(self) -> _Text:
        """The same with elements in float64, where the squares of float32 are not infinite."""
        wide = copy.copy(self)
        wide.wide, wide.real, wide.narrow = True, "np.float64", self
        return wide

    def _totals(self, program: Program, *, exact: bool) -> list[str]:
        """The loop that forms a row's totals: in float64, or by blocks of float32, which may overflow."""
        start: list[str] = []
        body = self._body(program, set())
        sums: list[int] = []
        end: list[str] = []
        for i, (arg, peak) in enumerate(zip(program.results, program.peaks, strict=True)):
            x = self._real(arg)
            if peak:
                start.append(f"most{i} = bits_{self.kind}(zero)")
                x = x if self.wide == (self.kind == "f8") else f"np.float32({x})"
                body += [f"bits{i} = bits_{self.kind}({x})", f"most{i} = max(most{i}, bits{i})"]
                end.append(f"total{i} = np.float64(number_{self.kind}(most{i}))")
            else:
                sums.append(i)
                start.append(f"total{i} = np.float64(0.0)")
                wide = f"total{i} = add_f8(total{i}, np.float64({x}))"
                body.append(wide if exact else f"part{i} = add_f4(part{i}, {x})")
        if exact:
            return [*start, "for i in range(n):", *_deeper(body), *end]
        block = [
            *(f"part{i} = zero" for i in sums),
            f"for i in range(block, min(block + {BLOCK}, n)):",
            *_deeper(body),
            *(f"total{i} = total{i} + np.float64(part{i})" for i in sums),
        ]
        return [*start, f"for block in range(0, n, {BLOCK}):", *_deeper(block), *end]

    def _body(self, program: Program, also: set[str]) -> list[str]:
        """Reading and the operations, for one element."""
        self.truths = {op.name for op in program.ops if op.truth}
        self.made = {op.name for op in program.ops}
        needs = program.reads | also
        lines: list[str] = []
        if "p" in needs:
            lines += self._held()
        if "g" in needs:
            lines.append(f"g = sign * {self._read(1, 'G', self.grad)}")
        for i, storage in enumerate(self.storage[1:]):
            if f"s{i}" in needs:
                lines.append(f"s{i} = {self._read(2 + i, f'S{i}', storage)}")
        return [*lines, *(f"v_{op.name} = {self._expression(op)}" for op in program.ops)]

    def _held(self) -> list[str]:
        """Reading p, which what was written into its owner from outside replaces."""
        if self.narrow is not None and self.owner:
            return [*self.narrow._held(), "p = np.float64(p)"]
        read = self._read(0, "P", self.storage[0])
        if not self.owner:
            return [f"p = {read}"]
        narrow = self._read(2 + self.traced.states, "Q", self.owner)
        return [f"copy = {read}", f"q = {narrow}", f"p = copy if near_{self.owner}(copy) == q else q"]

    def _read(self, place: int, base: str, storage: str) -> str:
        text = f"read_{storage}_{place}({base}, i)"
        return text if (storage == "f8") == self.wide else f"{self.real}({text})"

    def _stored(self, arg: Arg, storage: str) -> str:
        text = self._real(arg)
        if (storage == "f8") == self.wide:
            return text
        return f"np.float64({text})" if storage == "f8" else f"np.float32({text})"

    def _expression(self, op: Op) -> str:
        match op.kind:
            case "where":
                return f"{self._real(op.args[1])} if {self._truth(op.args[0])} else {self._real(op.args[2])}"
            case "and_" | "or_":
                return f" {op.kind[:-1]} ".join(self._truth(arg) for arg in op.args)
            case "invert":
                return f"not {self._truth(op.args[0])}"
            case "neg":
                return f"-{self._real(op.args[0])}"
            case "float":
                return self._real(op.args[0])
            case "square":
                return f"{self._real(op.args[0])} * {self._real(op.args[0])}"
            case "sign":
                x = self._real(op.args[0])
                return f"(one if {x} > zero else zero) - (one if {x} < zero else zero)"
            case _:
                args = [self._real(arg) for arg in op.args]
                if op.kind in _CALLS:
                    return f"{_CALLS[op.kind]}({', '.join(args)})"
                return f" {_INFIX[op.kind]} ".join(args)

    def _real(self, arg: Arg) -> str:
        """The text of a number."""
        if isinstance(arg, str):
            name = f"v_{arg}" if arg in self.made else arg
            return f"(one if {name} else zero)" if arg in self.truths else name
        if math.isnan(arg):
            return f"{self.real}(np.nan)"
        text = ("-np.inf" if arg < 0 else "np.inf") if math.isinf(arg) else repr(arg)
        return f"{self.real}({text})"

    def _truth(self, arg: Arg) -> str:
        """The text of a truth value."""
        return f"v_{arg}" if arg in self.truths else f"({self._real(arg)} != zero)"


def _deeper(lines: Sequence[str]) -> list[str]:
    """The lines of a block, one indent to the right."""
    return [f"    {line}" for line in lines]
