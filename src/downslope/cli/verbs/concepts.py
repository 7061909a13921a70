"""``downslope concepts [NAME]``: what is in here for each concept of optimisation."""

from __future__ import annotations

from dataclasses import asdict
from typing import Annotated, Any

import typer

from downslope.cli import options as ask
from downslope.cli.guard import DONE, guarded
from downslope.cli.voice import Voice


def concepts(
    name: Annotated[
        str | None,
        typer.Argument(
            metavar="[NAME]", show_default=False, help="A name, another word for it, a number, or a symptom."
        ),
    ] = None,
    json: ask.Json = False,
    debug: ask.Debug = False,
) -> int:
    """List the concepts, or show one: what it says, its formula, what to run."""
    voice = Voice(json=json)

    def act() -> int:
        from rich.console import Console

        from downslope.reporting import concepts as book
        from downslope.reporting import symptoms

        if name is None:
            content: Any = {"concepts": [asdict(each) for each in book.load()]}
            picture = book.render_list()
        elif (symptom := symptoms.described().get(book.as_spelt(name))) and symptom.id not in book.words():
            content, picture = asdict(symptom), symptoms.render(symptom)
        else:
            found = book.find(name)
            content, picture = asdict(found) | {"symptoms": found.symptoms}, book.render(found)
        if not json:
            Console(highlight=False).print(picture, crop=False)
        voice.document({"verb": "concepts"} | content)
        return DONE

    return guarded(act, debug=debug, torch=False)
