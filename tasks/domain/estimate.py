"""How long a scoring takes, learnt from earlier runs, and what a run took against that.

Per run and step, `seconds = fixed + per_partition * partitions + per_row * rows`, none of them negative:
least squares of the relative error, so that a run of one day counts as much as one of a year.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from itertools import combinations

RECENT = 40
"""Runs that are learnt from: the last ones, since machines, models and SQL change."""
_PER_TERM = 3
"""Runs for each term of the fit, so that few runs are not followed into their noise."""
_FLAT = 1e-9  # a pivot below this is none: the runs don't tell two terms apart
_LEAST = 1e-3  # seconds


@dataclass(frozen=True)
class Took:
    """What one run took to publish.

    Attributes:
        partitions: that it published.
        rows: of the driving source in them, without those in quarantine.
        computed: of these partitions, those whose features it computed; the others' were there.
        featurize, score: seconds of the two steps.
        threads: that the model had.
        device: cpu or cuda.
    """

    partitions: int
    rows: int
    computed: int
    featurize: float
    score: float
    threads: int
    device: str


@dataclass(frozen=True)
class Prices:
    """Of one thread, and of one GPU, for an hour; None where nobody set it."""

    cpu_hour: float | None = None
    gpu_hour: float | None = None


@dataclass(frozen=True)
class Estimate:
    """What is due takes so much.

    Attributes:
        seconds: of featurize and score, the runs one after the other; without Airflow's own time, or the start of
            processes. Runs at the same time, or on several workers, are done sooner.
        runs, threads: so many runs, on so many threads.
        learnt_from: the number of runs.
        smallest, largest: partitions of the smallest and the largest of them: what lies far outside is told badly.
        gpu_minutes: of scoring on a GPU; None where it takes none.
        cost: None where something that is used has no price.
    """

    seconds: float
    runs: int
    threads: int
    learnt_from: int
    smallest: int
    largest: int
    gpu_minutes: float | None = None
    cost: float | None = None


@dataclass(frozen=True)
class Measured:
    """What some runs took, whole, against what was estimated from those before the first of them.

    Where the first of all is among them, it is left out, and each other one stands against those before it.

    Attributes:
        actual, estimated: seconds, as in `Estimate`; None where there was no run before.
    """

    runs: int
    partitions: int
    actual: float
    estimated: float | None
    learnt_from: int


def estimated(
    past: Sequence[Took], *, runs: int, partitions: int, computed: int, rows: int | None, prices: Prices
) -> Estimate | None:
    """What some partitions take.

    Args:
        past: earlier runs, the newest last.
        runs: that the partitions are cut into.
        computed: of the partitions, those whose features are not there yet.
        rows: of all of them; None where it is not known, then as many as the earlier runs had for each partition.
    """
    alike = _alike(past)
    if not alike:
        return None
    if rows is None:
        rows = round(partitions * sum(one.rows for one in alike) / sum(one.partitions for one in alike))
    newest = alike[-1]
    score = _score(alike).seconds(partitions, rows, runs=runs)
    seconds = score + _featurize(alike).seconds(computed, rows * computed / partitions, runs=runs if computed else 0)
    gpu = score if newest.device == "cuda" else 0.0
    return Estimate(
        seconds=round(seconds, 3),
        runs=runs,
        threads=newest.threads,
        learnt_from=len(alike),
        smallest=min(one.partitions for one in alike),
        largest=max(one.partitions for one in alike),
        gpu_minutes=round(gpu / 60, 3) if gpu else None,
        cost=_cost(seconds * newest.threads, gpu, prices),
    )


def compared(took: Mapping[int, Took], versions: Collection[int]) -> Measured | None:
    """The runs that made some versions, against the estimate from those before them.

    Args:
        took: of all runs, by the version that each made, in order.
        versions: among them.
    """
    if not versions:
        return None
    asked = sorted(versions)
    alike = _before(took, asked[0])
    if not alike and len(asked) > 1:
        asked = asked[1:]
        each = [(took[version], _before(took, version)) for version in asked]
        alike = each[0][1]
    else:
        each = [(took[version], alike) for version in asked]
    done = [one for one, _ in each]
    guess = sum(_told(past, one) for one, past in each) if alike else None
    return Measured(
        runs=len(done),
        partitions=sum(one.partitions for one in done),
        actual=round(sum(one.featurize + one.score for one in done), 3),
        estimated=None if guess is None else round(guess, 3),
        learnt_from=len(alike),
    )


def _before(took: Mapping[int, Took], version: int) -> list[Took]:
    return _alike([one for earlier, one in took.items() if earlier < version])


def _told(past: Sequence[Took], one: Took) -> float:
    """Seconds that earlier runs told of a run."""
    computed = one.rows * one.computed / one.partitions
    features = _featurize(past).seconds(one.computed, computed, runs=min(one.computed, 1))
    return _score(past).seconds(one.partitions, one.rows) + features


@dataclass(frozen=True)
class Fit:
    """Seconds of a run, for each partition and for each row of it."""

    fixed: float = 0.0
    per_partition: float = 0.0
    per_row: float = 0.0

    def seconds(self, partitions: float, rows: float, *, runs: int = 1) -> float:
        return self.fixed * runs + self.per_partition * partitions + self.per_row * rows


def fit(sizes: Sequence[tuple[int, int]], seconds: Sequence[float]) -> Fit:
    """The fit of runs of so many partitions and rows; all zero where there are none.

    Few runs give few terms. Where terms tell the runs equally well, as when all are of one size, the rows go before
    the partitions, and these before the fixed part.
    """
    runs = [
        [rows / max(took, _LEAST), partitions / max(took, _LEAST), 1 / max(took, _LEAST)]
        for (partitions, rows), took in zip(sizes, seconds, strict=True)
    ]
    best, least = (0.0, 0.0, 0.0), float(len(runs))
    for count in range(1, min(3, 1 + len(runs) // _PER_TERM) + 1):
        for terms in combinations(range(3), count):  # the best of all subsets without a negative term is the optimum
            found = _solved([[run[term] for term in terms] for run in runs])
            if found is None or min(found) < 0:
                continue
            whole = [0.0, 0.0, 0.0]
            for term, value in zip(terms, found, strict=True):
                whole[term] = value
            off = sum((sum(a * b for a, b in zip(run, whole, strict=True)) - 1) ** 2 for run in runs)
            if off < least - 1e-9:
                best, least = (whole[0], whole[1], whole[2]), off
    return Fit(fixed=best[2], per_partition=best[1], per_row=best[0])


def _alike(past: Sequence[Took]) -> list[Took]:
    """The last runs on as many threads and on the device of the newest."""
    found = [one for one in past if (one.threads, one.device) == (past[-1].threads, past[-1].device)]
    return found[-RECENT:]


def _score(runs: Sequence[Took]) -> Fit:
    return fit([(one.partitions, one.rows) for one in runs], [one.score for one in runs])


def _featurize(runs: Sequence[Took]) -> Fit:
    """From those that computed the features of all of their partitions."""
    whole = [one for one in runs if one.computed == one.partitions]
    return fit([(one.partitions, one.rows) for one in whole], [one.featurize for one in whole])


def _cost(thread_seconds: float, gpu_seconds: float, prices: Prices) -> float | None:
    if prices.cpu_hour is None or (gpu_seconds and prices.gpu_hour is None):
        return None
    used = thread_seconds * prices.cpu_hour + gpu_seconds * (prices.gpu_hour or 0.0)
    return round(used / 3600, 6)


def _solved(runs: Sequence[Sequence[float]]) -> list[float] | None:
    """Least squares of `runs @ x = 1`, by the normal equations of scaled columns; None where they are singular."""
    if not runs:
        return None
    count = len(runs[0])
    scale = [sum(run[place] ** 2 for run in runs) ** 0.5 for place in range(count)]
    if min(scale) == 0:
        return None
    scaled = [[value / by for value, by in zip(run, scale, strict=True)] for run in runs]
    rows = [
        [sum(run[i] * run[j] for run in scaled) for j in range(count)] + [sum(run[i] for run in scaled)]
        for i in range(count)
    ]
    for place in range(count):  # positive definite: no pivoting
        if rows[place][place] < _FLAT:
            return None
        for below in range(place + 1, count):
            share = rows[below][place] / rows[place][place]
            rows[below] = [a - share * b for a, b in zip(rows[below], rows[place], strict=True)]
    found = [0.0] * count
    for place in reversed(range(count)):
        known = sum(rows[place][other] * found[other] for other in range(place + 1, count))
        found[place] = (rows[place][count] - known) / rows[place][place]
    return [value / by for value, by in zip(found, scale, strict=True)]
