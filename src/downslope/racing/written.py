"""Results of this package as JSON on the disk."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from downslope.core.errors import InputError
from downslope.core.plain import plain


def written(content: dict[str, Any], path: str | Path) -> Path:
    """Write plain values as JSON; folders on the way are made.

    Raises:
        InputError: the file cannot be written.
    """
    target = Path(path)
    try:
        target.parent.mkdir(parents=True, exist_ok=True)
        text = json.dumps(plain(content), ensure_ascii=False, allow_nan=False, indent=1)
        target.write_text(text + "\n", encoding="utf-8")
    except OSError as error:
        raise InputError(f"{target} cannot be written: {error.strerror or error}") from error
    return target
