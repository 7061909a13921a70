"""What an optimizer is given beside numbers out of their domain, refused in one line."""

from __future__ import annotations

import pytest
import torch
from torch import nn

from downslope import optim
from downslope.core import names
from downslope.core.errors import ModelError, RecipeError


def _parameter(*shape):
    p = nn.Parameter(torch.ones(shape or (3,)))
    p.grad = torch.ones_like(p)
    return p


@pytest.mark.parametrize(
    ("name", "meant"),
    [
        ("wd", "'weight_decay'"),
        ("decay", "'weight_decay'"),
        ("learning_rate", "'lr'"),
        ("Lr", "'lr'"),
        ("eps_root", "'eps'"),
        ("beta1", "'betas'"),
        ("momentum", "Adam has no such hyper-parameter; it has"),
        ("nonfinite", r"pass it to Adam\(..., nonfinite=...\)"),
        ("schedules", "it is one for all groups"),
        ("backend", "it is one for all groups"),
        ("roundng", "'rounding'"),
        ("lrate", "'lr'"),
        ("learn_rate", "'lr'"),
        ("epsilon", "'eps'"),
        ("weight_decy", "'weight_decay'"),
    ],
)
def test_an_entry_that_sounds_like_a_setting_is_refused(name, meant):
    with pytest.raises(RecipeError, match=f"parameter group has {name!r}.*{meant}"):
        optim.Adam([{"params": [_parameter()], name: 0.1}])


@pytest.mark.parametrize(
    "name", ["foo", "layer", "lr_scale", "lr_mult", "initial_lr", "max_lr", "min_lr", "base_momentum", "tags"]
)
def test_entries_of_others_may_stand_in_a_group(name):
    group = optim.SGD([{"params": [_parameter()], name: 0.1}]).param_groups[0]
    assert group[name] == 0.1


@pytest.mark.parametrize(
    ("source", "target"),
    [
        ("LAMB", "Adam"),
        ("RAdam", "Adam"),
        ("AdamW", "LAMB"),
        ("LAMB", "SOAP"),
        ("RAdam", "NAdam"),
        ("Adam", "RAdam"),
        ("Adam", "LAMB"),
        ("LAMB", "RAdam"),
        ("AdaBelief", "Adan"),
    ],
)
def test_the_state_of_another_optimizer_with_states_of_the_same_names_is_refused(source, target):
    saved = getattr(optim, source)([_parameter()])
    saved.step()
    loads = getattr(optim, target)([_parameter()])
    with pytest.raises(RecipeError, match="saved by another optimizer"):
        loads.load_state_dict(saved.state_dict())


_SAME = [
    ("SGD", "GD"),
    ("SGD", "Momentum"),
    ("Adam", "AdamW"),
    ("AdamW", "CautiousAdamW"),
    ("Lion", "CautiousLion"),
]


@pytest.mark.parametrize(("source", "target"), [*_SAME, *(pair[::-1] for pair in _SAME)])
def test_the_state_of_another_form_of_the_same_optimizer_is_taken(source, target):
    saved = getattr(optim, source)([_parameter()]).state_dict()
    loads = getattr(optim, target)([_parameter()])
    for group in saved["param_groups"]:
        group.pop("decoupled_weight_decay", None)  # which tells Adam and AdamW apart
    loads.load_state_dict(saved)
    assert loads.state_dict()["optimizer"] == saved["optimizer"]


def test_every_optimizer_refuses_the_state_of_every_other_by_its_name():
    rows = {row.name: names.resolve("optimizer", row.name) for row in optim.catalogue()}
    classes = {cls.__name__: cls for cls in rows.values() if issubclass(cls, optim.Optimizer)}
    made = {name: cls([_parameter(3, 2)]) for name, cls in classes.items()}
    saved = {name: each.state_dict() for name, each in made.items()}
    alike = [{"SGD", "GD", "Momentum", "Nesterov"}, {"Adam", "AMSGrad", "AdamW", "CautiousAdamW"}]
    alike.append({"Lion", "CautiousLion"})
    for name, each in made.items():
        for other, state in saved.items():
            if name == other or any({name, other} <= kind for kind in alike):
                continue
            with pytest.raises(
                RecipeError, match=f"saved by another optimizer.* load it into {state['optimizer']}$"
            ):
                each.load_state_dict(state)


def test_old_states_say_nothing_of_who_saved_them_and_chains_take_any_that_fits():
    saved = optim.LAMB([_parameter()]).state_dict()
    loads = optim.LAMB([_parameter()])
    loads.load_state_dict({key: saved[key] for key in ("state", "param_groups")})
    rules = optim.chain(optim.ScaleByAdam(), optim.ScaleByLr(lr=0.1))
    own = optim.Custom([_parameter()], rules)
    assert "optimizer" not in own.state_dict()
    own.load_state_dict(optim.Adam([_parameter()], lr=0.2).state_dict())
    assert own.param_groups[0]["lr"] == 0.2


@pytest.mark.parametrize("make", [optim.SAM, optim.Lookahead])
def test_wrappers_refuse_states_of_another_base(make):
    saved = make([_parameter()], base_optimizer="lamb").state_dict()
    make([_parameter()], base_optimizer="lamb").load_state_dict(saved)
    with pytest.raises(RecipeError, match=r"is of LAMB, not of RAdam"):
        make([_parameter()], base_optimizer="radam").load_state_dict(saved)


@pytest.mark.parametrize("name", ["SGD", "Adam", "AdamW", "RAdam", "NAdam", "Adadelta", "Adamax", "RMSprop"])
def test_torchs_own_state_is_still_taken(name):
    saved = getattr(torch.optim, name)([_parameter()])
    saved.step()
    torch.optim.lr_scheduler.ExponentialLR(saved, 0.5)
    loads = getattr(optim, name)([_parameter()])
    loads.load_state_dict(saved.state_dict())
    loads.step()


@pytest.mark.parametrize(
    ("make", "error", "said"),
    [
        (lambda: optim.SGD([torch.ones(2, dtype=torch.int64)]), ModelError, "is torch.int64, which has no"),
        (lambda: optim.SGD([torch.ones(2, requires_grad=True) * 2]), ModelError, "non-leaf"),
        (lambda: optim.Adam(nn.Linear(2, 2)), ModelError, r"pass its parameters, model.parameters\(\)"),
        (lambda: optim.Adam(3), ModelError, "params is int"),
        (lambda: optim.Adam("weights"), ModelError, "params is str"),
        (lambda: optim.SGD([_parameter()]).load_state_dict(None), RecipeError, "is NoneType"),
        (lambda: optim.Adam([_parameter()], nonfinit="skip"), RecipeError, "did you mean 'nonfinite'"),
        (lambda: optim.Adam([_parameter()], bakend="eager"), RecipeError, "did you mean 'backend'"),
        (lambda: optim.Adam([_parameter()], xyz=1), RecipeError, "known: .*nonfinite, rounding.*schedules"),
    ],
)
def test_wrong_uses_are_refused_in_one_line(make, error, said):
    with pytest.raises(error, match=said) as caught:
        make()
    assert "\n" not in str(caught.value)


def _loaded(**changes):
    optimizer = optim.Adam([_parameter(), _parameter()])
    optimizer.load_state_dict({**optimizer.state_dict(), **changes})


def _with_gaps():
    p = nn.Parameter(torch.ones(8)[::2])
    p.grad = torch.ones(4)
    optim.RMSprop([p], backend="kernel").step()


def _routed(where):
    rate = optim.ScaleByLr(lr=0.1)
    return optim.Custom(nn.Linear(2, 2).named_parameters(), optim.route((where, rate), otherwise=rate))


_KIND = (ModelError, TypeError)


@pytest.mark.parametrize(
    ("make", "error", "said"),
    [
        (lambda: optim.Adam([{"params": [_parameter()]}, _parameter()]), _KIND, "a group first and a para"),
        (lambda: optim.Adam([_parameter(), {"params": [_parameter()]}]), _KIND, "a parameter first and a gr"),
        (lambda: optim.Adam(_parameter()), _KIND, r"one tensor of shape \(3,\): put it into a list"),
        (lambda: optim.Adam([3]), _KIND, "parameter 0 is int"),
        (lambda: optim.Adam([("a", 3)]), _KIND, r"parameter 0 is \(str, int\)"),
        (lambda: optim.Adam([("a",)]), _KIND, r"parameter 0 is \(str\)"),
        (lambda: optim.Adam([{"params": 3}]), _KIND, "params is int"),
        (lambda: optim.Adam([{"params": nn.Linear(2, 2)}]), _KIND, "params is Linear"),
        (lambda: optim.Adam([_parameter()]).add_param_group(3), _KIND, "a parameter group is int"),
        (lambda: optim.Adam([_parameter()]).add_param_group(_parameter()), _KIND, "group is Parameter"),
        (lambda: _loaded(param_groups=3), (RecipeError,), "'param_groups' is 3"),
        (lambda: _loaded(param_groups=[3]), (RecipeError,), r"'param_groups' is \[3\]"),
        (lambda: _loaded(state=3), (RecipeError,), "'state' is 3"),
        (lambda: _loaded(state={0: 3}), (RecipeError,), "state of parameter 0 is int"),
        (lambda: _loaded(param_groups=[{"params": [0]}]), (RecipeError,), "1 group of 1 p.* 1 group of 2 p"),
        (lambda: _loaded(param_groups=[]), (RecipeError,), "make the optimizer over the parameters"),
        (lambda: optim.SGD([nn.Parameter(torch.ones(3).to(torch.float8_e5m2))]), (ModelError,),
         "torch.float8_e5m2, in which no step can be taken: allowed are float16"),
        (lambda: optim.build(None, [_parameter()], {}), (ValueError,), "optimizer=None: must be a name"),
        (lambda: optim.build("adam", [_parameter()], None), (RecipeError,), "settings=None: must be a table"),
        (lambda: optim.route(optim.Sign(), otherwise=optim.Sign()), (RecipeError,), r"route 0 is Sign\(\): "),
        (lambda: optim.route((optim.Sign(),), otherwise=optim.Sign()), (RecipeError,), "must be a pair"),
        (lambda: _routed(lambda name, p: p.ndim == 1), (RecipeError,), r"called with \(parameter, name\)"),
        (lambda: _routed(lambda p: p.ndim == 1), (RecipeError,), "raised TypeError"),
        (lambda: optim.Custom([_parameter()], optim.chain()), (RecipeError,), "a chain without links"),
        (lambda: optim.ClipNorm(max_norm=0.0), (RecipeError,), r"max_norm=0: must lie in \(0, inf\]"),
    ],
)  # fmt: skip
def test_what_is_of_another_kind_is_refused_in_one_line(make, error, said):
    with pytest.raises(error[0], match=said) as caught:
        make()
    assert all(isinstance(caught.value, each) for each in error)  # torch's class of errors too
    assert "\n" not in str(caught.value)


def test_forced_kernel_says_which_parameter_it_cannot_step():
    pytest.importorskip("numba")
    with pytest.raises(RecipeError, match=r"gaps in memory \(a parameter of shape \(4,\)\)"):
        _with_gaps()


def test_a_refused_state_leaves_the_optimizer_as_it_was():
    optimizer = optim.Adam([_parameter(), _parameter()])
    optimizer.step()
    before = optimizer.state_dict()
    with pytest.raises(RecipeError):
        optimizer.load_state_dict(optim.Adam([_parameter()]).state_dict())
    assert str(optimizer.state_dict()) == str(before)


@pytest.mark.parametrize("given", [{"rounding": "stochastic"}, {"state_dtype": "float32"}])
def test_plan_says_that_rounding_does_nothing_where_all_is_float32(given):
    assert "does nothing here" in optim.Adam([_parameter()], **given).plan().note
    half = nn.Parameter(torch.ones(3, dtype=torch.bfloat16))
    assert not optim.Adam([_parameter(), half], **given).plan().note


def test_a_frozen_parameter_of_float8_may_be_handed_over_with_its_model():
    quantised = nn.Parameter(torch.ones(2).to(torch.float8_e4m3fn), requires_grad=False)
    optim.SGD([quantised, _parameter()], lr=1.0).step()


@pytest.mark.parametrize("name", ["lookahead(adam)", "sam(adam)", "sam(lookahead(adam))"])
@pytest.mark.parametrize(
    ("option", "value"), [("nonfinite", "skip"), ("backend", "eager"), ("rounding", "stochastic")]
)
def test_names_of_wrappers_take_what_their_bases_take(name, option, value):
    optimizer = optim.build(name, [_parameter()], {option: value})
    while hasattr(optimizer, "base_optimizer"):
        optimizer = optimizer.base_optimizer
    held = optimizer.param_groups[0] if option == "rounding" else vars(optimizer)
    assert held.get(option, getattr(optimizer, option, None)) == value
    with pytest.raises(RecipeError, match=f"did you mean '{option}'"):
        optim.build(name, [_parameter()], {option[:-1]: value})


def test_frozen_parameters_of_whole_numbers_may_be_handed_over_with_their_model():
    quantised = nn.Parameter(torch.ones(2, dtype=torch.uint8), requires_grad=False)
    p = _parameter()
    optim.SGD([quantised, p], lr=1.0).step()
    assert torch.equal(p.detach(), torch.zeros(3))


@pytest.mark.parametrize("steps", [0, 1])
def test_a_setting_taken_out_of_its_group_is_missed(steps):
    optimizer = optim.SGD([_parameter()])
    for _ in range(steps):
        optimizer.step()
    del optimizer.param_groups[0]["lr"]
    with pytest.raises(RecipeError, match=r"has no 'lr' .*set group\['lr'\] again"):
        optimizer.step()


@pytest.mark.parametrize("shape", [(3,), ()])
def test_rates_of_members_need_a_parameter_of_as_many(shape):
    p = nn.Parameter(torch.ones(shape))
    p.grad = torch.ones_like(p)
    with pytest.raises(RecipeError, match="its first dimension must be the members"):
        optim.Custom([p], optim.ScaleByLr(lr=torch.tensor([1.0, 2.0]))).step()
    pair = _parameter(2, 3)
    optim.Custom([pair], optim.ScaleByLr(lr=torch.tensor([1.0, 2.0]))).step()
    assert torch.equal(pair.detach()[:, 0], torch.tensor([0.0, -1.0]))


@pytest.mark.parametrize(
    ("make", "said"),
    [
        (lambda: optim.LAMB([_parameter()], clamp=(5.0, 1.0)), r"clamp=\(5, 1\): the lower bound .* above"),
        (lambda: optim.Prodigy([_parameter()], d0=0), r"d0=0: must lie in \(0, inf\)"),
        (lambda: optim.Lookahead([_parameter()], k=0), "^k=0: must be a whole number from 1"),
        (lambda: optim.Lookahead([_parameter()], alpha=2.0), "^alpha=2: must lie in"),
        (lambda: optim.Lion([_parameter()], betas=0.9), "the mean whose sign is taken"),
        (lambda: optim.Adafactor([_parameter()], beta2_decay=1.0), "it is the power of t in"),
        (lambda: optim.RMSprop([_parameter()], alpha=1.0), r"alpha=1: must lie in \[0, 1\)"),
        (lambda: optim.Adagrad([_parameter()], lr_decay=-1.0), "lr_decay=-1: must lie in"),
        (lambda: optim.Adagrad([_parameter()], initial_accumulator_value=-1.0), "=-1: must lie in"),
        (lambda: type("X", (optim.SGD, optim.Caution), {}), r"write class X\(Caution, SGD\)"),
    ],
)
def test_settings_are_refused_in_the_words_they_were_given(make, said):
    with pytest.raises(RecipeError, match=said):
        make()


def test_caution_stands_before_the_class_it_is_for():
    class Careful(optim.Caution, optim.SGD):
        pass

    class More(Careful):
        @classmethod
        def compose(cls, settings):
            return super().compose(settings)

    assert "Cautious" in str(More([_parameter()], momentum=0.9)._compose(More([_parameter()]).defaults))


@pytest.mark.parametrize("shape", [(0, 3), (3, 0), (0, 2, 2)])
def test_muon_steps_matrices_without_elements(shape):
    p, q = _parameter(*shape), _parameter(4, 3)
    optim.Muon([p, q]).step()
    assert p.shape == shape
    assert not torch.equal(q.detach(), torch.ones(4, 3))
    reference = _parameter(*shape)
    optim.Muon([reference], backend="reference").step()


SEVERAL = torch.tensor([0.1, 0.2])


@pytest.mark.parametrize(
    ("make", "name"),
    [
        (lambda p: optim.SGD([p], lr=SEVERAL), "lr"),
        (lambda p: optim.SGD([{"params": [p], "lr": SEVERAL}]), "lr"),
        (lambda p: optim.SGD([p], lr=torch.tensor([])), "lr"),
        (lambda p: optim.AdamW([p], weight_decay=SEVERAL), "weight_decay"),
        (lambda p: optim.Adam([p], betas=(SEVERAL, 0.9)), "betas"),
        (lambda p: optim.Muon([p], momentum=SEVERAL, matrices=True), "momentum"),
        (lambda p: optim.LAMB([p], eps=SEVERAL), "eps"),
        (lambda p: optim.SAM([p], lr=0.1, rho=SEVERAL), "rho"),
        (lambda p: optim.Lookahead([p], la_alpha=SEVERAL), "la_alpha"),
    ],
)
def test_several_numbers_where_one_is_due_are_refused_in_one_line(make, name):
    with pytest.raises(RecipeError, match=rf"^{name} is a tensor of shape .*: \w+ takes one number"):
        make(_parameter(2, 3))


@pytest.mark.parametrize(
    ("name", "value", "one"),
    [
        ("lr", SEVERAL, torch.tensor([[0.1]])),
        ("betas", (SEVERAL, 0.9), (torch.tensor(0.9), 0.9)),
        ("betas", [0.9, SEVERAL], [0.9, 0.9]),
    ],
)
@pytest.mark.parametrize("steps", [0, 1, 3])
def test_several_numbers_set_during_the_run_are_refused_and_nothing_moves(steps, name, value, one):
    p = _parameter(2, 3)
    optimizer = optim.Adam([p])
    for _ in range(steps):
        optimizer.step()
    before = p.detach().clone()
    optimizer.param_groups[0][name] = value
    with pytest.raises(RecipeError, match=f"{name} is a tensor of shape"):
        optimizer.step()
    assert torch.equal(p, before)
    optimizer.param_groups[0][name] = one
    optimizer.step()  # one number may be a tensor of any shape


@pytest.mark.parametrize("shape", [((4, 2), (1, 1)), ((5,), (0,)), ((2, 3, 2), (3, 0, 1))])
def test_elements_that_share_memory_are_refused(shape):
    p = nn.Parameter(torch.zeros(20).as_strided(*shape))
    with pytest.raises(ModelError, match="elements that share memory, as after expand"):
        optim.SGD([p])
    p.requires_grad_(False)
    optimizer = optim.SGD([p, _parameter(2)])  # frozen it may wait
    p.requires_grad_(True)
    p.grad = torch.ones_like(p)
    with pytest.raises(ModelError, match="share memory"):
        optimizer.step()


@pytest.mark.parametrize(
    "shape", [((3, 2), (4, 6)), ((2, 3), (1, 2)), ((2, 1, 3), (8, 0, 2)), ((0, 3), (0, 0))]
)
def test_elements_apart_are_stepped_whatever_their_strides(shape):
    p = nn.Parameter(torch.zeros(20).as_strided(*shape))
    p.grad = torch.ones(p.shape)
    optim.SGD([p], lr=1.0).step()
    assert torch.equal(p.detach(), torch.full(p.shape, -1.0))


@pytest.mark.parametrize("given", [3, "loss", torch.tensor(1.0)])
@pytest.mark.parametrize("make", [optim.Adam, optim.SAM, optim.Lookahead])
def test_what_is_no_closure_is_refused_and_the_gradients_stay(make, given):
    p = _parameter(2)
    optimizer = make([p])
    with pytest.raises(TypeError, match=r"^step\(.*\): must be a closure, .*call step\(\)$"):
        optimizer.step(given)
    assert p.grad is not None
    assert torch.equal(p.detach(), torch.ones(2))


@pytest.mark.parametrize(
    ("rule", "name"),
    [
        (optim.ClipValue, "clip_value"),
        (optim.ClipTensor, "max_tensor_norm"),
        (optim.ClipAdaptive, "clipping"),
        (optim.ClipNorm, "max_norm"),
        (optim.clip_norm, "max_norm"),
    ],
)
def test_a_clip_to_nothing_is_refused(rule, name):
    with pytest.raises(RecipeError, match=rf"^{name}=0: must lie in \(0, inf\]"):
        rule(**{name: 0.0})
