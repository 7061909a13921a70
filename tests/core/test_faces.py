"""A face gives its names, loaded when they are used, whichever of its modules came first."""

from __future__ import annotations

import importlib
import inspect
import subprocess
import sys
import types

import pytest

from downslope.core.faces import Face

FACES = (
    "downslope", "downslope.augment", "downslope.constraints", "downslope.core.edits", "downslope.data",
    "downslope.init", "downslope.objectives", "downslope.objectives.metrics", "downslope.optim",
    "downslope.schedules", "downslope.terrain", "downslope.terrain.exact", "downslope.terrain.functions",
    "downslope.terrain.ground", "downslope.terrain.methods", "downslope.terrain.operators",
    "downslope.terrain.spectrum",
)  # fmt: skip


@pytest.mark.parametrize("package", FACES)
def test_every_name_of_a_face_resolves_and_is_listed_for_type_checkers(package: str) -> None:
    face = importlib.import_module(package)
    assert isinstance(face, Face)
    assert set(face._homes) == set(face.__all__) - {"__version__"}
    for name in face.__all__:
        assert getattr(face, name) is not None
        assert name in dir(face)


def test_a_function_that_is_named_as_its_module_is_not_hidden_by_it_whichever_module_comes_first() -> None:
    code = (
        "import importlib, sys, torch, downslope.terrain.sharpness, downslope.terrain as terrain\n"
        "import downslope.terrain.spectrum.density\n"
        "from downslope.terrain import sharpness, stability, density, ground, operators, spectrum\n"
        "import downslope.terrain.stability\n"
        "for name in ('sharpness', 'lanczos', 'stability', 'density'):\n"
        "    assert callable(getattr(terrain, name)), getattr(terrain, name)\n"
        "assert callable(sharpness) and callable(stability) and callable(spectrum.density)\n"
        "for each in sorted({h.partition(':')[0] for f in (terrain, ground, operators, spectrum)\n"
        "                    for h in f._homes.values()}):\n"
        "    for name in [name for name in sys.modules if name.startswith('downslope')]:\n"
        "        del sys.modules[name]\n"
        "    importlib.import_module(each)"
    )
    subprocess.run([sys.executable, "-c", code], check=True)


def test_a_module_that_is_no_name_of_the_face_is_bound_as_ever() -> None:
    import downslope.terrain as terrain

    module = importlib.import_module("downslope.terrain.noise")
    assert isinstance(terrain.noise, types.ModuleType)
    assert terrain.noise is module
    assert inspect.isfunction(terrain.noise_scale)


def test_a_name_may_be_replaced_as_that_of_any_module(monkeypatch: pytest.MonkeyPatch) -> None:
    import downslope.terrain as terrain

    monkeypatch.setattr(terrain, "trace", 3)
    assert terrain.trace == 3


def test_what_an_import_makes_is_not_looked_through_and_the_collector_is_left_as_it_was() -> None:
    code = (
        "import gc\n"
        "looks = []\n"
        "gc.callbacks.append(lambda phase, info: looks.append(info['generation']))\n"
        "import downslope as ds\n"
        "looks.clear()\n"
        "ds.Problem\n"
        "assert 'torch' in __import__('sys').modules\n"
        "assert not looks and gc.isenabled() and gc.get_freeze_count() == 0\n"
        "class Node: pass\n"
        "import weakref; node = Node(); node.self = node; seen = weakref.ref(node); del node\n"
        "ds.schedules.cosine; gc.collect(); assert seen() is None\n"
        "gc.disable(); ds.init.he; assert not gc.isenabled()\n"
        "gc.enable()\n"
        "from downslope.core.faces import imported; later = imported('wave', for_good=True)\n"
        "assert gc.get_freeze_count() > 1000 and gc.isenabled() and later.__name__ == 'wave'\n"
        "ds.augment.Flip; assert gc.get_freeze_count() > 1000"
    )
    subprocess.run([sys.executable, "-c", code], check=True)


def test_a_misspelt_name_of_a_face_is_answered_with_the_nearest() -> None:
    import downslope.terrain as terrain

    with pytest.raises(
        AttributeError, match=r"downslope\.terrain has no 'sharpnes'; did you mean 'sharpness'"
    ):
        _ = terrain.sharpnes
