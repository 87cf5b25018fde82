"""The search for a training's parameters, where its spec asks for one: no step of its own, a part of `tasks.train`.

The trials are trained on the training window without its end and judged on that end; the gate's holdout, which
is later, stays unseen. The training itself then takes the whole window and the best parameters.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from contextlib import AbstractContextManager
from dataclasses import asdict
from typing import TYPE_CHECKING, Any

from tasks.domain.partition import Partition
from tasks.domain.results import TrainingPin
from tasks.domain.spec import PipelineSpec
from tasks.domain.training import validation_window
from tasks.errors import ClusterError
from tasks.lake import Lake

if TYPE_CHECKING:
    from tasks.compute.encoding import Encoding
    from tasks.compute.rows import Survey, TrainingData
    from tasks.compute.search import Found
    from tasks.compute.single import Single
    from tasks.compute.train import Recipe
    from tasks.registry import TrialRecord


def validation(spec: PipelineSpec, pin: TrainingPin) -> tuple[Partition, Partition] | None:
    """(first, last) partition of the training window that judge the trials; None without a search.

    Raises:
        TrainingError: the window is too short to be split.
    """
    if spec.train.search is None:
        return None
    first, last = (spec.partition(key) for key in pin.train)
    return validation_window(spec, (first, last), spec.train.search.validation)


def find_params(
    *,
    spec: PipelineSpec,
    data: TrainingData,
    judging: Sequence[str],
    seen: Survey,
    encoding: Encoding,
    recipe: Recipe,
    place: Callable[[], AbstractContextManager[Single]],
    lost: Callable[[ClusterError], None],
    attempts: int,
    lake: Lake,
    key: str,
    say: Callable[[str], None],
) -> Found:
    """The trials of a training, those that an earlier attempt made among them, and the best of them.

    Args:
        data: the training window's rows.
        judging: those of the files whose rows judge.
        place: opens one for the trials.
        lost: see `tasks.compute.train.train`.
        key: the training's.

    Raises:
        SpecError: a space that can't be.
        TrainingError: rows that tell nothing, or no trial that gave a model.
        ClusterError: the process was lost again and again; a retry goes on behind the last trial.
    """
    from tasks.compute.params import check_space
    from tasks.compute.search import Hunt, search
    from tasks.compute.trials import Trials

    asked = spec.train.search
    hunt = Hunt(
        space=check_space(spec.train.objective, spec.train.params, asked.space),
        trials=asked.trials,
        metric=spec.gate.metric,
        validation=frozenset(judging),
        kept=Trials(lake.objects, f"{spec.line}/trainings/{key}/trials"),
    )
    return search(
        place, data, seen=seen, encoding=encoding, recipe=recipe, hunt=hunt, attempts=attempts, say=say, lost=lost
    )


def described(spec: PipelineSpec, pin: TrainingPin, found: Found) -> dict[str, Any]:
    """What a training's note keeps of its search; JSON values."""
    from tasks.compute.metrics import higher_is_better

    best, name = found.best, spec.gate.metric
    first, last = validation(spec, pin)
    learned = f"{found.rows[0]} rows of {pin.train[0]} to {first.previous()}"
    extreme = "highest" if higher_is_better(name) else "lowest"
    return {
        "best": best.number,
        "metric": name,
        "value": best.value,
        "params": dict(found.params),
        "validation": [first.key, last.key],
        "chosen": f"trial {best.number} of {len(found.trials)} has the {extreme} {name}, {best.value:.6g}, on {found.rows[1]} rows of {first} to {last}, trained on {learned}; of equals the first",
        "trials": [asdict(trial) for trial in found.trials],
    }


def without_histories(search: Mapping[str, Any]) -> dict[str, Any]:
    """The same for a version's descriptor, which every scoring reads: no values per round."""
    trials = [{name: value for name, value in trial.items() if name != "history"} for trial in search["trials"]]
    return {**search, "trials": trials}


def trial_records(training: str, search: Mapping[str, Any]) -> tuple[TrialRecord, ...]:
    """The trials of a note, as MLflow keeps them."""
    from tasks.registry import TrialRecord

    return tuple(
        TrialRecord(
            number=trial["number"],
            run_name=f"{training} trial {trial['number']}",
            params=trial["params"],
            metrics={
                name: value
                for name, value in (
                    (search["metric"], trial["value"]),
                    ("seconds", trial["seconds"]),
                    ("memory", trial["memory"]),
                )
                if value is not None
            },
            history={"validation": trial["history"]},
            tags={
                "way": trial["way"],
                "device": trial["device"],
                "best": str(trial["number"] == search["best"]).lower(),
            }
            | ({"error": trial["error"]} if trial["error"] else {}),
            started=trial["started"],
            seconds=trial["seconds"],
            failed=trial["value"] is None,
        )
        for trial in search["trials"]
    )
