"""A small GPT on the characters of Shakespeare: nanoGPT's recipe for a CPU (Karpathy 2022)."""

from __future__ import annotations

from downslope.core.problem import Problem
from downslope.core.recipe import Recipe
from downslope.data import tinyshakespeare
from downslope.models import gpt

PUBLISHED = 1.88
"""Validation loss after 2000 steps, in nats a character (nanoGPT, README, "I only have a macbook")."""

SPREAD = 0.02
"""What it may differ by: nanoGPT estimates it on 20 batches of 12 windows."""

BLOCK = 64


def problem() -> Problem:
    """Four blocks of width 128 on windows of 64 characters; the last tenth of the text is held out.

    Raises:
        DataError: the text is nowhere and cannot be fetched.
    """
    text = tinyshakespeare(block=BLOCK)
    return Problem(
        model=gpt,
        arguments={"vocabulary": len(text.classes), "steps": BLOCK, "width": 128, "depth": 4, "heads": 4},
        objective="cross_entropy",
        train=text.train,
        valid=text.valid,
        name="char_gpt",
    )


def recipe(steps: int = 2000) -> Recipe:
    """AdamW at 1e-3 with warm-up and a cosine, decay .1 on matrices and tables, gradients of norm 1 at most.

    Differs from nanoGPT's: windows are drawn without replacement.

    Args:
        steps: of 12 windows each.
    """
    return Recipe(
        optimizer="adamw", lr=1e-3, betas=(0.9, 0.99), weight_decay=0.1, clip_norm=1.0, batch_size=12,
        steps=steps, schedule="cosine(final=0.1)", warmup=100,
    )  # fmt: skip
