"""``python -m downslope``: the same command line as ``downslope``."""

from __future__ import annotations

from downslope.cli.main import run

if __name__ == "__main__":
    run()  # exits with the command's status
