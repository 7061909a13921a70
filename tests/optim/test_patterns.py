"""Names and patterns of routes, roles and matrices: each must be that of a parameter."""

from __future__ import annotations

import pytest
import torch
from torch import nn

from downslope import optim
from downslope.core.errors import RecipeError


class _Model(nn.Module):
    def __init__(self):
        super().__init__()
        self.e, self.body, self.last = nn.Embedding(5, 4), nn.Linear(4, 4), nn.Linear(4, 5)

    def forward(self, x):
        return self.last(self.body(self.e(x)))


def _orthogonalised(optimizer, model):
    """Names of the parameters that take the step of matrices."""
    for p in model.parameters():
        p.grad = torch.ones_like(p)
    optimizer.step()
    bare = {id(p): name for name, p in model.named_parameters()}
    return {bare[id(p)] for p, state in optimizer.state.items() if "momentum_buffer" in state}


def _muon(group=None, **settings):
    return optim.Muon([{"params": list(_Model().named_parameters()), **(group or {})}], **settings)


def _route(where, **more):
    rate = optim.ScaleByLr(lr=0.1)
    rule = optim.route((where, rate), otherwise=rate, **more)
    return optim.Custom(_Model().named_parameters(), rule)


@pytest.mark.parametrize(
    ("make", "said"),
    [
        (lambda: _muon(roles={"e.wieght": "head"}), "'e.wieght'; nearest: 'e.weight'"),
        (lambda: _muon(roles={"e.*": "embedding", "encc.*": "norm"}), r"'encc\.\*'; "),
        (lambda: _muon(matrices={"params": ["zzz*"]}), r"'zzz\*'; there are 'e.weight'"),
        (lambda: _muon({"matrices": {"params": ["b"]}}), "'b'"),
        (lambda: _route({"params": ["typo*"]}), r"'typo\*'"),
        (lambda: _route({"params": ["body.*", "typo*"]}), r"'typo\*'"),
        (
            lambda: _route({"role": ["head"]}, roles={"lst.weight": "head"}),
            "'lst.weight'; nearest: 'last.weight'",
        ),
        (lambda: optim.roles(_Model(), {"lst.weight": "head"}), "'lst.weight'; nearest: 'last.weight'"),
    ],
)
def test_a_pattern_that_no_parameter_has_is_refused(make, said):
    with pytest.raises(RecipeError, match="no parameter is called " + said) as caught:
        make()
    assert "\n" not in str(caught.value)


def test_roles_of_a_whole_model_serve_an_optimizer_of_a_part():
    model = _Model()
    table = optim.roles(model)
    part = [(name, p) for name, p in model.named_parameters() if name.startswith("last")]
    optim.Muon(part, roles=table).step()
    optim.Muon(part, roles={**table, "e.weight": "embedding"}, matrices={"params": ["body.*", "last.*"]})


@pytest.mark.parametrize("wrap", ["_orig_mod.{}", "module.{}", "module._orig_mod.{}", "_orig_mod.module.{}"])
@pytest.mark.parametrize("turned", [False, True])
def test_roles_are_found_under_the_names_of_compiled_and_distributed_models(wrap, turned):
    model = _Model()
    table, named = optim.roles(model), list(model.named_parameters())
    if turned:
        table = {wrap.format(name): role for name, role in table.items()}
    else:
        named = [(wrap.format(name), p) for name, p in named]
    assert _orthogonalised(optim.Muon(named, roles=table), model) == {"body.weight"}


def test_names_of_torch_compile_take_roles_and_patterns():
    model = _Model()
    compiled = torch.compile(model, backend="eager")
    found = optim.Muon(compiled.named_parameters(), roles=optim.roles(model))
    assert _orthogonalised(found, model) == {"body.weight"}
    chosen = optim.Muon(compiled.named_parameters(), matrices={"params": ["body.*"]})
    assert _orthogonalised(chosen, model) == {"body.weight"}


def test_a_module_of_the_models_own_called_module_keeps_its_name():
    model = nn.ModuleDict({"module": nn.Linear(2, 2), "other": nn.Linear(2, 2)})
    table = {"module.weight": "head", "other.weight": "hidden"}
    assert _orthogonalised(optim.Muon(model.named_parameters(), roles=table), model) == {"other.weight"}
