"""`millrace report`: the features that simpler policies need, the verb, and its answer as text."""

from __future__ import annotations

from datetime import UTC, date, datetime

from tasks.command.output import table
from tasks.command.steps import Steps
from tasks.domain.ranges import pipeline_partitions
from tasks.domain.results import Performance, Period, ReportResult
from tasks.errors import UsageError
from tasks.lake import open_lake


def report(steps: Steps, pipeline: str, first: date, last: date) -> ReportResult:
    """Realised performance over the local days `first` to `last`, on the line of the steps.

    Raises:
        UsageError: no partition, none published, or no backtest of that name.
    """
    from tasks.pin import read_state
    from tasks.report import policies
    from tasks.report import report as judge

    spec, lake = steps.spec(pipeline), open_lake(steps.settings)
    if steps.backtest is not None and steps.backtest not in lake.backtests(pipeline):
        known = ", ".join(lake.backtests(pipeline)) or "none"
        raise UsageError(f"--backtest: {pipeline} has no backtest {steps.backtest!r}; there are: {known}")
    wanted = pipeline_partitions(spec, first, last)
    if not wanted:
        raise UsageError(f"{pipeline} has no partitions from {first} to {last}")
    chosen = policies(spec=spec, wanted=wanted, lake=lake)
    views = chosen.views
    needed = {key for keys in views.values() for key in keys}
    features = None
    if views:
        days = [one for one in wanted if one.key in needed]
        features = steps.featurize(spec, lake, days, views, read_state(spec, lake).snapshots)
    return judge(
        spec=spec,
        wanted=wanted,
        chosen=chosen,
        features=features,
        lake=lake,
        now=datetime.now(UTC),
        threads=steps.settings.threads,
    )


def text(result: ReportResult) -> str:
    """Tables for a person: the metric with its interval, and the gated line's lead over the simpler policies."""
    lines = [
        f"{result.line}, {result.first} to {result.last}: {result.metric} of {_judged(result)} published partitions",
        f"(in brackets intervals at {result.confidence:.0%} that resample whole days, or partitions where those are longer; gain: of the gated line over the other)",
    ]
    for periods in (result.months, result.versions, (result.total,) if result.total else ()):
        if periods:
            lines += ["", _table(periods)]
    if result.total and len(result.total.policies) == 1:
        lines += ["", "no version was ever champion: there is no policy to compare with"]
    if result.in_sample:
        models = ", ".join(f"{count} of {who}" for who, count in result.in_sample.items())
        lines += ["", f"left out for every policy, in sample: partitions that a model was trained on, {models}"]
    if result.unlabelled:
        lines += ["", "without a label: " + ", ".join(f"{count} {why}" for why, count in result.unlabelled.items())]
    return "\n".join(lines)


def _judged(result: ReportResult) -> str:
    left_out = sum(result.in_sample.values())
    return f"{result.published - left_out} of {result.published}" if left_out else str(result.published)


def _table(periods: tuple[Period, ...]) -> str:
    others = [one.policy for one in periods[0].policies[1:]]
    header = ("", "rows", "by version", "gated", *(word for one in others for word in (one, "gain", "")))
    rows = []
    for period in periods:
        gated, *rest = period.policies
        compared = [word for one in rest for word in (_number(one.value), _gain(one), one.says)]
        versions = " ".join(map(str, period.versions))
        rows.append((period.name, period.rows, versions, _with_interval(gated.value, gated.low, gated.high), *compared))
    return table(header, rows)


def _with_interval(value: float | None, low: float | None, high: float | None, sign: str = "") -> str:
    if value is None:
        return "-"
    return f"{value:{sign}.4f}" + (f" ({low:{sign}.4f} to {high:{sign}.4f})" if low is not None else "")


def _gain(one: Performance) -> str:
    return _with_interval(one.gain, one.gain_low, one.gain_high, "+")


def _number(value: float | None) -> str:
    return "-" if value is None else f"{value:.4f}"
