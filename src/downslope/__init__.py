"""Downslope: fit a deep model, hear why training fails, prove the remedy, and see all of it.

The names below are loaded when they are first used, so that ``import downslope`` costs milliseconds and
loads no torch. Nouns: `Problem` (what), `Recipe` (how), `Run` (what happened), `Finding` (what is wrong).
Verbs: `fit`, `fit_population`, `diagnose`, `repair`, `solve`, `survey`, `landscape`, `paths`, `connect`,
`watch`, `tune`, `race`, `batch_sizes`, `load_run`, `load_search`, `load_race`, `report`, `probe_layers`,
`lr_range`, `batch_limit`, `batch_table`, `escape`, `critical_points`, `animate`.

Example:
    >>> import downslope as ds
    >>> recipe = ds.Recipe(optimizer="sgd", lr=0.1, epochs=5, seed=0)
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from downslope._version import __version__
from downslope.core.faces import face

if TYPE_CHECKING:
    from downslope import augment, constraints, data, init, models, objectives, optim, schedules
    from downslope.core import edits
    from downslope.core.finding import Finding
    from downslope.core.problem import Problem
    from downslope.core.recipe import Recipe
    from downslope.core.run import Run, load_run
    from downslope.core.space import choice, integer, log, one_minus, uniform, when
    from downslope.diagnosis.diagnose import diagnose
    from downslope.diagnosis.monitor import watch
    from downslope.diagnosis.repair import repair
    from downslope.racing.batch_sizes import batch_sizes
    from downslope.racing.kept import load_race
    from downslope.racing.race import race
    from downslope.reporting.animation import animate
    from downslope.reporting.report import report
    from downslope.terrain import functions, methods
    from downslope.terrain.convexity.convexity import convexity
    from downslope.terrain.critical.critical import critical_points
    from downslope.terrain.escapes.escape import escape
    from downslope.terrain.exact.solve import solve
    from downslope.terrain.expansion import expansion
    from downslope.terrain.modes.connect import connect
    from downslope.terrain.paths.paths import paths
    from downslope.terrain.recurrence.lags import lags
    from downslope.terrain.slices.landscape import landscape
    from downslope.terrain.slices.trail import Recorder
    from downslope.terrain.surveys.survey import survey
    from downslope.training.batch_limit import batch_limit
    from downslope.training.batch_table import batch_table
    from downslope.training.bias_variance import bias_variance
    from downslope.training.extract import extract
    from downslope.training.fit import fit
    from downslope.training.layer_probe import probe_layers
    from downslope.training.learning_curve import learning_curve
    from downslope.training.lr_range import lr_range
    from downslope.training.population import fit_population
    from downslope.tuning.tune import load_search, tune

__all__ = [
    "Finding",
    "Problem",
    "Recipe",
    "Recorder",
    "Run",
    "__version__",
    "animate",
    "bias_variance",
    "augment",
    "connect",
    "constraints",
    "batch_limit",
    "batch_sizes",
    "batch_table",
    "choice",
    "convexity",
    "critical_points",
    "data",
    "diagnose",
    "edits",
    "escape",
    "expansion",
    "extract",
    "fit",
    "fit_population",
    "functions",
    "init",
    "integer",
    "lags",
    "landscape",
    "learning_curve",
    "load_race",
    "load_run",
    "load_search",
    "log",
    "lr_range",
    "methods",
    "models",
    "objectives",
    "one_minus",
    "optim",
    "paths",
    "probe_layers",
    "race",
    "repair",
    "report",
    "schedules",
    "solve",
    "survey",
    "tune",
    "uniform",
    "watch",
    "when",
]

# Where each name lives; "module" alone stands for the module itself. No module of the top level bears the
# name of a verb, so that importing a module can never hide a verb.
_HOME = {
    "Finding": "downslope.core.finding:Finding",
    "Problem": "downslope.core.problem:Problem",
    "Recipe": "downslope.core.recipe:Recipe",
    "Recorder": "downslope.terrain.slices.trail:Recorder",
    "Run": "downslope.core.run:Run",
    "animate": "downslope.reporting.animation:animate",
    "augment": "downslope.augment",
    "bias_variance": "downslope.training.bias_variance:bias_variance",
    "choice": "downslope.core.space:choice",
    "connect": "downslope.terrain.modes.connect:connect",
    "constraints": "downslope.constraints",
    "batch_limit": "downslope.training.batch_limit:batch_limit",
    "batch_sizes": "downslope.racing.batch_sizes:batch_sizes",
    "batch_table": "downslope.training.batch_table:batch_table",
    "critical_points": "downslope.terrain.critical.critical:critical_points",
    "data": "downslope.data",
    "diagnose": "downslope.diagnosis.diagnose:diagnose",
    "edits": "downslope.core.edits",
    "escape": "downslope.terrain.escapes.escape:escape",
    "expansion": "downslope.terrain.expansion:expansion",
    "extract": "downslope.training.extract:extract",
    "fit": "downslope.training.fit:fit",
    "fit_population": "downslope.training.population:fit_population",
    "functions": "downslope.terrain.functions",
    "init": "downslope.init",
    "integer": "downslope.core.space:integer",
    "lags": "downslope.terrain.recurrence.lags:lags",
    "learning_curve": "downslope.training.learning_curve:learning_curve",
    "load_race": "downslope.racing.kept:load_race",
    "load_run": "downslope.core.run:load_run",
    "load_search": "downslope.tuning.tune:load_search",
    "log": "downslope.core.space:log",
    "landscape": "downslope.terrain.slices.landscape:landscape",
    "lr_range": "downslope.training.lr_range:lr_range",
    "methods": "downslope.terrain.methods",
    "models": "downslope.models",
    "objectives": "downslope.objectives",
    "one_minus": "downslope.core.space:one_minus",
    "optim": "downslope.optim",
    "paths": "downslope.terrain.paths.paths:paths",
    "probe_layers": "downslope.training.layer_probe:probe_layers",
    "race": "downslope.racing.race:race",
    "repair": "downslope.diagnosis.repair:repair",
    "report": "downslope.reporting.report:report",
    "schedules": "downslope.schedules",
    "convexity": "downslope.terrain.convexity.convexity:convexity",
    "solve": "downslope.terrain.exact.solve:solve",
    "survey": "downslope.terrain.surveys.survey:survey",
    "tune": "downslope.tuning.tune:tune",
    "uniform": "downslope.core.space:uniform",
    "watch": "downslope.diagnosis.monitor:watch",
    "when": "downslope.core.space:when",
}

face(__name__, _HOME)
