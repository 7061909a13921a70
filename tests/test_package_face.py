from __future__ import annotations

import inspect
import subprocess
import sys
import types

import pytest

import downslope as ds

VERBS = ["fit", "fit_population", "diagnose", "repair", "solve", "survey", "watch", "load_run", "report"]


def loaded_by(code: str) -> set[str]:
    """Modules in memory of a fresh interpreter after `code`."""
    shown = f"import sys\n{code}\nprint(' '.join(sys.modules))"
    done = subprocess.run([sys.executable, "-c", shown], capture_output=True, text=True, check=True)
    return set(done.stdout.split())


def test_importing_the_package_loads_none_of_the_heavy_libraries() -> None:
    loaded = loaded_by("import downslope; dir(downslope)")
    assert "downslope" in loaded
    assert loaded.isdisjoint({"torch", "numpy", "sklearn", "optuna", "plotly", "pydantic", "rich", "typer"})


@pytest.mark.parametrize("name", ds.__all__)
def test_every_public_name_resolves(name: str) -> None:
    assert getattr(ds, name) is not None
    assert name in dir(ds)


@pytest.mark.parametrize("verb", VERBS)
def test_a_verb_is_a_function_whichever_modules_were_imported_first(verb: str) -> None:
    code = (
        "import pkgutil, importlib, downslope as ds\n"
        "for each in pkgutil.iter_modules(ds.__path__):\n"
        "    if each.name != '__main__': importlib.import_module('downslope.' + each.name)\n"
        f"assert callable(ds.{verb}), ds.{verb}"
    )
    subprocess.run([sys.executable, "-c", code], check=True)
    assert inspect.isfunction(getattr(ds, verb))


def test_the_list_for_type_checkers_is_the_list_for_users() -> None:
    assert set(ds._HOME) | {"__version__"} == set(ds.__all__)


def test_a_misspelt_name_is_answered_with_the_nearest() -> None:
    with pytest.raises(AttributeError, match="did you mean 'diagnose'"):
        _ = ds.diagnos


def test_the_beginning_of_names_tells_all_of_them() -> None:
    with pytest.raises(AttributeError, match=r"did you mean .*'load_run' or 'load_search'"):
        _ = ds.load


def test_a_name_that_is_no_module_stays_an_import_error() -> None:
    with pytest.raises(ImportError):
        from downslope import tuna  # noqa: F401


def test_packages_and_edits_are_modules() -> None:
    for name in ("optim", "schedules", "init", "objectives", "models", "data", "edits"):
        assert isinstance(getattr(ds, name), types.ModuleType)
