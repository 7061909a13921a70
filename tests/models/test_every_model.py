"""What holds for every model: sizes from the data, gradients, examples apart, learning, members at once."""

from __future__ import annotations

import re
import warnings
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor, nn
from torch.func import functional_call, grad, stack_module_state, vmap

import downslope as ds
from downslope.core import batches, names
from downslope.core.errors import ModelError
from downslope.core.loss import Composed

DIGITS = ds.data.digits(images=True, scale=16)
IMAGES = nn.functional.interpolate(DIGITS.train[0][:200], size=(12, 12))
MOTIFS = ds.data.motifs(n=400, steps=8, tokens=6, kinds=3)

LINE = torch.arange(300) % 7
SEQUENCES = (LINE[:288].reshape(-1, 9)[:, :8], LINE[:288].reshape(-1, 9)[:, 1:])
TASKS: dict[str, dict[str, Any]] = {
    "images": {"train": (IMAGES, DIGITS.train[1][:200]), "objective": "cross_entropy"},
    "tokens": {"train": MOTIFS.train, "objective": "cross_entropy"},
    "next": {"train": SEQUENCES, "objective": "cross_entropy"},
    "inputs": {"train": IMAGES, "objective": "logistic"},
    "bound": {"train": IMAGES, "objective": "elbo"},
    "tasks": {
        "train": (IMAGES, {"digit": DIGITS.train[1][:200], "odd": (DIGITS.train[1][:200] % 2).float()}),
        "objective": "composite({'digit': 'cross_entropy', 'odd': 'logistic'})",
    },
}
SMALL: dict[str, tuple[str, dict[str, Any]]] = {
    "linear": ("images", {}),
    "logistic": ("images", {}),
    "softmax": ("images", {}),
    "mlp": ("images", {"width": 16}),
    "cnn": ("images", {"width": 4}),
    "lenet": ("images", {}),
    "cnn_2c2d": ("images", {"width": 4}),
    "cnn_3c3d": ("images", {"width": 8}),
    "alexnet": ("images", {"width": 8, "dropout": 0.0}),
    "resnet": ("images", {"width": 4, "depth": 8}),
    "rnn": ("tokens", {"width": 16}),
    "lstm": ("tokens", {"width": 16}),
    "gru": ("tokens", {"width": 16}),
    "transformer": ("tokens", {"width": 16}),
    "gpt": ("next", {"width": 16, "depth": 2}),
    "autoencoder": ("inputs", {"width": 16}),
    "vae": ("bound", {"width": 16}),
    "multi_task": ("tasks", {"width": 16}),
}
RATE = {"linear": 0.01, "logistic": 0.01, "softmax": 0.01, "lenet": 0.01, "gpt": 0.01}


def problem_of(name: str, **arguments: Any) -> ds.Problem:
    kind, own = SMALL[name]
    return ds.Problem(model=name, arguments=own | arguments, **TASKS[kind])


def first(output: Any) -> Tensor:
    """The output as one tensor: of several tasks side by side, of a VAE the reconstruction."""
    if isinstance(output, dict):
        return torch.cat([each.flatten(1) for each in output.values()], dim=1)
    return output if isinstance(output, Tensor) else output[0]


def test_every_name_is_tried_here() -> None:
    assert set(SMALL) == set(names.TABLE["model"])


@pytest.mark.parametrize("name", SMALL)
def test_sizes_come_from_the_data_and_a_gradient_reaches_every_parameter(name) -> None:
    torch.manual_seed(0)
    problem = problem_of(name)
    model = problem.build()
    x, y = problem.train_source.batch if name not in ("autoencoder", "vae") else (IMAGES, IMAGES)
    out = model(x[:32])
    known = problem.objective(out, batches.map_tensors(lambda each: each[:32], y))
    known = known.value if isinstance(known, Composed) else known
    (sum(known.values()) if isinstance(known, dict) else known).backward()
    for key, p in model.named_parameters():
        assert p.grad is not None, key
        assert torch.isfinite(p.grad).all(), key
        assert p.grad.any(), key


@pytest.mark.parametrize("name", SMALL)
def test_in_eval_mode_an_example_is_answered_as_it_would_be_alone(name) -> None:
    problem = problem_of(name)
    model = problem.build().double().eval()
    x = problem.train_source.batch
    x = (x[0] if isinstance(x, tuple) else x)[:5]
    x = x.double() if x.is_floating_point() else x
    whole = first(model(x))
    assert whole.shape[0] == 5
    for i in range(5):
        torch.testing.assert_close(first(model(x[i : i + 1]))[0], whole[i])


@pytest.mark.parametrize("name", SMALL)
def test_it_learns_a_little_in_a_few_steps(name) -> None:
    recipe = ds.Recipe(optimizer="adam", lr=RATE.get(name, 3e-3), batch_size=50, steps=60, seed=1)
    history = ds.fit(problem_of(name), recipe, folder=False, progress=False, observe=0).history
    losses = history.series("train_loss").values
    assert losses[-5:].mean() < 0.93 * losses[:2].mean()


@pytest.mark.parametrize("name", SMALL)
def test_a_fresh_model_has_a_fresh_size(name) -> None:
    problem = problem_of(name)
    if "width" not in SMALL[name][1]:
        return
    wider = problem.edit(**{"model.width": 2 * SMALL[name][1]["width"]})
    assert sum(p.numel() for p in wider.build().parameters()) > sum(
        p.numel() for p in problem.build().parameters()
    )


# -- populations ------------------------------------------------------------------------------------------

STRAIGHT = [
    "linear", "logistic", "softmax", "mlp", "cnn", "lenet", "cnn_2c2d", "cnn_3c3d", "alexnet", "resnet",
    "rnn", "gru", "autoencoder", "multi_task",
]  # fmt: skip
"""Members train together as they stand."""
RANDOM = ["vae"]
"""Only with vmap(..., randomness="different"): they draw; so does any model with dropout in training."""
ONE_BY_ONE = ["lstm", "transformer", "gpt"]
"""Torch has no batching rule for their fused kernel on a CPU: right, but one member after another."""


def gradients(name: str, randomness: str = "error") -> tuple[dict[str, Tensor], nn.Module]:
    """Gradients of two members at once, and the second member alone."""
    torch.manual_seed(0)
    problem = problem_of(name)
    members = [problem.build(seed) for seed in (1, 2)]
    parameters, buffers = stack_module_state(members)
    batch = problem.train_source.batch
    x = (batch[0] if isinstance(batch, tuple) else batch)[:8]

    def loss(p: dict[str, Tensor], b: dict[str, Tensor]) -> Tensor:
        return first(functional_call(members[0], (p, b), (x,))).square().mean()

    found = vmap(grad(loss), randomness=randomness)(parameters, buffers)
    first(members[1](x)).square().mean().backward()
    return found, members[1]


@pytest.mark.parametrize("name", STRAIGHT)
def test_members_train_together_as_each_would_alone(name) -> None:
    found, alone = gradients(name)
    for key, p in alone.named_parameters():
        torch.testing.assert_close(found[key][1], p.grad, msg=key)


@pytest.mark.parametrize("name", ONE_BY_ONE)
def test_members_whose_kernel_has_no_batching_rule_are_right_and_torch_says_that_they_are_slow(name) -> None:
    with warnings.catch_warnings(record=True) as heard:
        warnings.simplefilter("always")
        found, alone = gradients(name)
    assert any("batching rule" in str(each.message) for each in heard)
    for key, p in alone.named_parameters():
        torch.testing.assert_close(found[key][1], p.grad, msg=key)


@pytest.mark.parametrize("name", ["transformer", "gpt"])
def test_attention_by_its_formula_has_a_batching_rule(name) -> None:
    with torch.nn.attention.sdpa_kernel(torch.nn.attention.SDPBackend.MATH):
        found, alone = gradients(name)
    for key, p in alone.named_parameters():
        torch.testing.assert_close(found[key][1], p.grad, msg=key)


@pytest.mark.parametrize("name", RANDOM)
def test_members_that_draw_need_to_be_allowed_to(name) -> None:
    with pytest.raises(RuntimeError, match="random"):
        gradients(name)
    found, _ = gradients(name, "different")
    assert all(torch.isfinite(each).all() for each in found.values())


def test_every_model_is_in_one_of_the_three_lists() -> None:
    assert sorted(STRAIGHT + RANDOM + ONE_BY_ONE) == sorted(SMALL)


def table_of_the_guide() -> dict[str, str]:
    """Model to what the last column of the table in the guide says."""
    found: dict[str, str] = {}
    for line in (Path(__file__).parents[2] / "docs/guide/07-models.md").read_text().splitlines():
        cells = [each.strip() for each in line.strip("|").split("|")]
        if len(cells) == 4 and cells[0].startswith("`"):
            found |= dict.fromkeys(re.findall(r"`(\w+)`", cells[0]), cells[3].partition(" (")[0])
    return found


@pytest.mark.parametrize("name", [each for each in SMALL if each != "multi_task"])
def test_the_guide_says_of_which_models_members_train_together(name) -> None:
    problem = problem_of(name, **({"dropout": 0.5} if name == "alexnet" else {}))
    how = ds.Recipe(optimizer="sgd", lr=1e-3, batch_size=8, steps=1, precision="float64")
    runs = ds.fit_population(problem, how, seeds=[0, 1], progress=False, way="together")
    together = runs[0].choices["population"].startswith("together")
    assert table_of_the_guide()[name] == ("yes" if together else "one by one")


# -- what does not fit ------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", ["cnn", "lenet", "resnet", "alexnet", "cnn_2c2d", "cnn_3c3d"])
def test_a_model_of_images_says_that_tables_are_none(name) -> None:
    table = ds.data.wine().train
    with pytest.raises(ModelError, match=r"takes images \(n, channels, height, width\)") as told:
        ds.Problem(model=name, train=table, objective="cross_entropy").build()
    assert "\n" not in str(told.value)


def test_gpt_says_that_numbers_are_no_tokens() -> None:
    with pytest.raises(ModelError, match="whole numbers"):
        ds.Problem(model="gpt", train=ds.data.wine().train, objective="cross_entropy").build()


ROWS, PICTURES, STEPS = torch.randn(40, 5), torch.randn(40, 1, 8, 8), torch.randn(40, 6, 3)
TOKENS = torch.arange(240).reshape(40, 6) % 7
RECURRENT = ["rnn", "lstm", "gru", "transformer"]
WRONG: dict[str, tuple[Tensor, dict[str, Any], str]] = {
    "flat rows": (ROWS, {}, r"\(40, 5\) of float32: X\[:, :, None\] makes a step of every column"),
    "images": (PICTURES, {}, r"\(40, 1, 8, 8\) of float32: X.flatten\(1, 2\) makes a step of every row"),
    "whole numbers a step": (STEPS.long(), {}, r"\(40, 6, 3\) of int64: X.float\(\) makes numbers"),
    "numbers for tokens": (ROWS, {"tokens": True}, r"whole numbers \(n, steps\).* float32: X.long\(\) makes"),
    "steps for tokens": (STEPS, {"tokens": True}, r"\(40, 6, 3\) of float32: give token ids"),
    "tokens for numbers": (TOKENS, {"tokens": False}, r"\(40, 6\) of int64: tokens=True takes whole numbers"),
}
CLASS = torch.arange(40) % 2


@pytest.mark.parametrize("wrong", WRONG)
@pytest.mark.parametrize("name", RECURRENT)
def test_a_model_of_sequences_says_what_it_takes(name: str, wrong: str) -> None:
    x, arguments, said = WRONG[wrong]
    problem = ds.Problem(model=name, arguments=arguments, train=(x, CLASS), objective="cross_entropy")
    with pytest.raises(ModelError, match=rf"^{name} takes sequences of .*{said}") as told:
        problem.build()
    assert "\n" not in str(told.value)


@pytest.mark.parametrize("name", RECURRENT)
def test_a_model_of_sequences_that_is_made_by_hand_says_it_too(name: str) -> None:
    tokens, numbers = (names.resolve("model", name)(3, 2, tokens=each) for each in (True, False))
    for model, x, said in (
        (numbers, ROWS, r"\(n, steps, 3\), and the inputs are \(40, 5\)"),
        (numbers, torch.randn(40, 6, 4), r"inputs=4 takes 4 numbers a step"),
        (numbers, TOKENS, "tokens=True takes whole numbers"),
        (tokens, STEPS, "give token ids"),
        (tokens, PICTURES, "'cnn' for images"),
        (tokens, ROWS, r"X.long\(\)"),
    ):
        problem = ds.Problem(model=model, train=(x, CLASS), objective="cross_entropy")
        with pytest.raises(ModelError, match=said) as told:
            ds.fit(problem, ds.Recipe(steps=1), folder=False, progress=False)
        assert str(told.value).startswith(f"{name} takes sequences of"), told.value


@pytest.mark.parametrize(("x", "said"), [(STEPS, "give token ids"), (ROWS, r"X.long\(\) makes token ids")])
def test_gpt_made_by_hand_says_what_it_takes(x: Tensor, said: str) -> None:
    model = names.resolve("model", "gpt")(7, 6, width=8, depth=1)
    with pytest.raises(ModelError, match=rf"^gpt takes sequences of whole numbers \(n, steps\), .*{said}"):
        model(x)


def test_a_token_without_a_row_is_told_with_the_range_of_the_tokens() -> None:
    model = names.resolve("model", "lstm")(5, 2, tokens=True)
    problem = ds.Problem(model=model, train=(TOKENS, CLASS), objective="cross_entropy")
    with pytest.raises(ModelError, match="whole numbers from 0 to 6: an embedding needs a row for each"):
        ds.fit(problem, ds.Recipe(steps=1), folder=False, progress=False)


def test_a_token_that_is_only_ever_a_target_counts() -> None:
    x = torch.tensor([[0, 1], [1, 0]])
    problem = ds.Problem(model="gpt", train=(x, x + 3), objective="cross_entropy")
    assert problem.build()(x).shape == (2, 2, 5)


def test_what_only_the_validation_data_holds_counts_too() -> None:
    x, y = DIGITS.train
    few = y < 7
    problem = ds.Problem(model="cnn", train=(x[few], y[few]), valid=DIGITS.valid, objective="cross_entropy")
    assert problem.build()(x[:2]).shape == (2, 10)
    tokens, kind = torch.tensor([[0, 1], [1, 2]]), torch.tensor([0, 1])
    for name in ("gru", "transformer"):
        problem = ds.Problem(
            model=name, train=(tokens, kind), valid=(tokens + 3, kind), objective="cross_entropy"
        )
        assert problem.build().embedding.num_embeddings == 6
