"""One table from names to code, so that a name can be stored in a file and means one thing.

A table maps a name to ``"module:attribute"``; nothing is imported until a name is resolved. The kinds
are those of `Kind`. Adding an algorithm is one file, its test, and one line here.
"""

from __future__ import annotations

import difflib
import functools
import importlib
import re
from collections.abc import Iterable
from pathlib import Path
from typing import Any, Literal

from downslope.core.errors import UnknownNameError
from downslope.core.wrapped import wrapped

Kind = Literal[
    "optimizer", "schedule", "init", "objective", "metric", "model", "data", "augment", "constraint",
    "function",
]  # fmt: skip

_OPTIM = "downslope.optim"
_METHODS = "downslope.terrain.methods"
_OBJECTIVES = "downslope.objectives"
_AUGMENT = "downslope.augment"
_CONSTRAINTS = "downslope.constraints"
_METRICS = "downslope.objectives.metrics"
_FUNCTIONS = "downslope.terrain.functions"

TABLE: dict[Kind, dict[str, str]] = {
    "optimizer": {
        "gd": f"{_OPTIM}:GD",
        "sgd": f"{_OPTIM}:SGD",
        "momentum": f"{_OPTIM}:Momentum",
        "nesterov": f"{_OPTIM}:Nesterov",
        "averaged_momentum": f"{_OPTIM}:AveragedMomentum",
        "adagrad": f"{_OPTIM}:Adagrad",
        "adadelta": f"{_OPTIM}:Adadelta",
        "rmsprop": f"{_OPTIM}:RMSprop",
        "adam": f"{_OPTIM}:Adam",
        "adamw": f"{_OPTIM}:AdamW",
        "sparse_adam": f"{_OPTIM}:SparseAdam",
        "lamb": f"{_OPTIM}:LAMB",
        "lars": f"{_OPTIM}:LARS",
        "cautious_adamw": f"{_OPTIM}:CautiousAdamW",
        "cautious_lion": f"{_OPTIM}:CautiousLion",
        "prodigy": f"{_OPTIM}:Prodigy",
        "adamax": f"{_OPTIM}:Adamax",
        "nadam": f"{_OPTIM}:NAdam",
        "radam": f"{_OPTIM}:RAdam",
        "adabelief": f"{_OPTIM}:AdaBelief",
        "adan": f"{_OPTIM}:Adan",
        "ademamix": f"{_OPTIM}:AdEMAMix",
        "lion": f"{_OPTIM}:Lion",
        "signum": f"{_OPTIM}:Signum",
        "muon": f"{_OPTIM}.muon:Muon",
        "adafactor": f"{_OPTIM}:Adafactor",
        "schedule_free_sgd": f"{_OPTIM}:ScheduleFreeSGD",
        "schedule_free_adamw": f"{_OPTIM}:ScheduleFreeAdamW",
        "sam": f"{_OPTIM}:SAM",
        "lookahead": f"{_OPTIM}:Lookahead",
        "shampoo": f"{_OPTIM}:Shampoo",
        "soap": f"{_OPTIM}:SOAP",
        "newton": f"{_METHODS}:Newton",
        "trust_region": f"{_METHODS}:TrustRegion",
        "saddle_free_newton": f"{_METHODS}:SaddleFreeNewton",
        "newton_cg": f"{_METHODS}:NewtonCG",
        "nonlinear_cg": f"{_METHODS}:NonlinearCG",
        "lbfgs": f"{_METHODS}:LBFGS",
        "coordinate_descent": f"{_METHODS}:CoordinateDescent",
        "block_coordinate_descent": f"{_METHODS}:BlockCoordinateDescent",
        "gauss_newton": f"{_METHODS}:GaussNewton",
        "levenberg_marquardt": f"{_METHODS}:LevenbergMarquardt",
        "hessian_free": f"{_METHODS}:HessianFree",
        "natural_gradient": f"{_METHODS}:NaturalGradient",
        "kfac": f"{_METHODS}:KFAC",
    },
    "schedule": {
        "constant": "downslope.schedules:constant",
        "step": "downslope.schedules:step",
        "stairs": "downslope.schedules:stairs",
        "exponential": "downslope.schedules:exponential",
        "cosine": "downslope.schedules:cosine",
        "inverse_sqrt": "downslope.schedules:inverse_sqrt",
        "cyclic": "downslope.schedules:cyclic",
        "polynomial": "downslope.schedules:polynomial",
        "cosine_restarts": "downslope.schedules:cosine_restarts",
        "one_cycle": "downslope.schedules:one_cycle",
        "one_cycle_momentum": "downslope.schedules:one_cycle_momentum",
        "warmup_stable_decay": "downslope.schedules:warmup_stable_decay",
        "plateau": "downslope.schedules:plateau",
    },
    "init": {
        "zeros": "downslope.init:zeros",
        "constant": "downslope.init:constant",
        "normal": "downslope.init:normal",
        "truncated_normal": "downslope.init:truncated_normal",
        "uniform": "downslope.init:uniform",
        "xavier": "downslope.init:xavier",
        "xavier_uniform": "downslope.init:xavier_uniform",
        "he": "downslope.init:he",
        "he_uniform": "downslope.init:he_uniform",
        "lecun": "downslope.init:lecun",
        "lecun_uniform": "downslope.init:lecun_uniform",
        "orthogonal": "downslope.init:orthogonal",
        "auto": "downslope.init:auto",
        "lsuv": "downslope.init:lsuv",
        "fixup": "downslope.init:fixup",
        "mup": "downslope.init:mup",
    },
    "objective": {
        "squared_error": f"{_OBJECTIVES}:squared_error",
        "absolute_error": f"{_OBJECTIVES}:absolute_error",
        "huber": f"{_OBJECTIVES}:huber",
        "logistic": f"{_OBJECTIVES}:logistic",
        "cross_entropy": f"{_OBJECTIVES}:cross_entropy",
        "hinge": f"{_OBJECTIVES}:hinge",
        "categorical": f"{_OBJECTIVES}:categorical",
        "bernoulli": f"{_OBJECTIVES}:bernoulli",
        "elbo": f"{_OBJECTIVES}:elbo",
    },
    "metric": {
        "accuracy": f"{_METRICS}:accuracy",
        "error": f"{_METRICS}:error",
        "balanced_accuracy": f"{_METRICS}:balanced_accuracy",
        "f1": f"{_METRICS}:f1",
        "auc": f"{_METRICS}:auc",
        "mse": f"{_METRICS}:mse",
        "rmse": f"{_METRICS}:rmse",
        "mae": f"{_METRICS}:mae",
        "r2": f"{_METRICS}:r2",
    },
    "model": {
        "linear": "downslope.models:linear",
        "logistic": "downslope.models:logistic",
        "softmax": "downslope.models:softmax",
        "mlp": "downslope.models:mlp",
        "cnn": "downslope.models:cnn",
        "rnn": "downslope.models:rnn",
        "lstm": "downslope.models:lstm",
        "gru": "downslope.models:gru",
        "transformer": "downslope.models:transformer",
        "lenet": "downslope.models:lenet",
        "cnn_2c2d": "downslope.models:cnn_2c2d",
        "cnn_3c3d": "downslope.models:cnn_3c3d",
        "alexnet": "downslope.models:alexnet",
        "resnet": "downslope.models:resnet",
        "gpt": "downslope.models:gpt",
        "autoencoder": "downslope.models:autoencoder",
        "vae": "downslope.models:vae",
        "multi_task": "downslope.models:multi_task",
    },
    "data": {
        "digits": "downslope.data:digits",
        "breast_cancer": "downslope.data:breast_cancer",
        "wine": "downslope.data:wine",
        "diabetes": "downslope.data:diabetes",
        "adding": "downslope.data:adding",
        "motifs": "downslope.data:motifs",
        "mnist": "downslope.data:mnist",
        "fashion_mnist": "downslope.data:fashion_mnist",
        "cifar10": "downslope.data:cifar10",
        "tinyshakespeare": "downslope.data:tinyshakespeare",
        "a1a": "downslope.data:a1a",
        "a9a": "downslope.data:a9a",
        "airfoil": "downslope.data:airfoil",
    },
    "constraint": {
        "box": f"{_CONSTRAINTS}:box",
        "non_negative": f"{_CONSTRAINTS}:non_negative",
        "l2_ball": f"{_CONSTRAINTS}:l2_ball",
        "max_norm": f"{_CONSTRAINTS}:max_norm",
        "simplex": f"{_CONSTRAINTS}:simplex",
        "orthogonal": f"{_CONSTRAINTS}:orthogonal",
    },
    "function": {
        "x_cos_pi_x": f"{_FUNCTIONS}:x_cos_pi_x",
        "cubic": f"{_FUNCTIONS}:cubic",
        "tanh": f"{_FUNCTIONS}:tanh",
        "exponential": f"{_FUNCTIONS}:exponential",
        "absolute": f"{_FUNCTIONS}:absolute",
        "flat_bottom": f"{_FUNCTIONS}:flat_bottom",
        "saddle": f"{_FUNCTIONS}:saddle",
        "monkey_saddle": f"{_FUNCTIONS}:monkey_saddle",
        "double_well": f"{_FUNCTIONS}:double_well",
        "rosenbrock": f"{_FUNCTIONS}:rosenbrock",
        "beale": f"{_FUNCTIONS}:beale",
        "booth": f"{_FUNCTIONS}:booth",
        "matyas": f"{_FUNCTIONS}:matyas",
        "bowl": f"{_FUNCTIONS}:bowl",
        "cliff": f"{_FUNCTIONS}:cliff",
        "himmelblau": f"{_FUNCTIONS}:himmelblau",
        "styblinski_tang": f"{_FUNCTIONS}:styblinski_tang",
        "rastrigin": f"{_FUNCTIONS}:rastrigin",
    },
    "augment": {
        "chain": f"{_AUGMENT}:Chain",
        "flip": f"{_AUGMENT}:Flip",
        "shift": f"{_AUGMENT}:Shift",
        "rotate": f"{_AUGMENT}:Rotate",
        "crop": f"{_AUGMENT}:Crop",
        "resized_crop": f"{_AUGMENT}:ResizedCrop",
        "colour": f"{_AUGMENT}:Colour",
        "noise": f"{_AUGMENT}:Noise",
        "cutout": f"{_AUGMENT}:Cutout",
        "erase": f"{_AUGMENT}:Erase",
        "mixup": f"{_AUGMENT}:MixUp",
        "cutmix": f"{_AUGMENT}:CutMix",
    },
}

ALIASES: dict[Kind, dict[str, str]] = {
    "optimizer": {
        "gradient_descent": "gd",
        "heavy_ball": "momentum",
        "nag": "nesterov",
        "ema_momentum": "averaged_momentum",
        "signsgd": "signum",
        "l_bfgs": "lbfgs",
        "bfgs": "lbfgs",
        "trust_ncg": "trust_region",
        "saddle_free": "saddle_free_newton",
        "sfn": "saddle_free_newton",
        "truncated_newton": "newton_cg",
        "cg": "nonlinear_cg",
        "ncg": "nonlinear_cg",
        "conjugate_gradients": "nonlinear_cg",
        "conjugate_gradient": "nonlinear_cg",
        "block_descent": "block_coordinate_descent",
    },
    "schedule": {
        "none": "constant",
        "linear": "polynomial",
        "sgdr": "cosine_restarts",
        "onecycle": "one_cycle",
        "1cycle": "one_cycle",
        "wsd": "warmup_stable_decay",
        "reduce_on_plateau": "plateau",
    },
    "init": {
        "glorot": "xavier",
        "kaiming": "he",
        "msra": "he",
        "glorot_uniform": "xavier_uniform",
        "kaiming_uniform": "he_uniform",
        "trunc_normal": "truncated_normal",
        "zero": "zeros",
    },
    "objective": {
        "mse": "squared_error",
        "mse_loss": "squared_error",
        "squared": "squared_error",
        "l2": "squared_error",
        "mae": "absolute_error",
        "l1": "absolute_error",
        "l1_loss": "absolute_error",
        "smooth_l1": "huber",
        "bce": "logistic",
        "binary_cross_entropy": "logistic",
        "bce_with_logits": "logistic",
        "softmax": "cross_entropy",
        "ce": "cross_entropy",
    },
    "metric": {
        "acc": "accuracy",
        "roc_auc": "auc",
        "mean_squared_error": "mse",
        "mean_absolute_error": "mae",
    },
    "model": {
        "linear_regression": "linear",
        "logistic_regression": "logistic",
        "softmax_regression": "softmax",
        "lenet5": "lenet",
        "2c2d": "cnn_2c2d",
        "3c3d": "cnn_3c3d",
    },
    "data": {"fmnist": "fashion_mnist", "shakespeare": "tinyshakespeare", "cifar_10": "cifar10"},
    "constraint": {
        "nonneg": "non_negative",
        "nonnegative": "non_negative",
        "positive": "non_negative",
        "ball": "l2_ball",
        "stiefel": "orthogonal",
    },
    "function": {
        "xcospix": "x_cos_pi_x",
        "x^3": "cubic",
        "cube": "cubic",
        "exp": "exponential",
        "x^2_y^2": "saddle",
        "quadratic": "bowl",
        "ill_conditioned": "bowl",
        "plateau": "tanh",
        "monkey": "monkey_saddle",
    },
    "augment": {
        "color": "colour",
        "color_jitter": "colour",
        "translate": "shift",
        "rotation": "rotate",
        "random_crop": "crop",
        "random_resized_crop": "resized_crop",
        "horizontal_flip": "flip",
        "random_erasing": "erase",
        "gaussian_noise": "noise",
    },
}

FORMS: dict[Kind, dict[str, str]] = {
    "objective": {
        "penalised": f"{_OBJECTIVES}:penalised",
        "composite": f"{_OBJECTIVES}:composite",
        "l1": f"{_OBJECTIVES}.penalties:l1",
        "l2": f"{_OBJECTIVES}.penalties:l2",
        "elastic": f"{_OBJECTIVES}.penalties:elastic",
    },
    "metric": {"by_task": f"{_METRICS}:by_task"},
}
"""What is made of named things: ``penalised(cross_entropy, l2=0.001)``."""

MAKERS: dict[Kind, str] = {
    "optimizer": f"{_OPTIM}.wrapper:from_text",
    "objective": f"{_OBJECTIVES}.make:from_text",
    "metric": f"{_METRICS}.by_task:from_text",
    "function": f"{_FUNCTIONS}:get",
}
"""What reads a name with settings, such as ``huber(delta=2.0)``."""

RECIPE_KEYS = {
    "learning_rate": "lr", "eta": "lr", "n_epochs": "epochs", "num_epochs": "epochs", "max_epochs": "epochs",
    "max_steps": "steps", "iterations": "steps", "bs": "batch_size", "wd": "weight_decay",
    "l2": "weight_decay",
    "scheduler": "schedule", "lr_scheduler": "schedule", "warmup_steps": "warmup", "opt": "optimizer",
    "grad_clip": "clip_norm", "max_grad_norm": "clip_norm", "clip": "clip_norm", "early_stopping": "patience",
    "llrd": "layer_decay", "lr_decay": "layer_decay", "gradual_unfreezing": "unfreeze",
    "dtype": "precision", "random_state": "seed", "ema": "average", "swa": "average",
    "swa_start": "average_from", "initialisation": "init",
}  # fmt: skip
"""What other libraries call a key of a recipe."""


def nearest(given: str, allowed: Iterable[str], limit: int = 3, ratio: float = 0.7) -> list[str]:
    """The `limit` names of `allowed` close to `given`, best first.

    Close is a name of difflib's `ratio` or more (a slip in a name of four letters has 0.75, words of another
    meaning come up to 0.67), first those of the same letters, and one that `given` begins or is a word of:
    "decay" is near "weight_decay".
    """
    given, allowed = given.lower(), list(allowed)
    slips = difflib.get_close_matches(given, allowed, n=limit + 3, cutoff=ratio)
    swapped_first = sorted(slips, key=lambda name: sorted(name) != sorted(given))
    longer = [name for name in allowed if len(given) > 2 and _begins_or_is_word(given, name.lower())]
    return list(dict.fromkeys([*swapped_first[:limit], *sorted(longer, key=len)]))[:limit]


def _begins_or_is_word(given: str, name: str) -> bool:
    return name.startswith(given) or given in re.split(r"[-_. ]", name)


def did_you_mean(given: str, allowed: Iterable[str], ratio: float = 0.7) -> str:
    """``"; did you mean 'adam'?"``, or the list of what is allowed where nothing is near.

    Of a key with a dot the head alone may be near: "model.width" for "modle.width".
    """
    allowed = sorted(allowed)
    close = nearest(given, allowed, 1, ratio)
    if close:
        return f"; did you mean {close[0]!r}?"
    head, dot, rest = given.partition(".")
    if dot and head not in allowed and (close := nearest(head, allowed, 1, ratio)):
        return f"; did you mean {close[0] + dot + rest!r}?"
    return f"; known: {', '.join(allowed) or 'none'}"


def canonical(kind: Kind, name: str) -> str:
    """The table's own spelling of `name`: case, ``-`` and aliases do not matter.

    Raises:
        UnknownNameError: no such name; the message names the nearest.
    """
    given: Any = name
    if not isinstance(given, str):
        known = sorted(TABLE[kind])
        raise UnknownNameError(f"{kind}={given!r}: must be a name, one of {', '.join(known)}")
    if kind == "optimizer" and (around := wrapped(name, functools.partial(canonical, kind))) is not None:
        return around
    spelt = name.strip().lower().replace("-", "_").replace(" ", "_")
    spelt = ALIASES[kind].get(spelt, spelt)
    if spelt not in TABLE[kind]:
        known = set(TABLE[kind]) | set(ALIASES[kind])
        raise UnknownNameError(f"{kind} {name!r} is not known{did_you_mean(spelt, known)}")
    return spelt


def catalogued(kind: Kind, thing: Any) -> bool:
    """Whether `thing` is what a name of the table stands for; nothing is imported to tell."""
    place, name = getattr(thing, "__module__", None) or "", getattr(thing, "__name__", None)
    return any(
        place.startswith(module) and name == attribute
        for module, _, attribute in (each.partition(":") for each in TABLE[kind].values())
    )


def load(reference: str) -> Any:
    """The object at ``"package.module:attribute"`` or ``"file.py:attribute"`` (dots are followed).

    Raises:
        UnknownNameError: the module or the attribute does not exist.
    """
    module_name, _, attribute = reference.partition(":")
    if not attribute:
        raise UnknownNameError(f"{reference!r} is no reference: write 'package.module:attribute'")
    try:
        found: Any = _module(module_name)
        for part in attribute.split("."):
            found = getattr(found, part)
    except (ImportError, AttributeError) as error:
        raise UnknownNameError(f"{reference!r} cannot be loaded: {error}") from error
    return found


def _module(name: str) -> Any:
    if not name.endswith(".py"):
        return importlib.import_module(name)
    from downslope.core.code_file import imported

    return imported(Path(name))


def resolve(kind: Kind, name: str) -> Any:
    """What `name` stands for: a table's entry, one with settings, or any ``"package.module:attribute"``.

    Raises:
        UnknownNameError: neither; the message names the nearest.
        InputError: settings that it does not have.
    """
    given: Any = name
    if kind == "optimizer" and isinstance(given, str) and ":" not in given:
        name = given = canonical(kind, name)
    if kind in MAKERS and isinstance(given, str) and "(" in given:
        return load(MAKERS[kind])(name)
    return load(name) if ":" in name else load(TABLE[kind][canonical(kind, name)])
