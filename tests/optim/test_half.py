"""Parameters of half precision: arithmetic in float32, rounded once; by chance, or from a float32 copy."""

from __future__ import annotations

import copy
import io
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from downslope import optim
from downslope.core import names
from downslope.core.errors import RecipeError
from tests.optim.peers import step

Given = dict[str, Any]

CASES: list[tuple[str, Given]] = [
    ("SGD", {"lr": 0.1, "momentum": 0.9, "weight_decay": 0.1}),
    ("Adagrad", {"lr": 0.1}),
    ("RMSprop", {"lr": 0.01, "centered": True}),
    ("Adam", {"lr": 0.1}),
    ("AdamW", {"lr": 0.1, "amsgrad": True}),
]
HALVES = [torch.bfloat16, torch.float16]
ALL = [row.name for row in optim.catalogue() if row.name != "sam"]


def parameters(dtype: torch.dtype) -> list[nn.Parameter]:
    draw = torch.Generator().manual_seed(0)
    shapes = [(3, 4), (), (5, 6), (7,)]
    found = [torch.randn(shape, generator=draw).to(dtype) for shape in shapes]
    found[2] = found[2].t().contiguous().t()
    return [nn.Parameter(each) for each in found]


def gradients(params: list[nn.Parameter], steps: int, seed: int = 1) -> list[list[Tensor]]:
    draw = torch.Generator().manual_seed(seed)
    return [[torch.randn(p.shape, generator=draw).to(p.dtype) for p in params] for _ in range(steps)]


@pytest.mark.parametrize(("name", "given"), CASES, ids=[name for name, _ in CASES])
@pytest.mark.parametrize("dtype", HALVES)
@pytest.mark.parametrize("backend", [None, "eager", "reference"])
def test_a_step_is_that_of_float32_rounded_once(
    name: str, given: Given, dtype: torch.dtype, backend: str | None
) -> None:
    params = parameters(dtype)
    wide = [nn.Parameter(p.detach().float()) for p in params]
    [row] = gradients(params, 1)
    step(getattr(optim, name)(params, backend=backend, **given), params, [row])
    step(getattr(torch.optim, name)(wide, foreach=False, **given), wide, [[g.float() for g in row]])
    for p, w in zip(params, wide, strict=True):
        near = w.detach().to(dtype)
        beside = torch.nextafter(near, p.detach())  # float32's own rounding may turn a tie
        assert ((p == near) | (p == beside)).all()
        assert (p == near).double().mean() > 0.9 or p.numel() < 10


@pytest.mark.parametrize(("name", "given"), CASES, ids=[name for name, _ in CASES])
@pytest.mark.parametrize("dtype", HALVES)
@pytest.mark.parametrize("backend", [None, "eager", "reference"])
def test_the_master_copy_takes_the_steps_of_a_float32_parameter(
    name: str, given: Given, dtype: torch.dtype, backend: str | None
) -> None:
    params = parameters(dtype)
    wide = [nn.Parameter(p.detach().float()) for p in params]
    rows = gradients(params, 20)
    optimizer = getattr(optim, name)(params, rounding="master", backend=backend, **given)
    step(optimizer, params, rows)
    step(
        getattr(optim, name)(wide, backend=backend, **given), wide, [[g.float() for g in row] for row in rows]
    )
    for p, w in zip(params, wide, strict=True):
        state = optimizer.state[p]
        assert torch.equal(state["master"], w)
        assert torch.equal(p, w.to(dtype))
        assert all(v.dtype == torch.float32 for v in state.values())


@pytest.mark.parametrize("name", ALL)
def test_every_optimizer_steps_its_copies_as_float32_parameters(name: str) -> None:
    make: Any = names.resolve("optimizer", name)
    params = parameters(torch.bfloat16)[::2]
    wide = [nn.Parameter(p.detach().float()) for p in params]
    rows = gradients(params, 4)
    optimizer = make(params, rounding="master")
    step(optimizer, params, rows)
    step(make(wide), wide, [[g.float() for g in row] for row in rows])
    for p, w in zip(params, wide, strict=True):
        assert torch.equal(optimizer.state[p]["master"], w)
        assert torch.equal(p, w.to(p.dtype))
    assert {row.reason.rpartition(" (")[2] for row in optimizer.plan().rows} == {"its float32 copy)"}


@pytest.mark.parametrize("name", ALL)
def test_every_optimizer_repeats_the_bits_of_chance_after_a_file(name: str) -> None:
    make: Any = names.resolve("optimizer", name)
    params = parameters(torch.bfloat16)[::2]
    rows = gradients(params, 6)
    optimizer = make(params, rounding="stochastic", rounding_seed=5)
    step(optimizer, params, rows[:3])
    twins = [nn.Parameter(p.detach().clone()) for p in params]
    other = make(twins)
    other.load_state_dict(copy.deepcopy(optimizer.state_dict()))
    step(optimizer, params, rows[3:])
    step(other, twins, rows[3:])
    assert all(torch.equal(p, q) for p, q in zip(params, twins, strict=True))


@pytest.mark.parametrize("name", ["SGD", "Adam", "RMSprop"])
def test_rounding_to_the_nearest_stalls_where_chance_and_a_copy_arrive(name: str) -> None:
    """Half of ``|p - target|**2`` from 3 to targets of .5 to 2; steps are below half a unit of bfloat16."""
    target = torch.linspace(0.5, 2.0, 64)
    least = float((target.bfloat16().float() - target).square().mean()) / 2

    def loss(rounding: Any) -> float:
        p = nn.Parameter(torch.full((64,), 3.0, dtype=torch.bfloat16))
        optimizer = getattr(optim, name)([p], lr=2e-3, rounding=rounding)
        for _ in range(2500):
            p.grad = (p.detach().float() - target).bfloat16()
            optimizer.step()
        return float((p.detach().float() - target).square().mean()) / 2

    assert loss("nearest") > 1.0
    assert loss("stochastic") < 0.01
    assert loss("master") < max(4 * least, 1e-3)


@pytest.mark.parametrize("rounding", ["nearest", "stochastic", "master"])
@pytest.mark.parametrize("wide", [None, "float32"])
@pytest.mark.parametrize("name", ["SGD", "Adam"])
def test_a_resumed_run_repeats_the_bits(rounding: Any, wide: Any, name: str) -> None:
    params = parameters(torch.bfloat16)
    rows = gradients(params, 12)
    seed = {"rounding_seed": 7} if rounding == "stochastic" else {}
    make = getattr(optim, name)
    optimizer = make(params, lr=0.01, rounding=rounding, state_dtype=wide, **seed)
    step(optimizer, params, rows[:5])
    file = io.BytesIO()
    torch.save(optimizer.state_dict(), file)
    file.seek(0)
    twins = [nn.Parameter(p.detach().clone()) for p in params]
    other = make(twins, lr=0.5)  # rounding, seed and dtype are in the file
    other.load_state_dict(torch.load(file, weights_only=True))
    step(optimizer, params, rows[5:])
    step(other, twins, rows[5:])
    for p, q in zip(params, twins, strict=True):
        assert torch.equal(p, q)
        for key, value in optimizer.state[p].items():
            assert value.dtype == other.state[q][key].dtype
            assert torch.equal(value, other.state[q][key])


def test_the_seed_and_the_place_decide_the_bits_and_nothing_else() -> None:
    def run(seed: int, **given: Any) -> list[nn.Parameter]:
        params = [nn.Parameter(torch.ones(300, dtype=torch.bfloat16)) for _ in range(2)]
        optimizer = optim.SGD(params, lr=1e-3, rounding="stochastic", rounding_seed=seed, **given)
        torch.manual_seed(seed + 1)
        step(optimizer, params, [[torch.ones_like(p) for p in params]] * 3)
        return params

    first, again, other = run(0), run(0, backend="reference"), run(1)
    assert torch.equal(first[0], again[0])
    assert not torch.equal(first[0], first[1])
    assert not torch.equal(first[0], other[0])


@pytest.mark.parametrize("layout", ["contiguous", "transposed"])
def test_large_tensors_are_cut_without_a_trace(layout: str) -> None:
    big = torch.randn(3, 50_001, generator=torch.Generator().manual_seed(0))
    whole = nn.Parameter((big.t().contiguous().t() if layout == "transposed" else big).bfloat16())
    flat = whole.detach().as_strided((whole.numel(),), (1,)).clone()
    cuts = [nn.Parameter(each.clone()) for each in flat.split(40_000)]
    g = torch.randn(3, 50_001, generator=torch.Generator().manual_seed(1)).bfloat16()
    along = torch.empty_like(whole).copy_(g).detach()
    rows = along.as_strided((whole.numel(),), (1,)).split(40_000)
    step(optim.RMSprop([whole], lr=0.01), [whole], [[along]] * 3)
    step(optim.RMSprop(cuts, lr=0.01), cuts, [list(rows)] * 3)
    assert torch.equal(
        whole.detach().as_strided((whole.numel(),), (1,)), torch.cat([c.detach() for c in cuts])
    )


def test_states_are_the_parameters_dtype_as_in_torch_unless_float32_is_asked_for() -> None:
    params = parameters(torch.bfloat16)
    [row] = gradients(params, 1)
    plain, wide = optim.Adam(params), optim.Adam(parameters(torch.bfloat16), state_dtype=torch.float32)
    step(plain, params, [row])
    step(wide, wide.param_groups[0]["params"], [row])
    assert {s["exp_avg"].dtype for s in plain.state.values()} == {torch.bfloat16}
    assert {s["exp_avg_sq"].dtype for s in wide.state.values()} == {torch.float32}
    assert wide.param_groups[0]["state_dtype"] == "float32"


def test_float32_means_see_what_bfloat16_ones_lose() -> None:
    """The mean of g**2 = 1 over b2 = .999: a bfloat16 one stops where .001 (1 - v) is half a unit of v."""
    found: dict[str | None, float] = {}
    for wide in (None, "float32"):
        p = nn.Parameter(torch.zeros(3, dtype=torch.bfloat16))
        optimizer = optim.Adam([p], lr=0.0, state_dtype=wide, backend="reference")
        step(optimizer, [p], [[torch.ones_like(p)]] * 3000)
        found[wide] = float(optimizer.state[p]["exp_avg_sq"][0])
    assert found["float32"] == pytest.approx(1 - 0.999**3000, rel=1e-4)
    assert found[None] < 0.5


def test_what_is_written_into_a_parameter_counts_over_its_copy() -> None:
    p = nn.Parameter(torch.ones(4, dtype=torch.bfloat16))
    optimizer = optim.SGD([p], lr=1e-3, rounding="master")
    step(optimizer, [p], [[torch.ones_like(p)]])
    assert p.tolist() == [1.0] * 4  # 0.999 rounds back
    with torch.no_grad():
        p[0] = 5.0
    step(optimizer, [p], [[torch.zeros_like(p)]])
    torch.testing.assert_close(optimizer.state[p]["master"], torch.tensor([5.0, 0.999, 0.999, 0.999]))
    assert p.tolist() == [5.0, 1.0, 1.0, 1.0]


def test_the_copy_of_a_row_gives_way_to_what_is_written_too() -> None:
    p = nn.Parameter(torch.ones(3, 2, dtype=torch.bfloat16))
    optimizer = optim.SGD([p], lr=1e-3, rounding="master")
    g = torch.sparse_coo_tensor([[1]], torch.ones(1, 2, dtype=torch.bfloat16), (3, 2), check_invariants=True)
    step(optimizer, [p], [[g]])
    with torch.no_grad():
        p[1] = 5.0
    step(optimizer, [p], [[g]])
    assert optimizer.state[p]["master"][1].tolist() == pytest.approx([4.999, 4.999])
    assert p.tolist() == [[1.0, 1.0], [5.0, 5.0], [1.0, 1.0]]


def test_every_piece_of_a_large_tensor_draws_bits_of_its_own() -> None:
    p = nn.Parameter(torch.ones(100_000, dtype=torch.bfloat16))
    step(optim.SGD([p], lr=2e-3, rounding="stochastic"), [p], [[torch.ones_like(p)]])
    assert not torch.equal(p[: 100_000 - 65_536], p[65_536:])


@pytest.mark.parametrize("rounding", ["nearest", "stochastic", "master"])
def test_sparse_gradients_of_half_precision_take_every_rounding(rounding: Any) -> None:
    p = nn.Parameter(torch.ones(6, 2, dtype=torch.bfloat16))
    optimizer = optim.Adagrad([p], lr=1e-3, rounding=rounding)
    g = torch.sparse_coo_tensor(
        [[1, 4, 1]], torch.ones(3, 2, dtype=torch.bfloat16), (6, 2), check_invariants=True
    )
    step(optimizer, [p], [[g]] * 40)
    mean = float(p.detach()[[1, 4]].float().mean())
    exact = 1 - 1e-3 * sum(t**-0.5 for t in range(1, 41))
    assert (p[[0, 2, 3, 5]] == 1).all()
    assert mean == pytest.approx({"nearest": 1.0}.get(rounding, exact), abs=2e-3)
    if rounding == "master":
        assert optimizer.state[p]["master"][1, 0].item() == pytest.approx(exact, abs=1e-6)


def test_groups_may_round_each_in_its_way_and_dtypes_and_devices_mix() -> None:
    half, exact, chance = (nn.Parameter(torch.ones(5, dtype=torch.bfloat16)) for _ in range(3))
    full, double = nn.Parameter(torch.ones(5)), nn.Parameter(torch.ones(5, dtype=torch.complex128))
    blank = nn.Parameter(torch.ones(2, device="meta"))
    groups = [
        {"params": [half, full, double, blank]},
        {"params": [exact], "rounding": "master"},
        {"params": [chance], "rounding": "stochastic", "rounding_seed": 3},
    ]
    optimizer = optim.Adam(groups, lr=1e-4)
    params = [half, full, double, blank, exact, chance]
    step(optimizer, params, [[torch.ones_like(p) for p in params]] * 3)
    assert optimizer.state[exact]["master"].tolist() == pytest.approx([0.9997] * 5, abs=1e-6)
    assert full.tolist() == pytest.approx([0.9997] * 5, abs=1e-6)
    assert double.tolist() == pytest.approx([0.9997] * 5, abs=1e-6)
    assert "draws" in optimizer.state[chance]
    assert optimizer.state[half].keys() == optimizer.state[full].keys()
    assert optimizer.state[blank]["exp_avg"].device.type == "meta"
    assert {row.device for row in optimizer.plan().rows} == {"cpu", "meta"}


@pytest.mark.gpu
@pytest.mark.parametrize("rounding", ["nearest", "stochastic", "master"])
def test_a_gpu_takes_the_steps_of_the_cpu(rounding: Any) -> None:
    found: list[list[Tensor]] = []
    for device in ("cpu", "cuda"):
        params = [nn.Parameter(p.detach().to(device)) for p in parameters(torch.bfloat16)]
        rows = [[g.to(device) for g in row] for row in gradients(parameters(torch.bfloat16), 5)]
        step(optim.RMSprop(params, lr=0.01, rounding=rounding), params, rows)
        found.append([p.detach().cpu().float() for p in params])
    torch.testing.assert_close(found[0], found[1], rtol=2**-7, atol=2**-9)


@pytest.mark.parametrize(
    ("given", "words"),
    [
        ({"rounding": "random"}, "^rounding='random': must be one of 'nearest', 'stochastic', 'master'"),
        ({"rounding_seed": 3}, "^rounding_seed=3 belongs to rounding='stochastic'"),
        ({"rounding": "stochastic", "rounding_seed": -1}, "^rounding_seed=-1: must be"),
        ({"state_dtype": "float64"}, "^state_dtype='float64': must be one of None, 'float32'"),
        ({"state_dtype": torch.bfloat16}, "^state_dtype='bfloat16': must be"),
    ],
)
@pytest.mark.parametrize("where", ["constructor", "group"])
def test_what_is_no_rounding_is_refused_in_one_line(given: Given, words: str, where: str) -> None:
    p = nn.Parameter(torch.ones(2))
    groups, own = ([{"params": [p], **given}], {}) if where == "group" else ([p], given)
    with pytest.raises(RecipeError, match=words):
        optim.Adam(groups, **own)


def test_a_kernel_of_torch_that_was_asked_for_cannot_round_by_chance() -> None:
    p = nn.Parameter(torch.ones(2, dtype=torch.bfloat16))
    optimizer = optim.Adam([p], rounding="stochastic", backend="native")
    with pytest.raises(RecipeError, match=r"^backend='native': no kernel of torch's steps [^\n]* stochastic"):
        step(optimizer, [p], [[torch.ones_like(p)]])


@pytest.mark.parametrize("rounding", ["stochastic", "master"])
def test_copies_go_on_as_the_first(rounding: Any) -> None:
    params = parameters(torch.bfloat16)
    rows = gradients(params, 6)
    optimizer = optim.Adam(params, lr=0.01, rounding=rounding)
    step(optimizer, params, rows[:3])
    twin = copy.deepcopy(optimizer)
    own = twin.param_groups[0]["params"]
    step(optimizer, params, rows[3:])
    step(twin, own, rows[3:])
    assert all(torch.equal(p, q) for p, q in zip(params, own, strict=True))
