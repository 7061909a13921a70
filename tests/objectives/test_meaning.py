"""What an objective expects, read from every way in which it can be given."""

from __future__ import annotations

import functools

import pytest
import torch
from torch import nn
from torch.nn import functional

from downslope.core import names
from downslope.core.errors import UnknownNameError
from downslope.objectives import Meaning, cross_entropy, logistic, meaning


@pytest.mark.parametrize(
    ("module", "function", "expects", "target"),
    [
        (nn.CrossEntropyLoss(), functional.cross_entropy, "logits", "class"),
        (nn.NLLLoss(), functional.nll_loss, "log-probabilities", "class"),
        (nn.KLDivLoss(reduction="batchmean"), functional.kl_div, "log-probabilities", "probability"),
        (nn.BCELoss(), functional.binary_cross_entropy, "probability", "binary"),
        (nn.BCEWithLogitsLoss(), functional.binary_cross_entropy_with_logits, "logit", "binary"),
        (nn.MSELoss(), functional.mse_loss, "real", "real"),
        (nn.L1Loss(), functional.l1_loss, "real", "real"),
        (nn.SmoothL1Loss(), functional.smooth_l1_loss, "real", "real"),
        (nn.HuberLoss(), functional.huber_loss, "real", "real"),
        (nn.GaussianNLLLoss(), functional.gaussian_nll_loss, "real", "real"),
        (nn.PoissonNLLLoss(), functional.poisson_nll_loss, "real", "real"),
        (nn.MultiLabelSoftMarginLoss(), functional.multilabel_soft_margin_loss, "logit", "binary"),
        (nn.MultiMarginLoss(), functional.multi_margin_loss, "logits", "class"),
        (nn.SoftMarginLoss(), functional.soft_margin_loss, "sign", "binary"),
    ],
)
def test_torchs_modules_and_functions_mean_the_same(module, function, expects, target):
    assert meaning(module)[:2] == meaning(function)[:2] == (expects, target)
    assert meaning(module).name == type(module).__name__
    assert meaning(function).name == function.__name__


@pytest.mark.parametrize("name", sorted({*names.TABLE["objective"]} - {"elbo"}))
def test_named_objectives_are_known_by_name_and_by_function(name):
    known = meaning(name)
    assert known == meaning(names.resolve("objective", name))
    assert known.expects is not None
    assert known.target is not None
    assert known.reduction == "mean"
    assert known.name == name


def test_aliases_and_unknown_names():
    assert meaning("bce") == meaning(logistic)
    with pytest.raises(UnknownNameError, match="cross_entropy"):
        meaning("cros_entropy")


@pytest.mark.parametrize("reduction", ["sum", "none"])
def test_the_reduction_is_read(reduction):
    assert meaning(nn.MSELoss(reduction=reduction)).reduction == reduction
    assert meaning(functools.partial(functional.mse_loss, reduction=reduction)).reduction == reduction
    assert meaning(functional.mse_loss).reduction == "mean"


def test_a_partial_means_what_it_wraps():
    inner = functools.partial(cross_entropy, label_smoothing=0.1)
    assert meaning(functools.partial(inner, weight=None)) == meaning(cross_entropy)


def test_a_wrapped_function_is_found_again():
    @functools.wraps(functional.cross_entropy)
    def watched(*args, **kwargs):
        return functional.cross_entropy(*args, **kwargs)

    assert meaning(watched).expects == "logits"


def test_a_subclass_counts_only_if_it_keeps_the_forward():
    class Kept(nn.CrossEntropyLoss):
        pass

    class Changed(nn.CrossEntropyLoss):
        def forward(self, output, target):
            return super().forward(output.log(), target)

    assert meaning(Kept()).expects == "logits"
    assert meaning(Changed()) == Meaning(None, None, "Changed", None)


def test_anything_else_is_not_guessed():
    def own(output, target):
        return ((output - target) ** 2).mean()

    class Odd:
        expects = torch.zeros(3)

        def __call__(self, output, target):
            return output.mean()

    assert meaning(own) == Meaning(None, None, "own", None)
    assert meaning(Odd()) == Meaning(None, None, "Odd", None)
    assert meaning(None).expects is None


def test_a_users_function_may_say_what_it_expects():
    def own(output, target):
        return (output - target).abs().mean()

    own.expects = "probability"
    assert meaning(own) == Meaning("probability", None, "own", None)
