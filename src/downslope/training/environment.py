"""The machine and the versions that a run depends on."""

from __future__ import annotations

import functools
import os
import platform
import re
import sys
from importlib import metadata
from typing import Any

import torch

from downslope._version import __version__


@functools.cache
def _fixed() -> dict[str, Any]:
    def version(package: str) -> str | None:
        try:
            return metadata.version(package)
        except metadata.PackageNotFoundError:
            return None

    return {
        "downslope": __version__,
        "python": platform.python_version(),
        "torch": torch.__version__,
        "numpy": version("numpy"),
        "platform": platform.platform(),
        "processor": platform.machine(),
        "cores": os.cpu_count(),
        "cpu_capability": torch.backends.cpu.get_cpu_capability(),
        "gpus": [torch.cuda.get_device_name(i) for i in range(torch.cuda.device_count())],
    }


def environment() -> dict[str, Any]:
    """Versions, machine, threads, and the command line: what a Run keeps beside its numbers.

    Passwords of URLs are left out.
    """
    return _fixed() | {"threads": torch.get_num_threads(), "argv": [_hidden(word) for word in sys.argv]}


def _hidden(word: str) -> str:
    if "://" not in word:
        return word
    word = re.sub(r"(://[^:/@\s]*):[^@\s]*@", r"\1:***@", word)
    return re.sub(r"(?i)([?&][^=&]*(?:pass|pwd|secret)[^=&]*=)[^&\s]*", r"\1***", word)
