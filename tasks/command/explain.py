"""`millrace why` and `millrace reproduce`: an entity's name read, and the answers as text for an auditor."""

from __future__ import annotations

import difflib
import re
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from tasks.command.output import table
from tasks.domain.explained import Judged, Promotion, Published, Trained, WhyResult
from tasks.errors import UsageError
from tasks.reproduce import ReproduceResult


def entity_of(columns: Sequence[str], text: str) -> dict[str, str]:
    """The entity's columns and values from `value`, `column=value` or `a=1,b=2`; values may hold commas and signs.

    Raises:
        UsageError: a column that is none of the entity's, named twice or left out.
    """
    expected = ",".join(f"{name}=…" for name in columns)
    if len(columns) == 1 and not text.startswith(f"{columns[0]}="):
        return {columns[0]: text}
    # a comma ends a value only where a name and = follow
    parts = [part.partition("=") for part in re.split(r",(?=\w+=)", text)]
    found: dict[str, str] = {}
    for name, sign, value in parts:
        if not sign or name not in columns:
            near = difflib.get_close_matches(name, columns, n=1, cutoff=0.6)
            hint = f"did you mean {near[0]!r}?" if sign and near else f"expected {expected}"
            raise UsageError(f"entity: {name!r} is no column of the entity ({', '.join(columns)})", hint=hint)
        if name in found:
            raise UsageError(f"entity: {name!r} is named twice", hint=f"expected {expected}")
        found[name] = value
    lacking = [name for name in columns if name not in found]
    if lacking:
        raise UsageError(f"entity: {', '.join(lacking)} is left out", hint=f"expected {expected}")
    return found


def why_report(found: WhyResult) -> str:
    """The answer to `why`, section by section."""
    named = ", ".join(f"{name} {value}" for name, value in found.entity.items())
    sections = [
        f"{found.pipeline} {found.partition}, {named}",
        _section("prediction", _lines(found.prediction)),
        _section("published", _published(found.published)),
        _section(
            f"reasons ({found.reasons_from}; contributions to the margin)",
            _rows(("feature", "value", "contribution"), [_reason(one) for one in found.reasons]),
        ),
        _section(f"features ({found.features_table})", _lines(found.features or {"": "no longer kept"})),
        _section("model", _model(found.model)),
        _section("promotion", _promotion(found.promotion)),
        _section("snapshots read", [f"{name}@{version}" for name, version in sorted(found.snapshots.items())]),
        _section("validations of what was visible", _validations(found.validations)),
        _section("to note", found.notes or ["nothing: everything is as it was recorded"]),
    ]
    return "\n\n".join(sections)


def reproduce_report(found: ReproduceResult) -> str:
    """The answer to `reproduce`."""
    then, now = found.values
    lines = {
        "verdict": found.verdict,
        "because": found.reason,
        "recorded": found.recorded,
        "now": found.digest,
        "commit": f"{found.commits[0] or 'not recorded'} then, {found.commits[1] or 'none'} now",
        found.metric: f"{then:.6f} then, {now:.6f} now, on {found.comparison.rows} rows of the holdout",
        "trained": f"{found.rows} rows of training {found.training} in {found.seconds:.1f} s",
    }
    text = _section(f"{found.pipeline} version {found.version}", _lines(lines))
    if not found.differences:
        return text
    rows = [(one.name, _short(one.then), _short(one.now)) for one in found.differences]
    return f"{text}\n\n{_section('what differs', _rows(('', 'then', 'now'), rows))}"


def _section(title: str, lines: Iterable[str]) -> str:
    return "\n".join([title, *(f"  {line}" for line in lines)])


def _lines(values: Mapping[str, Any]) -> list[str]:
    width = max((len(name) for name in values), default=0)
    return [f"{name.ljust(width)}  {'(missing)' if value is None else value}" for name, value in values.items()]


def _rows(header: Sequence[str], rows: Sequence[Sequence[Any]]) -> list[str]:
    return table(header, rows).splitlines() if rows else ["none"]


def _short(value: Any) -> str:
    text = "not recorded" if value is None else str(value)
    return text[:12] if re.fullmatch(r"[0-9a-f]{40,64}", text) else text


def _reason(one) -> tuple[str, str, str]:
    return one.feature, "(missing)" if one.value is None else one.value, f"{one.contribution:+.4f}"


def _published(one: Published) -> list[str]:
    gone = "".join(f" + {count} filtered ({reason})" for reason, count in one.filtered.items())
    cut = one.as_of if one.cut == one.as_of else f"{one.as_of}, the model's own cut {one.cut}"
    return _lines(
        {
            "where": f"{one.table}@{one.version}",
            "when": one.recorded_at,
            "by": f"{one.actor or 'unknown'}, run {one.run_id}, attempt {one.attempt}",
            "known as of": cut,
            "model": _chosen(one),
            "came late": ", ".join(one.late) or "nothing",
            **(
                {"went without": f"{', '.join(one.degraded)}, given up since it did not come in time"}
                if one.degraded
                else {}
            ),
            "history": "thin: the lookback reaches back before the first delivery" if one.thin else "whole",
            "population": f"{one.driving} came = {one.rows} scored + {one.quarantined} quarantined{gone}",
        }
    )


def _chosen(one: Published) -> str:
    how = {"as-of": "champion at this as_of", "champion": "by hand, as the newest champion", "named": "named by hand"}
    mark = "; IN SAMPLE: it was trained on this partition" if one.in_sample else ""
    return f"version {one.model_version}, {how[one.chosen]}{mark}"


def _model(one: Trained) -> list[str]:
    environment = one.environment
    return _lines(
        {
            "version": one.version,
            "digest": one.digest,
            "view": one.view,
            "descriptor": one.descriptor,
            "MLflow run": one.run,
            "training": f"{one.training}, known as of {one.as_of}",
            "window": f"{' to '.join(one.train)}, {one.rows} labelled rows; held out {' to '.join(one.holdout)}",
            "trained": f"{one.objective}, {one.rounds} rounds, {one.way} on {one.device}",
            "code": f"commit {environment.get('commit') or 'unknown'}, package {_short(environment.get('code'))}, lock {_short(environment.get('lock'))}",
            "read": ", ".join(f"{name}@{version}" for name, version in sorted(one.inputs.items())),
        }
    )


def _promotion(one: Promotion | None) -> list[str]:
    if one is None:
        return ["no event of the ledger"]
    return _lines(
        {
            "event": f"{one.event}, digest {one.digest}",
            "verdict": one.verdict,
            "why": one.reason,
            "who": f"{one.actor}, run {one.run_id}",
            "recorded at": one.recorded_at,
            "champion from": f"{one.effective_from} (data time), by training {one.training}",
            "evidence": one.evidence_at,
        }
    )


def _validations(judged: Sequence[Judged]) -> list[str]:
    """A line for each source, and one for each partition with rejected rows or restated."""
    sources = dict.fromkeys(one.source for one in judged)
    rows, remarkable = [], []
    for name in sources:
        mine = [one for one in judged if one.source == name]
        suites = sorted({_short(one.suite) for one in mine if one.suite})
        came, kept, rejected = (sum(getattr(one, part) for one in mine) for part in ("rows_in", "clean", "quarantined"))
        span = mine[0].key if len(mine) == 1 else f"{mine[0].key} to {mine[-1].key}"
        rows.append((name, span, len(mine), came, kept, rejected, ", ".join(suites) or "none", _docs(mine[-1])))
        remarkable += [one for one in mine if one.quarantined or one.revision > 1]
    header = ("source", "partitions", "number", "rows", "clean", "quarantined", "suite", "newest Data Docs")
    lines = _rows(header, rows)
    lines += [
        f"{one.source} {one.key} revision {one.revision}, known at {one.known_at}: {one.quarantined} of {one.rows_in} rows quarantined, Data Docs {_docs(one)}"
        for one in remarkable
    ]
    return lines


def _docs(one: Judged) -> str:
    return one.docs or "none"
