"""From the text of a loop to machine code: by numba, whose import and first use take most of a second.

The text may call, beside numpy's functions,

    word(a, i)              the i-th int64 from address a; read_i4 one of 32 bits, widened
    read_f4(a, i)           a number from memory: f4, f8; b2 (bfloat16) and h2 (float16) are read as float32
    write_f4(a, i, x)       the same back; bfloat16 is rounded to the nearest, halves to even
    draw(a, b, i)           32 random bits for element i, as `downslope.optim.rounding.bits` draws them
    lower_b2(a, i, x, w)    writes, rounded by chance with the lower half of such a word; upper with the other
    near_b2(x)              the bfloat16 nearest to a float32, as a float32; h2 the float16
    read_f4_2(a, i)         the same of array 2: LLVM is told that arrays of different numbers never overlap
    bits_f4(x)              the bits as a whole number; of NaN those of a positive one; f4 or f8
    number_f4(b)            and back
    add_f8(total, x)        their sum, of which LLVM may change the order, so that it uses vectors
    thread(), threads()     of OpenMP's team

What is built is object code for the host's CPU, of a function ``void (int64*)``.
"""

from __future__ import annotations

import contextlib
import gc
import re
from collections.abc import Generator
from dataclasses import dataclass
from typing import Any

from downslope.optim.rounding import FACTORS, ODD

__all__ = ["EXACT", "FLAGS", "Object", "build"]

NARROW = frozenset({"b2", "h2"})

EXACT = frozenset({"contract", "nsz"})
"""Of LLVM's licences with numbers: a product and a sum may be rounded once, zeros have no sign.
With ``arcp`` an ``x / sqrt(y)`` becomes an estimate that is NaN where y is infinite; with ``reassoc`` another
order of factors overflows where the written one does not."""

FLAGS = EXACT | {"arcp", "reassoc"}
"""For loops written by hand with that in mind: their sums use vectors."""

_CALLS = re.compile(
    r"\b(?:(word|draw|thread|threads)|"
    r"(read|write|lower|upper|near|bits|number|add)_(f4|f8|b2|h2|i4)(?:_(\d+))?)\("
)


@dataclass(frozen=True)
class Object:
    """Machine code that was built."""

    code: bytes
    entry: str
    """The symbol of the function."""
    needs: tuple[str, ...]
    """Symbols that it takes from elsewhere."""


def build(source: str, flags: frozenset[str] = FLAGS) -> Object:
    """The object code of ``kernel(data)`` in `source`, where ``data`` points to int64.

    OpenMP's functions must be known to LLVM before: see `threads`.

    Args:
        source: the text.
        flags: LLVM's licences.

    Raises:
        ImportError: no numba.
    """
    import numba  # pyright: ignore[reportMissingTypeStubs]
    import numpy as np

    names: dict[str, Any] = {"np": np, **_functions(source)}
    exec(compile(source, "<kernel>", "exec"), names)
    make: Any = numba.cfunc
    compiler = make("void(CPointer(int64))", error_model="numpy", fastmath=set(flags), no_rewrites=True)
    made: Any = None
    with _uncollected():
        made = compiler(names["kernel"])
    declared: list[str] = re.findall(r'^declare [^@]*@"?([^\s("]+)', made.inspect_llvm(), re.MULTILINE)
    needs = tuple(sorted({name for name in declared if not name.startswith("llvm.")}))
    return Object(made._library._get_compiled_object(), made.native_name, needs)


@contextlib.contextmanager
def _uncollected() -> Generator[None]:
    """Without a collection of garbage, which looks at all that torch and numba hold: a fifth of a build."""
    before = gc.isenabled()
    gc.disable()
    try:
        yield
    finally:
        if before:
            gc.enable()


def _functions(source: str) -> dict[str, Any]:
    """What the source calls, made for it."""
    from numba import types  # pyright: ignore[reportMissingTypeStubs]

    called: set[tuple[str, str, str, str]] = set(_CALLS.findall(source))
    places = max((int(place) for *_, place in called if place), default=-1) + 1
    made: dict[str, Any] = {}
    for plain, way, kind, place in called:
        if plain == "word":
            made["word"] = _access("read", "i8", None, 0)
        elif plain == "draw":
            made["draw"] = _drawing()
        elif plain:
            symbol = "omp_get_thread_num" if plain == "thread" else "omp_get_num_threads"
            made[plain] = types.ExternalFunction(symbol, types.int32())
        else:
            name = f"{way}_{kind}_{place}" if place else f"{way}_{kind}"
            if way in {"bits", "number"}:
                made[name] = _cast(way, kind)
                continue
            if way == "near":
                made[name] = _nearing(kind)
                continue
            if way == "add":
                made[name] = _adding(types.float32 if kind == "f4" else types.float64)
                continue
            made[name] = _access(way, kind, int(place) if place else None, places)
    return made


def _access(way: str, kind: str, place: int | None, places: int) -> Any:
    """A function that reads or writes one number at an address, of array `place` among `places`."""
    from llvmlite import ir  # pyright: ignore[reportMissingTypeStubs]
    from numba import types  # pyright: ignore[reportMissingTypeStubs]
    from numba.extending import intrinsic  # pyright: ignore[reportMissingTypeStubs]

    held: Any = {
        "f4": types.float32, "f8": types.float64, "i4": types.int32, "i8": types.int64
    }.get(kind, types.uint16)  # fmt: skip
    given: Any = types.float32 if kind in NARROW else types.int64 if kind == "i4" else held

    def located(context: Any, builder: Any, address: Any, i: Any) -> Any:
        pointer = builder.inttoptr(address, context.get_value_type(types.CPointer(held)))
        return builder.gep(pointer, [i])

    def apart(module: Any, access: Any) -> None:
        if place is not None:
            domain = module.add_metadata(["downslope"])
            scopes = [module.add_metadata([f"array {i}", domain]) for i in range(places)]
            access.set_metadata("alias.scope", module.add_metadata([scopes[place]]))
            others = [scope for i, scope in enumerate(scopes) if i != place]
            if others:
                access.set_metadata("noalias", module.add_metadata(others))

    def read(context: Any, builder: Any, _: Any, args: Any) -> Any:
        value = builder.load(located(context, builder, args[0], args[1]))
        apart(builder.module, value)
        if kind == "i4":
            return builder.sext(value, ir.IntType(64))
        return _widened(ir, builder, value, kind) if kind in NARROW else value

    def write(context: Any, builder: Any, _: Any, args: Any) -> Any:
        value = args[2]
        if way != "write":
            value = _by_chance(ir, builder, value, args[3], upper=way == "upper")
        elif kind in NARROW:
            value = _rounded(ir, builder, value, kind)
        apart(builder.module, builder.store(value, located(context, builder, args[0], args[1])))
        return context.get_dummy_value()

    def reading(_: Any, _address: Any, _i: Any) -> Any:
        return given(types.int64, types.int64), read

    def writing(_: Any, _address: Any, _i: Any, _x: Any) -> Any:
        return types.void(types.int64, types.int64, given), write

    def risking(_: Any, _address: Any, _i: Any, _x: Any, _w: Any) -> Any:
        return types.void(types.int64, types.int64, given, types.int32), write

    return intrinsic({"read": reading, "write": writing}.get(way, risking))


def _cast(way: str, kind: str) -> Any:
    """A function that takes a number for its bits, or the bits for the number."""
    from llvmlite import ir  # pyright: ignore[reportMissingTypeStubs]
    from numba import types  # pyright: ignore[reportMissingTypeStubs]
    from numba.extending import intrinsic  # pyright: ignore[reportMissingTypeStubs]

    real, whole = (types.float32, types.int32) if kind == "f4" else (types.float64, types.int64)
    word, quiet = (ir.IntType(32), 0x7FC00000) if kind == "f4" else (ir.IntType(64), 0x7FF8 << 48)

    def bits(_context: Any, builder: Any, _: Any, args: Any) -> Any:
        plain = builder.bitcast(args[0], word)
        return builder.select(
            builder.fcmp_unordered("uno", args[0], args[0]), ir.Constant(word, quiet), plain
        )

    def number(_context: Any, builder: Any, _: Any, args: Any) -> Any:
        return builder.bitcast(args[0], ir.FloatType() if kind == "f4" else ir.DoubleType())

    def taking(_: Any, _x: Any) -> Any:
        return whole(real), bits

    def giving(_: Any, _x: Any) -> Any:
        return real(whole), number

    return intrinsic(taking if way == "bits" else giving)


def _adding(real: Any) -> Any:
    """A function that adds, in an order that is LLVM's."""
    from numba.extending import intrinsic  # pyright: ignore[reportMissingTypeStubs]

    def add(_context: Any, builder: Any, _: Any, args: Any) -> Any:
        return builder.fadd(args[0], args[1], flags=("reassoc", "nsz"))

    def taking(_: Any, _total: Any, _x: Any) -> Any:
        return real(real, real), add

    return intrinsic(taking)


def _drawing() -> Any:
    """The function `draw`: see `downslope.optim.rounding.bits`, whose hash this is."""
    from llvmlite import ir  # pyright: ignore[reportMissingTypeStubs]
    from numba import types  # pyright: ignore[reportMissingTypeStubs]
    from numba.extending import intrinsic  # pyright: ignore[reportMissingTypeStubs]

    word = ir.IntType(32)

    def drawn(_context: Any, builder: Any, _: Any, args: Any) -> Any:
        def mixed(h: Any, shift: int) -> Any:
            return builder.xor(h, builder.lshr(h, ir.Constant(word, shift)))

        def times(h: Any, factor: int) -> Any:
            return builder.mul(h, ir.Constant(word, factor))

        first, second, i = (builder.trunc(arg, word) for arg in args)
        h = builder.add(times(i, ODD), first)
        h = builder.add(times(mixed(h, 16), FACTORS[0]), second)
        return mixed(times(mixed(h, 15), FACTORS[1]), 16)

    def drawing(_: Any, _first: Any, _second: Any, _i: Any) -> Any:
        return types.int32(types.int64, types.int64, types.int64), drawn

    return intrinsic(drawing)


def _by_chance(ir: Any, builder: Any, x: Any, drawn: Any, *, upper: bool) -> Any:
    """The bits of one of the two bfloat16 beside a float32: 16 random bits are the chance to carry over."""
    word, half = ir.IntType(32), ir.IntType(16)
    sixteen, low = ir.Constant(word, 16), ir.Constant(word, 0xFFFF)
    bits, exponent = builder.bitcast(x, word), ir.Constant(word, 0x7F800000)
    chance = builder.lshr(drawn, sixteen) if upper else builder.and_(drawn, low)
    carried = builder.trunc(builder.lshr(builder.add(bits, chance), sixteen), half)
    finite = builder.icmp_unsigned("!=", builder.and_(bits, exponent), exponent)
    return builder.select(finite, carried, _rounded(ir, builder, x, "b2"))


def _nearing(kind: str) -> Any:
    """A function from a float32 to the nearest number of half precision."""
    from llvmlite import ir  # pyright: ignore[reportMissingTypeStubs]
    from numba import types  # pyright: ignore[reportMissingTypeStubs]
    from numba.extending import intrinsic  # pyright: ignore[reportMissingTypeStubs]

    def near(_context: Any, builder: Any, _: Any, args: Any) -> Any:
        return _widened(ir, builder, _rounded(ir, builder, args[0], kind), kind)

    def nearing(_: Any, _x: Any) -> Any:
        return types.float32(types.float32), near

    return intrinsic(nearing)


def _widened(ir: Any, builder: Any, bits: Any, kind: str) -> Any:
    """The float32 that the bits of a bfloat16 or float16 are."""
    if kind == "h2":
        return builder.fpext(builder.bitcast(bits, ir.HalfType()), ir.FloatType())
    word = ir.IntType(32)
    return builder.bitcast(builder.shl(builder.zext(bits, word), ir.Constant(word, 16)), ir.FloatType())


def _rounded(ir: Any, builder: Any, x: Any, kind: str) -> Any:
    """The bits of the bfloat16 or float16 nearest to a float32, halves to even; NaN stays NaN."""
    if kind == "h2":
        return builder.bitcast(builder.fptrunc(x, ir.HalfType()), ir.IntType(16))
    word, half = ir.IntType(32), ir.IntType(16)
    bits = builder.bitcast(x, word)
    odd = builder.and_(builder.lshr(bits, ir.Constant(word, 16)), ir.Constant(word, 1))
    raised = builder.add(builder.add(bits, ir.Constant(word, 0x7FFF)), odd)
    near = builder.trunc(builder.lshr(raised, ir.Constant(word, 16)), half)
    return builder.select(builder.fcmp_unordered("uno", x, x), ir.Constant(half, 0x7FC0), near)
