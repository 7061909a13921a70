"""The driver: groups, closures, hooks, dtypes, changes during the run, and every refusal."""

from __future__ import annotations

import copy
import io
import math
import pickle
import subprocess
import sys
from collections import defaultdict

import pytest
import torch
from torch import nn
from torch.optim.optimizer import register_optimizer_step_post_hook, register_optimizer_step_pre_hook

from downslope import optim
from downslope.core.errors import ModelError, RecipeError
from downslope.optim.domains import check
from downslope.testing import gradients, parameters, run
from tests.optim import recurrences


def one(value=1.0, **kw):
    return nn.Parameter(torch.full((3,), value, **kw))


def test_each_group_steps_by_its_own_settings():
    first, second = one(dtype=torch.float64), one(dtype=torch.float64)
    optimizer = optim.SGD(
        [{"params": [first], "lr": 0.5, "momentum": 0.9}, {"params": [second], "nesterov": False}], lr=0.1
    )
    run(optimizer, [[torch.ones(3, dtype=torch.float64)] * 2 for _ in range(3)])
    assert first.tolist() == pytest.approx([1 - 0.5 * (1 + 1.9 + 2.71)] * 3)
    assert second.tolist() == pytest.approx([0.7] * 3)


def test_group_added_during_the_run_starts_at_its_own_first_step():
    early, late = parameters(torch.float64)[:2]
    wanted = recurrences.adam(
        late.detach().numpy(), [g[1].numpy() for g in gradients(torch.float64, 10)], lr=0.1
    )
    optimizer = optim.Adam([early], lr=0.1)
    for grads in gradients(torch.float64, 5):
        run(optimizer, [grads[:1]])
    optimizer.add_param_group({"params": [late]})
    for grads in gradients(torch.float64, 10):
        run(optimizer, [grads[:2]])
    torch.testing.assert_close(late.detach(), torch.from_numpy(wanted), rtol=1e-12, atol=1e-12)


def test_named_parameters_keep_their_names():
    model = nn.Linear(2, 2)
    optimizer = optim.Adam(model.named_parameters())
    assert optimizer.param_groups[0]["param_names"] == ["weight", "bias"]


def test_closure_runs_with_gradients_on_and_its_loss_is_returned():
    w = one(3.0)
    optimizer = optim.GD([w], lr=0.1)

    def closure():
        optimizer.zero_grad()
        loss = (w**2).sum()
        loss.backward()
        return loss

    with torch.no_grad():
        assert float(optimizer.step(closure).detach()) == 27.0
        assert not torch.is_grad_enabled()
    assert w.tolist() == pytest.approx([2.4] * 3)


def test_hooks_of_the_optimizer_and_of_torch_see_each_step_once():
    seen = []
    w = one()
    optimizer = optim.GD([w], lr=0.1)
    handles = [
        optimizer.register_step_pre_hook(lambda o, args, kwargs: seen.append("pre")),
        optimizer.register_step_post_hook(lambda o, args, kwargs: seen.append("post")),
        register_optimizer_step_pre_hook(lambda o, args, kwargs: seen.append(("all pre", o is optimizer))),
        register_optimizer_step_post_hook(
            lambda o, args, kwargs: seen.append(("all post", args[0] is optimizer))
        ),
    ]
    w.grad = torch.ones(3)
    optimizer.step()
    assert seen == [("all pre", True), "pre", "post", ("all post", True)]
    assert optimizer.step(closure=lambda: 5) == 5
    for handle in handles:
        handle.remove()
    optimizer.step()
    assert len(seen) == 8
    assert w.tolist() == pytest.approx([0.7] * 3)


def test_profiler_names_the_step():
    w = one()
    w.grad = torch.ones(3)
    optimizer = optim.GD([w])
    with torch.profiler.profile() as profile:
        optimizer.step()
    assert any("Optimizer.step#GD.step" in event.key for event in profile.key_averages())


@pytest.mark.parametrize("make", [optim.Momentum, optim.Adagrad, optim.RMSprop, optim.Adam, optim.AdamW])
def test_mixed_dtypes_step_as_they_would_alone(make):
    dtypes = [torch.float32, torch.float64, torch.bfloat16, torch.float64]
    mixed = [nn.Parameter(p.detach().to(d)) for p, d in zip(parameters(torch.float64), dtypes, strict=True)]
    alone = [nn.Parameter(p.detach().clone()) for p in mixed]
    given = [[g.to(d) for g, d in zip(grads, dtypes, strict=True)] for grads in gradients(torch.float64, 10)]
    run(make(mixed), given)
    for i, p in enumerate(alone):
        run(make([p]), [[grads[i]] for grads in given])
        assert torch.equal(p, mixed[i])
        assert p.dtype == dtypes[i]


def test_gradient_laid_out_otherwise_than_its_parameter_gives_the_right_step():
    w = nn.Parameter(torch.zeros(2, 3))
    optimizer = optim.SGD([w], lr=1.0, momentum=0.5)
    g = torch.arange(6.0).reshape(2, 3)
    for laid_out in (g.clone(), g.t().contiguous().t(), g.clone()):
        w.grad = laid_out
        optimizer.step()
    torch.testing.assert_close(w.detach(), -(1 + 1.5 + 1.75) * g)


def test_frozen_parameter_stays():
    frozen, free = one(), one()
    frozen.requires_grad_(False)
    optimizer = optim.AdamW([frozen, free])
    for _ in range(3):
        (frozen * free).sum().backward()
        optimizer.step()
    assert frozen.tolist() == [1.0] * 3
    assert frozen not in optimizer.state
    assert optimizer.state[free]["step"] == 3


def test_step_without_any_gradient_does_nothing():
    w = one()
    optim.Adam([w]).step()
    assert w.tolist() == [1.0] * 3


def test_setting_changed_in_the_group_counts_from_the_next_step():
    w = one(dtype=torch.float64)
    optimizer = optim.SGD([w], lr=0.1)
    ones = [[torch.ones(3, dtype=torch.float64)]]
    run(optimizer, ones)
    optimizer.param_groups[0]["lr"] = 0.2
    run(optimizer, ones)
    optimizer.param_groups[0].update(momentum=0.5, weight_decay=0.1)
    run(optimizer, ones)
    assert w[0].item() == pytest.approx(0.7 - 0.2 * 1.07)
    optimizer.param_groups[0]["nesterov"] = True
    run(optimizer, ones)
    g = 1 + 0.1 * 0.486
    assert w[0].item() == pytest.approx(0.486 - 0.2 * (g + 0.5 * (0.5 * 1.07 + g)))


@pytest.mark.parametrize("backend", ["native", "eager", "reference"])
def test_amsgrad_switched_on_in_the_group_keeps_the_moments(backend):
    w = one(dtype=torch.float64)
    optimizer = optim.Adam([w], lr=0.1, betas=(0.5, 0.5), eps=0.0, backend=backend)
    run(optimizer, [[torch.full((3,), 2.0, dtype=torch.float64)]])
    optimizer.param_groups[0]["amsgrad"] = True
    before = w.detach().clone()
    # m = (1 + 1/2) / (3/4), v = 2, 9/4, top = 9/4; then m = 3/4, v = 9/8, top stays.
    run(optimizer, [[torch.full((3,), g, dtype=torch.float64)] for g in (1.5811388300841898, 0.0)])
    m2 = 0.5 * 1 + 0.5 * 1.5811388300841898
    first = m2 / 0.75 / math.sqrt(2.25 / 0.75)
    second = 0.5 * m2 / 0.875 / math.sqrt(2.25 / 0.875)
    assert (before - w.detach()).tolist() == pytest.approx([0.1 * (first + second)] * 3)
    assert optimizer.state[w]["step"] == 3


def test_tensor_lr_filled_in_place_counts():
    w, lr = one(dtype=torch.float64), torch.tensor(0.5)
    optimizer = optim.GD([w], lr=0.5)
    optimizer.param_groups[0]["lr"] = lr
    run(optimizer, [[torch.ones(3, dtype=torch.float64)]])
    lr.fill_(0.25)
    run(optimizer, [[torch.ones(3, dtype=torch.float64)]])
    assert w.tolist() == [0.25] * 3


def test_zero_grad_forgets_or_zeroes():
    w = one()
    w.grad = torch.ones(3)
    optimizer = optim.GD([w])
    optimizer.zero_grad(set_to_none=False)
    assert w.grad.tolist() == [0.0] * 3
    optimizer.zero_grad()
    assert w.grad is None


@pytest.mark.parametrize(
    "copied", [copy.deepcopy, lambda o: pickle.loads(pickle.dumps(o))], ids=["copy", "pickle"]
)
@pytest.mark.parametrize(
    "make",
    [
        lambda p: optim.Adam(p, backend="eager"),
        lambda p: optim.Custom(p, optim.chain(optim.HeavyBall(), optim.ScaleByLr(lr=0.1))),
    ],
)
def test_copied_optimizer_goes_on_as_the_first(make, copied):
    params = parameters(torch.float64)
    optimizer = make(params)
    run(optimizer, gradients(torch.float64, 5))
    twin = copied(optimizer)
    assert twin.backend == optimizer.backend
    run(optimizer, gradients(torch.float64, 5, seed=9))
    run(twin, gradients(torch.float64, 5, seed=9))
    for a, b in zip(params, twin.param_groups[0]["params"], strict=True):
        assert a is not b
        assert torch.equal(a, b)


def test_saved_state_does_not_move_with_the_optimizer_that_loads_it():
    params = parameters(torch.float32)
    optimizer = optim.Adam(params)
    run(optimizer, gradients(torch.float32, 3))
    file = io.BytesIO()
    torch.save(optimizer.state_dict(), file)
    file.seek(0)
    saved = torch.load(file, weights_only=True)
    before = copy.deepcopy(saved)
    other = optim.Adam(parameters(torch.float32))
    other.load_state_dict(saved)
    run(other, gradients(torch.float32, 3))
    for key, state in saved["state"].items():
        for name, value in state.items():
            assert torch.equal(value, before["state"][key][name])


@pytest.mark.parametrize("backend", ["native", "eager", "reference"])
def test_state_saved_under_another_memory_format_is_laid_out_anew(backend):
    plain = nn.Parameter(torch.randn(2, 3, 4, 4))
    optimizer = optim.Adam([plain], backend=backend)
    given = [[torch.randn(2, 3, 4, 4)] for _ in range(6)]
    run(optimizer, given[:3])
    last = nn.Parameter(plain.detach().clone(memory_format=torch.channels_last))
    other = optim.Adam([last], backend=backend)
    other.load_state_dict(optimizer.state_dict())
    run(optimizer, given[3:])
    for grads in given[3:]:
        last.grad = grads[0].clone(memory_format=torch.channels_last)
        other.step()
    torch.testing.assert_close(last.detach(), plain.detach())


@pytest.mark.parametrize(
    "forget", [lambda o: o.state.clear(), lambda o: setattr(o, "state", defaultdict(dict))]
)
def test_forgotten_state_starts_afresh(forget):
    w, fresh = one(), one()
    optimizer, wanted = optim.Adam([w], lr=0.1), optim.Adam([fresh], lr=0.1)
    run(optimizer, [[torch.full((3,), 5.0)]])
    with torch.no_grad():
        w.fill_(1.0)
    forget(optimizer)
    given = gradients(torch.float32, 5)
    run(optimizer, [[grads[1][:3]] for grads in given])
    run(wanted, [[grads[1][:3]] for grads in given])
    assert torch.equal(w, fresh)


def test_parameter_exchanged_in_its_group_is_stepped():
    old, new = one(), one()
    optimizer = optim.GD([old], lr=0.1)
    run(optimizer, [[torch.ones(3)]])
    optimizer.param_groups[0]["params"][0] = new
    run(optimizer, [[torch.ones(3)]])
    assert old.tolist() == new.tolist() == pytest.approx([0.9] * 3)


def test_plan_names_backend_and_reason():
    gap = nn.Parameter(torch.zeros(4, 4)[:, :2])
    plan = optim.Adam([nn.Parameter(torch.zeros(3, 4)), gap]).plan()
    assert [(row.backend, row.elements) for row in plan.rows] == [("native", 12), ("eager", 8)]
    text = str(plan)
    assert "torch._fused_adam_ needs tensors without gaps in memory" in text
    assert "torch has no fused kernel" in str(optim.RMSprop([one()]).plan())
    assert optim.Adam([one()], backend="reference").plan().rows[0].reason == "asked for"


def test_torchs_compiler_is_not_loaded():
    """Loading it takes as long as loading torch, at the first optimizer that a process makes."""
    program = (
        "import sys, torch; from downslope import optim; p = torch.nn.Parameter(torch.ones(2));"
        "o = optim.Adam([p]); p.grad = p.detach(); o.step(); o.zero_grad();"
        "o.load_state_dict(o.state_dict());"
        "assert 'torch._dynamo' not in sys.modules"
    )
    subprocess.run([sys.executable, "-c", program], check=True)


def test_full_batch_descent_says_so():
    assert optim.GD.batch == "full"
    assert optim.SGD.batch is None


def lopsided():
    optimizer = optim.Adam([one()])
    optimizer.load_state_dict(
        {
            "state": {0: {"step": torch.tensor(1.0), "exp_avg": torch.ones(5), "exp_avg_sq": torch.ones(5)}},
            "param_groups": optimizer.state_dict()["param_groups"],
        }
    )
    w = optimizer.param_groups[0]["params"][0]
    w.grad = torch.ones(3)
    optimizer.step()


def foreign():
    adam = optim.Adam([one()])
    run(adam, [[torch.ones(3)]])
    optim.SGD([one()], momentum=0.9).load_state_dict(adam.state_dict())


def stepped(make, g=None, **changes):
    w = one()
    optimizer = make([w])
    w.grad = torch.ones(3) if g is None else g
    optimizer.step()
    optimizer.param_groups[0].update(changes)
    optimizer.step()


def coupled_from_decoupled():
    theirs = torch.optim.Adam([one()], decoupled_weight_decay=True)
    optim.Adam([one()]).load_state_dict(theirs.state_dict())


TWICE = one()

REFUSED = [
    (lambda: optim.Adam([one()], betas=(1.2, 0.9)), RecipeError,
     r"betas\[0\]=1.2: must lie in \[0, 1\), it is the decay of a mean; 0.9 is usual"),
    (lambda: optim.Adam([one()], betas=(0.9, 1.0)), RecipeError, r"betas\[1\]=1: must lie in \[0, 1\)"),
    (lambda: check("betas", (2, 3)), RecipeError, r"betas\[0\]=2: must lie in \[0, 1\)"),
    (lambda: optim.Adam([one()], betas=0.9), RecipeError, "betas=0.9: must be two numbers"),
    (lambda: optim.Adam([one()], betas=(0.9,)), RecipeError, "must be two numbers"),
    (lambda: optim.Adam([one()], betas="ab"), RecipeError, "must be two numbers"),
    (lambda: optim.Adam([one()], eps=-1e-8), RecipeError, "eps=-1e-08: must lie in"),
    (lambda: optim.SGD([one()], lr=-0.1), RecipeError, r"lr=-0.1: must lie in \[0, inf\), it is the length"),
    (lambda: optim.SGD([one()], lr=math.nan), RecipeError, "lr=nan: must lie in"),
    (lambda: optim.SGD([one()], lr=math.inf), RecipeError, "lr=inf: must lie in"),
    (lambda: optim.SGD([one()], lr="fast"), RecipeError, "lr='fast': must be a number"),
    (lambda: optim.SGD([one()], lr=True), RecipeError, "lr=True: must be a number"),
    (lambda: optim.SGD([one()], lr=None), RecipeError, "lr=None: must be a number"),
    (lambda: optim.SGD([one()], momentum=1.0), RecipeError, r"momentum=1: must lie in \[0, 1\)"),
    (lambda: optim.SGD([one()], dampening=1.1), RecipeError, r"dampening=1.1: must lie in \[0, 1\]"),
    (lambda: optim.SGD([one()], weight_decay=-1), RecipeError, "weight_decay=-1: must lie in"),
    (lambda: optim.SGD([one()], nesterov=True), RecipeError, "Nesterov needs momentum over 0"),
    (lambda: optim.SGD([one()], momentum=0.9, dampening=0.1, nesterov=True), RecipeError, "dampening 0"),
    (lambda: optim.SGD([one()], nesterov=1), RecipeError, "nesterov=1: must be True or False"),
    (lambda: optim.Adagrad([one()], lr_decay=-1), RecipeError, "lr_decay=-1"),
    (lambda: optim.Adagrad([one()], initial_accumulator_value=-1), RecipeError,
     "initial_accumulator_value=-1"),
    (lambda: optim.RMSprop([one()], alpha=1.0), RecipeError, "alpha=1: must lie in"),
    (lambda: optim.RMSprop([one()], centered="yes"), RecipeError, "centered='yes'"),
    (lambda: optim.Custom([one()], optim.chain(optim.ScaleByLr(lr=torch.tensor([0.1, -1.0])))), RecipeError,
     "lr of member 1 = -1: must lie in"),
    (lambda: optim.SGD([{"params": [one()], "lr": -1}]), RecipeError, "lr=-1"),
    (lambda: optim.SGD([{"params": [one()], "weightdecay": 0.1}]), RecipeError,
     "did you mean 'weight_decay'"),
    (lambda: optim.Adafactor([one()], backend="compiled"), RecipeError, "backend='compiled': ScaleByFactors"),
    (lambda: optim.SGD([one()], backend="nativ"), RecipeError, "did you mean 'native'"),
    (lambda: optim.RMSprop([one()], backend="native"), RecipeError, "torch has no fused kernel"),
    (lambda: stepped(lambda p: optim.SGD(p, backend="native"), lr=math.nan), RecipeError, "lr=nan"),
    (lambda: stepped(optim.SGD, lr=-1.0), RecipeError, "lr=-1"),
    (lambda: stepped(optim.Adam, betas=(2.0, 0.9)), RecipeError, r"betas\[0\]=2"),
    (lambda: stepped(optim.RMSprop, torch.ones(3).to_sparse()), RecipeError, "is sparse, and ScaleByRms"),
    (lambda: optim.SGD([]), ModelError, "params is empty: the model has nothing to train"),
    (lambda: optim.SGD(iter([])), ModelError, "params is empty"),
    (lambda: optim.SGD([{"params": []}]), ModelError, "group is empty"),
    (lambda: optim.SGD([TWICE, TWICE]), ModelError, r"parameter 1 of shape \(3,\) is given twice"),
    (lambda: optim.SGD([{"params": [TWICE]}, {"params": [TWICE]}]), ModelError, "given twice"),
    (lambda: optim.SGD([torch.ones(3).to_sparse().requires_grad_()]), ModelError, "is itself sparse"),
    (lambda: optim.SGD(one()), TypeError, "params argument"),
    (lambda: optim.SGD([3.0]), TypeError, "can only optimize Tensors"),
    (lambda: optim.SGD([one() * 2]), ValueError, "non-leaf"),
    (lopsided, RecipeError, r"state 'exp_avg' is \(5,\) for a parameter of shape \(3,\)"),
    (foreign, RecipeError, "the state_dict is of Adam, not of SGD: it was saved by another optimizer"),
    (coupled_from_decoupled, RecipeError, "use AdamW"),
    (lambda: optim.chain(optim.HeavyBall(), optim.LookAhead()), RecipeError,
     "HeavyBall and LookAhead both have a hyper-parameter 'momentum'"),
    (lambda: optim.chain(optim.ScaleByLr(lr=0.1)).replace(rl=1), RecipeError, "no hyper-parameter 'rl'"),
]  # fmt: skip


@pytest.mark.parametrize(("attempt", "error", "message"), REFUSED, ids=[row[2][:40] for row in REFUSED])
def test_wrong_use_is_refused_in_one_line(attempt, error, message):
    with pytest.raises(error, match=message) as caught:
        attempt()
    assert "\n" not in str(caught.value)


def test_failed_step_leaves_gradients_on_and_parameters_as_they_were():
    w = one()
    optimizer = optim.SGD([w], lr=0.1)
    run(optimizer, [[torch.ones(3)]])
    kept = w.detach().clone()
    optimizer.param_groups[0]["lr"] = math.inf
    with pytest.raises(RecipeError):
        optimizer.step()
    assert torch.equal(w, kept)
    assert torch.is_grad_enabled()
