from __future__ import annotations

import math

import pytest

from downslope.core.numerals import many
from downslope.reporting.numerals import count, duration, numeral


@pytest.mark.parametrize(
    ("value", "text"),
    [
        (0.0, "0"), (0.5, "0.5"), (0.0123456, "0.0123"), (2.3026, "2.3"), (12.34, "12.3"), (154.2, "154"),
        (1234.5, "1234"), (123456.0, "123456"), (1.5e7, "1.50e7"), (1.23e-7, "1.23e-7"), (-2.5, "-2.5"),
        (math.nan, "nan"), (math.inf, "inf"), (-math.inf, "-inf"), (None, "-"), (0.9999, "1"), (100.0, "100"),
    ],
)  # fmt: skip
def test_a_number_is_short_and_true(value: float | None, text: str) -> None:
    assert numeral(value) == text


@pytest.mark.parametrize("exponent", range(-9, 12))
@pytest.mark.parametrize("digits", [1.0, 1.234567, 9.876543, 9.9996])
def test_a_numeral_reads_back_within_its_digits(exponent: int, digits: float) -> None:
    value = digits * 10.0**exponent
    assert float(numeral(value)) == pytest.approx(value, rel=6e-3)


@pytest.mark.parametrize(
    ("seconds", "text"),
    [(0.04, "0.0 s"), (3.14, "3.1 s"), (31.2, "31 s"), (125, "2 min 5 s"), (3840, "1 h 4 min"), (None, "-")],
)
def test_a_duration_has_the_unit_that_fits(seconds: float | None, text: str) -> None:
    assert duration(seconds) == text


def test_a_count_is_grouped() -> None:
    assert count(1234567).replace("\u2009", " ") == "1 234 567"


def test_one_of_a_thing_is_said_in_the_singular() -> None:
    assert [many(n, "remedy") for n in (0, 1, 2)] == ["0 remedies", "1 remedy", "2 remedies"]
    assert [many(n, "step") for n in (1, 40)] == ["1 step", "40 steps"]
