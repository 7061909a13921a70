"""Newton and Schulz's iteration in memory that is kept."""

from __future__ import annotations

import torch

from downslope.optim.orthogonal import Space, orthogonal_all
from tests.optim.matrix_recurrences import newton_schulz


def test_kept_memory_serves_one_shape_after_another() -> None:
    """Tall, wide, square, more of them, fewer: what lay there before is never seen again."""
    space = Space()
    generator = torch.Generator().manual_seed(0)
    cases = (2, (6, 4)), (1, (4, 6)), (3, (5, 5)), (5, (9, 7)), (2, (6, 4)), (5, (9, 7)), (1, (4, 6))
    for n, shape in cases:
        matrices = [torch.randn(shape, generator=generator, dtype=torch.float64) for _ in range(n)]
        found = orthogonal_all(matrices, dtype=torch.float64, space=space)
        for each, matrix in zip(found, matrices, strict=True):
            wanted = torch.from_numpy(newton_schulz(matrix.numpy()))
            torch.testing.assert_close(each, wanted, rtol=1e-10, atol=1e-10)


def test_what_is_worked_in_is_two_batches_and_one_of_gram_matrices() -> None:
    rooms = Space().batch(3, (8, 20), torch.float32, torch.device("cpu"))
    assert rooms[0].shape == (3, 8, 20)
    held = {room.untyped_storage().data_ptr(): room.untyped_storage().nbytes() for room in rooms}
    assert sum(held.values()) <= 4 * (2 * 3 * 8 * 20 + 3 * 8 * 8 + 3 * 32)


def test_memory_that_has_become_too_small_is_let_go() -> None:
    space, cpu = Space(), torch.device("cpu")
    space.batch(1, (4, 4), torch.float32, cpu)
    large = space.batch(3, (8, 20), torch.float32, cpu)[0]
    small = space.batch(1, (4, 4), torch.float32, cpu)[0]
    assert small.untyped_storage().data_ptr() == large.untyped_storage().data_ptr()
