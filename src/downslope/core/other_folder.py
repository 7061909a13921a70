"""What a folder holds in the place of a run."""

from __future__ import annotations

from pathlib import Path


def held_instead(folder: Path) -> str:
    """What is in a folder without a run, and how that is read, in a few words."""
    if (folder / "search.toml").is_file():
        return "a search is: ds.load_search reads it"
    if (folder / "race.jsonl").is_file():
        return "a race is: ds.load_race reads it"
    below = sorted(folder.glob("*/run.json")) if folder.is_dir() else []
    if below:
        return (
            f"{len(below)} {'is' if len(below) == 1 else 'are'} in folders below, such as {below[0].parent}"
        )
    return "run.json is missing"
