"""What the records say: recall, root first, false alarms, repairs, seconds; as text and as Markdown."""

from __future__ import annotations

import collections
import math
import statistics
from collections.abc import Callable, Iterable, Sequence
from typing import Any

Record = dict[str, Any]

REPAIRED = 0.9
"""Share of the way from fault to twin that counts as repaired."""

TIE = 0.05
"""Share of the way from the constant to the twin within which repair and search are even."""

LOST = {
    "class-imbalance": "99 of 100 rare examples",
    "constant-target": "the targets",
    "high-variance": "most examples, and a third of the labels",
    "label-noise": "most of the labels",
    "uninformative-inputs": "which input belongs to which target",
}
"""What some faults take out of the data: no edit of recipe or model brings it back, new data would."""


def wilson(hits: int, n: int, z: float = 1.96) -> tuple[float, float]:
    """The 95 % interval of a share (Wilson 1927); (0, 1) of nothing."""
    if not n:
        return 0.0, 1.0
    p, zz = hits / n, z * z
    middle, half = p + zz / (2 * n), z * math.sqrt(p * (1 - p) / n + zz / (4 * n * n))
    return max(0.0, (middle - half) / (1 + zz / n)), min(1.0, (middle + half) / (1 + zz / n))


def rate(hits: int, n: int) -> str:
    """``0.94 [0.90, 0.97] of 120``."""
    if not n:
        return "-"
    low, high = wilson(hits, n)
    return f"{hits / n:.3f} [{low:.3f}, {high:.3f}] of {n}"


# -- what a record says --------------------------------------------------------------------------------------


def sick(record: Record) -> bool:
    """A fault that does harm, in something that would have learnt."""
    return record["kind"] in ("sick", "script") and bool(record.get("harmful")) and _sound(record)


def harmless(record: Record) -> bool:
    return record["kind"] in ("sick", "script") and record.get("harmful") is False and _sound(record)


def by_hand(record: Record) -> bool:
    """A fault that was named, and that no edit of recipe or model can undo: only advice was left."""
    return rooted(record) and bool(record["repair"].get("by_hand"))


def healthy(record: Record) -> bool:
    return record["kind"] in ("twin", "script twin", "odd")


def _sound(record: Record) -> bool:
    return bool(record.get("twin_learns"))


def diagnosis(record: Record) -> Record:
    return record.get("diagnosis") or {}


def rooted(record: Record) -> bool:
    """The injected symptom, or one that names the same cause, is the first root."""
    return diagnosis(record).get("root") in (record["symptom"], *record.get("also", ()))


def found(record: Record) -> bool:
    told = diagnosis(record)
    return told.get("healthy") is False and bool(
        {record["symptom"], *record.get("also", ())} & set(told.get("symptoms", ()))
    )


def alarmed(record: Record) -> bool:
    told = diagnosis(record)
    return told.get("healthy") is False


def _word(record: Record) -> str:
    if "error" in record:
        return "ERROR"
    told = diagnosis(record)
    if healthy(record):
        if not told:
            return "NO TWIN" if record.get("learns") is False else "ok"
        return "ALARM" if alarmed(record) else "REFUSED" if "refused" in told else "ok"
    if not _sound(record):
        return "NO TWIN"
    if harmless(record):
        return "harmless" if not alarmed(record) else "named" if rooted(record) else "LOUD"
    if not told:
        return "harmful"
    if "refused" in told:
        return "REFUSED"
    if rooted(record):
        return "ok"
    return "MISSED" if told["healthy"] else "OTHER" if told["root"] else "UNNAMED"


def line(record: Record) -> str:
    """One line for one case."""
    told = diagnosis(record)
    parts = [f"{_word(record):9}{record['case']:68}"]
    if "share" in record:
        parts.append(f"share {record['share']:6.2f}")
    score, twin = record.get("score"), record.get("twin")
    parts.append(f"score {score:.3f}" if score is not None else f"score - {record.get('status', '')[:60]}")
    parts += [f"of {twin:.3f}"] if twin is not None else []
    parts.append(f"run {record.get('run_seconds', 0.0):.1f} s")
    if told:
        parts.append(f"root {told.get('root') or '-'} {told.get('symptoms', '')} {told['seconds']:.1f} s"
                     if "root" in told else f"refused: {told['refused'][:80]}")  # fmt: skip
        parts += ["SLOW"] * bool(told.get("late")) + told.get("failed", [])
    if "repair" in record:
        parts.append(f"repair {record['repair'].get('won', 0):.2f} {record['repair'].get('kept')}")
    if "search" in record:
        parts.append(f"search {record['search'].get('won', 0):.2f}")
    if "peers" in record:
        parts.append(f"peers {record['peers']}")
    if "error" in record:
        parts.append(record["error"].strip().splitlines()[-1])
    return "  ".join(parts)


# -- counts --------------------------------------------------------------------------------------------------


def _count(records: Iterable[Record], what: Callable[[Record], bool]) -> int:
    return sum(1 for each in records if what(each))


def _by_symptom(records: Sequence[Record]) -> dict[str, list[Record]]:
    table: dict[str, list[Record]] = collections.defaultdict(list)
    for each in records:
        if each.get("symptom"):
            table[each["symptom"]].append(each)
    return dict(sorted(table.items()))


def _asked(records: Iterable[Record]) -> list[Record]:
    return [each for each in records if "diagnosis" in each]


def combinations(records: Sequence[Record]) -> int:
    """Different pairs of symptom and model among the faults that do harm."""
    return len({(each["symptom"], each["base"].split("/")[1]) for each in records if sick(each)})


def totals(records: Sequence[Record]) -> list[tuple[str, str]]:
    """What is claimed, one line each."""
    hurt = _asked(each for each in records if sick(each))
    mild = _asked(each for each in records if harmless(each))
    twins = _asked(each for each in records if each["kind"] in ("twin", "script twin"))
    odd = _asked(each for each in records if each["kind"] == "odd")
    other = [each for each in mild if not rooted(each)]
    rows = [
        ("faults that do harm", str(_count(records, sick))),
        ("pairs of symptom and model among them", str(combinations(records))),
        ("root cause first", rate(_count(hurt, rooted), len(hurt))),
        ("found at all", rate(_count(hurt, found), len(hurt))),
        ("false alarms on twins", rate(_count(twins, alarmed), len(twins))),
        ("false alarms on odd choices", rate(_count(odd, alarmed), len(odd))),
        ("harmless grades told as something else", rate(_count(other, alarmed), len(mild))),
        ("harmless grades told as what was injected", rate(_count(mild, rooted), len(mild))),
    ]
    rows += _repairs(records)
    told = [diagnosis(each) for each in _asked(records) if "late" in diagnosis(each)]
    if told:
        seconds = [each["seconds"] for each in told]
        spread = f"median {statistics.median(seconds):.1f}, most {max(seconds):.1f}"
        rows.append(("seconds a diagnosis", spread))
        rows.append(("over twice the run plus 10 s", rate(sum(each["late"] for each in told), len(told))))
    rows.append(("twins that did not learn", str(_count(records, lambda r: r.get("learns") is False))))
    rows.append(("crashed or timed out", str(_count(records, lambda r: "error" in r))))
    return rows + _peers(records)


def _repairs(records: Sequence[Record]) -> list[tuple[str, str]]:
    mended = [each for each in records if sick(each) and "repair" in each]
    if not mended:
        return []
    won = [each["repair"]["won"] for each in mended]
    rows = [("repaired (0.9 of the way to the twin)", rate(sum(v >= REPAIRED for v in won), len(won)))]
    able = [each["repair"]["won"] for each in mended if not by_hand(each)]
    rows.append(
        ("repaired, of those that an edit can undo", rate(sum(v >= REPAIRED for v in able), len(able)))
    )
    kept = [each["repair"]["won"] for each in mended if each["symptom"] not in LOST and not by_hand(each)]
    rows.append(
        ("and whose data hold what the twin learns", rate(sum(v >= REPAIRED for v in kept), len(kept)))
    )
    both = [each for each in mended if "search" in each]
    even = [each for each in both if each["repair"]["won"] >= each["search"]["won"] - TIE]
    if both:
        searched = sum(each["search"]["won"] >= REPAIRED for each in both)
        rows.append(("as good as a random search, or better", rate(len(even), len(both))))
        rows.append(("repaired by the random search", rate(searched, len(both))))
    return rows


def _peers(records: Sequence[Record]) -> list[tuple[str, str]]:
    rows: list[tuple[str, str]] = []
    asked = [each for each in records if "peers" in each]
    for peer in sorted({name for each in asked for name in each["peers"]}):
        known = [each for each in asked if each["peers"].get(peer) is not None]
        hurt = [each for each in known if sick(each)]
        fine = [each for each in known if healthy(each)]
        for group, word in ((hurt, "faults"), (fine, "healthy")):
            flagged = sum(1 for each in group if each["peers"][peer])
            rows.append((f"{peer}: {word} flagged", rate(flagged, len(group))))
    return rows


def _rows(records: Sequence[Record]) -> list[list[str]]:
    """Symptom, faults that do harm, found, root first, harmless, of these loud, what was named instead."""
    rows: list[list[str]] = []
    for symptom, group in _by_symptom(records).items():
        hurt, mild = [e for e in group if sick(e)], [e for e in group if harmless(e)]
        asked = _asked(hurt)
        instead = collections.Counter(
            diagnosis(each).get("root") or ("refused" if "refused" in diagnosis(each) else "nothing")
            for each in asked
            if not rooted(each)
        )
        shown = ", ".join(f"{name} {count}" for name, count in instead.most_common())
        broken = len(group) - len(hurt) - len(mild)
        loud = _count(_asked(mild), lambda r: alarmed(r) and not rooted(r))
        rows.append([symptom, str(len(hurt)), str(_count(asked, found)), str(_count(asked, rooted)),
                     str(len(mild)), str(loud), str(broken), shown])  # fmt: skip
    return rows


HEADS = ["symptom", "harmful", "found", "root first", "harmless", "loud", "unsound", "root named instead"]


def summary(records: Sequence[Record]) -> str:
    """The tables as text."""
    rows = [HEADS, *_rows(records)]
    wide = [max(len(row[i]) for row in rows) for i in range(len(HEADS) - 1)]
    lines = ["  ".join([*(cell.rjust(w) if i else cell.ljust(w) for i, (cell, w) in
             enumerate(zip(row, wide, strict=False))), row[-1]]) for row in rows]  # fmt: skip
    alarms = [f"ALARM  {each['case']}  {diagnosis(each)['serious'] or 'no cause'}"
              for each in _asked(records) if healthy(each) and alarmed(each)]  # fmt: skip
    counted = [f"{name:44}{value}" for name, value in totals(records)]
    return "\n".join(["", *lines, "", *alarms, "", *counted])


def markdown(records: Sequence[Record]) -> str:
    """The tables for the documentation: totals, by symptom, and who was taken for whom."""
    lines = ["| | |", "|---|---|", *(f"| {name} | {value} |" for name, value in totals(records)), ""]
    lines += [f"| {' | '.join(HEADS)} |", "|" + "---|" * len(HEADS)]
    lines += [f"| {' | '.join(row)} |" for row in _rows(records)]
    return "\n".join([*lines, "", *confusion(records)])


def confusion(records: Sequence[Record]) -> list[str]:
    """A row for each injected symptom, a column for each root that was named in its stead."""
    hurt = _asked(each for each in records if sick(each))
    counts: dict[str, collections.Counter[str]] = collections.defaultdict(collections.Counter)
    for each in hurt:
        counts[each["symptom"]]["right" if rooted(each) else diagnosis(each).get("root") or "nothing"] += 1
    columns = sorted({name for row in counts.values() for name in row} - {"right", "nothing"})
    heads = ["injected", "right", *columns, "nothing"]
    lines = [f"| {' | '.join(heads)} |", "|" + "---|" * len(heads)]
    for symptom, row in sorted(counts.items()):
        cells = [str(row[name] or "") for name in ("right", *columns, "nothing")]
        lines.append(f"| {symptom} | {' | '.join(cells)} |")
    return lines
