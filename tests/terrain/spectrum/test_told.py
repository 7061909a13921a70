"""What is printed of a spectrum: a line, whatever its size."""

from __future__ import annotations

import torch

from downslope.terrain import density, diagonal, extremes, trace
from tests.terrain.spectrum.matrices import Matrix

SIZE = 900


def matrix() -> Matrix:
    draw = torch.Generator().manual_seed(0)
    return Matrix(torch.diag(torch.randn(SIZE, generator=draw, dtype=torch.float64)))


def test_all_that_is_found_of_a_spectrum_is_told_in_a_line() -> None:
    operator = matrix()
    found = {
        "900 eigenvalues": density(operator, probes=2, steps=20),
        "converged": extremes(operator, top=8, bottom=8, tol=1e-2),
        "95 %": trace(operator, tol=0.5),
        "900 entries": diagonal(operator, tol=0.3),
    }
    for said, each in found.items():
        text = str(each)
        assert said in text
        assert len(text) < 240
        assert "\n" not in text


def test_what_could_not_be_found_is_told_too() -> None:
    lost = Matrix(torch.full((900, 900), float("nan"), dtype=torch.float64))
    assert "unknown" in str(density(lost, probes=2, steps=10))
    assert "non-finite" in str(extremes(lost))


def test_a_spectrum_tells_its_ends_with_their_errors() -> None:
    operator = Matrix(torch.diag(torch.tensor([4.0, 2.0, -1.0], dtype=torch.float64)))
    assert str(extremes(operator)).startswith("Spectrum 4 ±")
    assert str(trace(operator)) == "5"
