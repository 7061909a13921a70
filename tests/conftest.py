"""What every test shares: hypothesis repeats the same examples everywhere; a slow machine fails none;
runs and caches stay in a temporary folder.
"""

from __future__ import annotations

import signal
from collections.abc import Iterator

import pytest
from hypothesis import settings

settings.register_profile("downslope", deadline=None, derandomize=True, print_blob=True)
settings.load_profile("downslope")


@pytest.fixture(scope="session", autouse=True)
def _ctrl_c_is_heard() -> None:
    """A shell starts what it puts in the background with Ctrl-C ignored, and our children inherit that."""
    if signal.getsignal(signal.SIGINT) is signal.SIG_IGN:
        signal.signal(signal.SIGINT, signal.default_int_handler)


@pytest.fixture(scope="session", autouse=True)
def _nothing_in_the_home(tmp_path_factory: pytest.TempPathFactory) -> Iterator[None]:
    root = tmp_path_factory.mktemp("downslope")
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("DOWNSLOPE_CACHE", str(root / "cache"))
        patch.setenv("DOWNSLOPE_RUNS", str(root / "runs"))
        yield
