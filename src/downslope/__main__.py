"""``python -m downslope``: the same command line as ``downslope``."""

from __future__ import annotations

import sys

from downslope.cli.main import run

if __name__ == "__main__":
    sys.exit(run())
