"""What a model takes of another's weights, held against torch's own load_state_dict."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from torch import nn

import downslope as ds
from downslope.core.errors import WeightsError
from downslope.core.pretrained import Weights, as_weights
from downslope.models import load_weights


class Net(nn.Module):
    """Laid out as image models of the wild are: convolutions with norms, stages, `fc` at the end."""

    def __init__(self, classes: int = 10, seed: int = 0) -> None:
        torch.manual_seed(seed)
        super().__init__()
        self.conv1 = nn.Conv2d(3, 8, 3)
        self.bn1 = nn.BatchNorm2d(8)
        self.layer1 = nn.Sequential(nn.Conv2d(8, 8, 3), nn.BatchNorm2d(8))
        self.fc = nn.Linear(8, classes)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.fc(self.layer1(self.bn1(self.conv1(x)).relu()).mean((2, 3)))


class Inside(nn.Module):
    """A model that holds another one."""

    def __init__(self) -> None:
        super().__init__()
        self.backbone = Net(seed=5)
        self.head = nn.Linear(10, 2)


class Tied(nn.Module):
    """An embedding that is its own decoder."""

    def __init__(self, seed: int = 0) -> None:
        torch.manual_seed(seed)
        super().__init__()
        self.embedding = nn.Embedding(6, 4)
        self.decoder = nn.Linear(4, 6, bias=False)
        self.decoder.weight = self.embedding.weight


def state(model: nn.Module, seed: int = 1) -> dict[str, torch.Tensor]:
    """A state with values of its own in every entry, statistics of norms among them."""
    torch.manual_seed(seed)
    return {k: torch.randn_like(v) if v.is_floating_point() else v + 7 for k, v in model.state_dict().items()}


def values(model: nn.Module) -> dict[str, torch.Tensor]:
    return {key: value.clone() for key, value in model.state_dict().items()}


def equal(a: dict[str, torch.Tensor], b: dict[str, torch.Tensor]) -> bool:
    return a.keys() == b.keys() and all(torch.equal(a[key], b[key]) for key in a)


def test_a_whole_state_gives_what_torch_gives() -> None:
    there, theirs, ours = state(Net()), Net(), Net()
    theirs.load_state_dict(there)
    found = load_weights(ours, there, strict=True)
    assert equal(values(ours), values(theirs))
    assert found.share == 1.0
    assert found.fresh == found.unexpected == ()


def test_a_head_of_another_size_stays_fresh_and_both_shapes_are_told() -> None:
    there, model = state(Net(1000)), Net(10)
    before = values(model)
    found = load_weights(model, there)
    assert found.reshaped == {"fc.weight": ((1000, 8), (10, 8)), "fc.bias": ((1000,), (10,))}
    after = values(model)
    assert all(torch.equal(after[key], before[key]) for key in ("fc.weight", "fc.bias"))
    assert all(torch.equal(after[key], there[key]) for key in after if not key.startswith("fc"))
    parameters = sum(p.numel() for name, p in model.named_parameters() if not name.startswith("fc"))
    assert found.parameters == (parameters, sum(p.numel() for p in model.parameters()))
    assert "fc.weight 1000x8 there, 10x8 here" in str(found)


@pytest.mark.parametrize(
    ("rename", "told"),
    [
        (lambda k: f"module.{k}", "'module.' taken out"),
        (lambda k: f"_orig_mod.{k}", "'_orig_mod.' taken out"),
        (lambda k: f"module._orig_mod.{k}", "'module.' and '_orig_mod.' taken out"),
        (lambda k: k.replace("layer1.", "layer1._orig_mod."), "'_orig_mod.' taken out"),
        (lambda k: f"model.{k}", "prefix 'model.' taken off"),
        (lambda k: f"module.student.backbone.{k}", "prefix 'student.backbone.' taken off"),
    ],
)
@pytest.mark.parametrize("classes", [10, 1000])
def test_wrappers_and_prefixes_are_found_and_told(rename: Any, told: str, classes: int) -> None:
    there, model = state(Net(classes)), Net(10)
    found = load_weights(model, {rename(key): value for key, value in there.items()})
    assert any(told in each for each in found.told), found.told
    after = values(model)
    fits = [key for key in after if classes == 10 or not key.startswith("fc")]
    assert all(torch.equal(after[key], there[key]) for key in fits)
    assert set(found.taken) == set(fits)


def test_a_model_is_found_inside_of_another_either_way_round() -> None:
    there, outer = state(Net()), Inside()
    found = load_weights(outer, there)
    assert "prefix 'backbone.' put before" in found.told
    assert equal(values(outer.backbone), there)
    assert found.missing == ("head.weight", "head.bias")
    inner = Net(seed=9)
    load_weights(inner, outer)
    assert equal(values(inner), there)


def test_of_two_models_in_one_file_the_prefix_chooses() -> None:
    query, key = state(Net(), 1), state(Net(), 2)
    both = {f"encoder_q.{k}": v for k, v in query.items()} | {f"encoder_k.{k}": v for k, v in key.items()}
    model = Net()
    load_weights(model, both, prefix="encoder_k.")
    assert equal(values(model), key)
    with pytest.raises(WeightsError, match=r"no name begins with 'encoder_x\.'; did you mean"):
        load_weights(model, both, prefix="encoder_x.")


def test_names_are_changed_as_the_caller_says_and_left_out_by_none() -> None:
    there = state(Net())
    renamed = {k.replace("fc.", "classifier.").replace("conv1", "stem"): v for k, v in there.items()}
    model = Net()
    load_weights(model, renamed, rename={"classifier": "fc", "stem.weight": "conv1.weight", "stem": "conv1"})
    assert equal(values(model), there)
    model = Net()
    fresh = values(model)
    found = load_weights(model, there, rename={"fc": None})
    assert found.missing == ("fc.weight", "fc.bias")
    assert torch.equal(values(model)["fc.weight"], fresh["fc.weight"])
    with pytest.raises(WeightsError, match="nothing there is called 'clasifier'; did you mean 'classifier'"):
        load_weights(model, renamed, rename={"clasifier": "fc"})


def test_tied_weights_are_filled_under_either_name() -> None:
    weight = torch.randn(6, 4)
    for name in ("embedding.weight", "decoder.weight"):
        model = Tied()
        found = load_weights(model, {name: weight})
        assert torch.equal(model.embedding.weight, weight)
        assert model.embedding.weight is model.decoder.weight
        assert found.parameters == (24, 24)
        assert not found.missing


def test_types_are_cast_and_told_but_numbers_of_another_kind_are_not_taken() -> None:
    there = {k: v.half() if v.is_floating_point() else v for k, v in state(Net()).items()}
    model = Net()
    found = load_weights(model, there)
    assert model.conv1.weight.dtype == torch.float32
    assert torch.equal(model.conv1.weight, there["conv1.weight"].float())
    assert any("cast from float16 to float32" in each for each in found.told)
    quantised = there | {"fc.weight": torch.ones(10, 8, dtype=torch.int8)}
    before = model.fc.weight.clone()
    found = load_weights(model, quantised)
    assert torch.equal(model.fc.weight, before)
    assert "of another type, as initialised: fc.weight" in str(found)


@pytest.mark.parametrize("kind", [torch.float16, torch.bfloat16])
def test_counters_that_were_cast_with_the_rest_are_cast_back_and_told_once(kind: torch.dtype) -> None:
    there = state(Net())
    counter = next(key for key in there if key.endswith("num_batches_tracked"))
    there[counter] = torch.tensor(12)
    model = Net()
    found = load_weights(model, {key: value.to(kind) for key, value in there.items()}, strict=True)
    assert values(model)[counter].dtype == torch.int64
    assert int(values(model)[counter]) == 12
    assert (found.fresh, found.reshaped, found.retyped) == ((), {}, ())
    assert str(found).count("num_batches_tracked") == 0
    assert str(found).count("cast from") == 1
    half = load_weights(Net(), {**there, counter: torch.tensor(0.5)})
    assert half.retyped == half.fresh == (counter,)
    assert "another shape" not in str(half)


def another() -> dict[str, torch.Tensor]:
    """A model of eight layers whose first happens to be that of `few`."""
    torch.manual_seed(3)
    return state(nn.Sequential(nn.Linear(8, 16), *(nn.Linear(20 + i, 21 + i) for i in range(7))))


def few() -> nn.Module:
    return nn.Sequential(nn.Linear(8, 16), *(nn.Linear(16, 16) for _ in range(4)))


def test_weights_of_another_model_that_shares_a_layer_are_refused_with_counts_and_taken_on_purpose() -> None:
    model = few()
    before = values(model)
    with pytest.raises(WeightsError, match=r"only 2 of its 16 .* fit the model's 10, ") as told:
        load_weights(model, another())
    assert "strict=False" in str(told.value)
    assert equal(values(model), before)
    found = load_weights(model, another(), strict=False)
    assert found.taken == ("0.weight", "0.bias")
    assert torch.equal(values(model)["0.weight"], another()["0.weight"])
    model = few()
    assert load_weights(model, another(), rename={"0": "0"}).taken == found.taken


def test_a_part_of_a_model_is_no_other_model() -> None:
    whole = nn.Sequential(*(nn.Linear(8, 8) for _ in range(8)))
    first = nn.Sequential(nn.Linear(8, 8))
    assert len(load_weights(whole, first).taken) == 2
    assert len(load_weights(first, whole).taken) == 2
    big = nn.Sequential(nn.Linear(99, 99), *(nn.Linear(3 + i, 4 + i) for i in range(5)))
    wide = nn.Sequential(nn.Linear(99, 99), *(nn.Linear(5, 5) for _ in range(5)))
    assert load_weights(wide, big).share > 0.9


def test_a_problem_keeps_in_its_folder_that_a_small_part_was_taken_on_purpose() -> None:
    given = as_weights({"path": another(), "strict": False})
    assert given is not None
    assert given.describe()["strict"] is False
    assert "strict" not in Weights(path=another()).describe()
    again = as_weights({**given.describe(), "path": another()})
    assert again is not None
    assert again.fill(few()).taken == ("0.weight", "0.bias")


def test_weights_that_are_not_finite_are_told() -> None:
    there = state(Net())
    there["fc.bias"][3] = float("nan")
    assert "not finite there: fc.bias" in str(load_weights(Net(), there))


def test_a_checkpoint_of_another_model_is_refused_with_the_nearest_name() -> None:
    with pytest.raises(WeightsError, match=r"of another model, no name fits .*'fc\.weight'"):
        load_weights(nn.Linear(3, 4), state(Net()))


def test_the_same_model_in_another_size_is_refused_with_both_shapes() -> None:
    with pytest.raises(WeightsError, match=r"64x64 there, 32x64 here.*another size"):
        load_weights(ds.models.mlp(64, 10, width=32), ds.models.mlp(64, 10, width=64))


def test_strict_refuses_what_does_not_fit_whole_and_leaves_the_model_as_it_was() -> None:
    model = Net(10)
    before = values(model)
    for there in (state(Net(1000)), state(Net()) | {"more": torch.ones(2)}):
        with pytest.raises(WeightsError, match="strict: "):
            load_weights(model, there, strict=True)
    assert equal(values(model), before)


def test_a_module_that_refuses_its_weights_leaves_the_model_as_it_was() -> None:
    class Picky(nn.Linear):
        def _load_from_state_dict(self, state_dict: dict[str, Any], prefix: str, *rest: Any) -> None:
            if float(state_dict[prefix + "bias"].sum()) == 0:
                raise RuntimeError("no bias of zeros")
            super()._load_from_state_dict(state_dict, prefix, *rest)

    model = nn.Sequential(nn.Linear(2, 2), Picky(2, 2))
    before = values(model)
    there = {key: torch.zeros_like(value) for key, value in before.items()}
    with pytest.raises(WeightsError, match="no bias of zeros"):
        load_weights(model, there)
    assert equal(values(model), before)


def test_a_run_in_memory_and_a_module_are_sources() -> None:
    digits = ds.data.digits(scale=16)
    problem = ds.Problem(model="softmax", objective="cross_entropy", train=digits.train)
    run = ds.fit(problem, ds.Recipe(steps=3), folder=False, progress=False, observe=0)
    for source in (run, run.model()):
        model = ds.models.softmax(64, 10)
        load_weights(model, source, strict=True)
        assert equal(values(model), values(run.model()))


def test_the_units_of_another_target_are_left_out_and_those_of_the_inputs_taken() -> None:
    table = ds.data.diabetes()
    edits = (ds.edits.StandardiseInputs(), ds.edits.StandardiseTargets())
    problem = ds.Problem(model="linear", objective="squared_error", train=table.train).edit(*edits)
    x, y = table.train
    other = ds.Problem(model="linear", objective="squared_error", train=(3 * x + 1, 5 * y - 2)).edit(*edits)
    here, there = problem.build(0), other.build(1)
    own = values(here)
    found = load_weights(here, there)
    after = values(here)
    units = [key for key in own if "_after." in key]
    scale = [key for key in own if "_before." in key]
    assert len(units) == len(scale) == 2
    assert all(torch.equal(after[key], own[key]) for key in units)
    assert all(torch.equal(after[key], values(there)[key]) for key in scale)
    assert "the units of the other target (_after) left out" in found.told
    assert "inputs standardised as there" in found.told
