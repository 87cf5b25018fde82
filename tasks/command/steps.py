"""`millrace run`: one verb with all that it needs before it, or only itself where that is given.

Airflow's tasks call the same function, with the results of the tasks before them as input.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime
from functools import partial

from tasks.domain.partition import Partition, iso, partitions, span
from tasks.domain.results import (
    ApproveResult,
    Data,
    EvaluateResult,
    FeaturizeResult,
    IngestResult,
    PinResult,
    PromoteResult,
    Result,
    ScoreResult,
    TrainingPin,
    TrainResult,
    ValidateResult,
)
from tasks.domain.run import RunRef
from tasks.domain.spec import PipelineSpec
from tasks.errors import LedgerConflictError, ServiceError, UsageError
from tasks.lake import Lake, open_lake, open_landing
from tasks.pin import AS_OF, IN_SAMPLE, WAITS
from tasks.settings import (
    Settings,
    contract_file,
    features_sql,
    load_pipeline,
    load_source,
    rollups_sql,
)

SOURCE_VERBS = ("ingest", "validate")
SCORING = ("pin", "featurize", "score")
TRAINING = ("pin_training", "train", "evaluate", "promote")
VERBS = (*SOURCE_VERBS, *SCORING, *TRAINING)
RESULTS: dict[str, type[Result]] = {
    "ingest": IngestResult,
    "validate": ValidateResult,
    "pin": PinResult,
    "featurize": FeaturizeResult,
    "score": ScoreResult,
    "pin_training": TrainingPin,
    "train": TrainResult,
    "evaluate": EvaluateResult,
    "approve": ApproveResult,
    "promote": PromoteResult,
}
JUDGED = 5
"""How often a challenger is judged when others keep changing the champion meanwhile."""


@dataclass
class Steps:
    """One call of `run`: settings, who runs, and the results so far, computed when asked for.

    Attributes:
        given: verb -> result that an earlier step handed over; nothing before it is run again.
        model, allow_in_sample, data: see `pin`.
        approve: why a person promotes what the gate would promote, where gate.approve is manual; None: nobody did.
        waiting: partitions that were left out since their inputs are still expected.
        backtest: the name of the backtest on whose line a pipeline's verbs run; None for the main line.
        refused: partitions that were left out since the model that was asked for was trained on them.
    """

    settings: Settings
    run: RunRef
    say: Callable[[str], None]
    progress: Callable[[int, int], None]
    force: bool = False
    given: dict[str, Result] = field(default_factory=dict)
    model: str | int = AS_OF
    allow_in_sample: bool = False
    data: Data = "as-known"
    waiting: list[str] = field(default_factory=list)
    backtest: str | None = None
    refused: list[str] = field(default_factory=list)
    approve: str | None = None

    def source(self, verb: str, name: str, text: str) -> Result:
        """Run a verb of a source over a partition or a range."""
        source = load_source(self.settings.config, name)
        wanted = span(source.grain, source.timezone, text)
        lake = open_lake(self.settings)
        if verb == "ingest":
            from tasks.ingest import ingest

            return ingest(
                source=source,
                partitions=wanted,
                lake=lake,
                landing=open_landing(self.settings),
                root=self.settings.landing_uri,
                run=self.run,
                clock=lambda: datetime.now(UTC),
                progress=self.progress,
            )
        from tasks.validate import validate

        return validate(
            source=source,
            partitions=wanted,
            contract=contract_file(self.settings.config, source),
            lake=lake,
            run=self.run,
            clock=lambda: datetime.now(UTC),
            progress=self.progress,
        )

    def runs(self, verb: str, name: str, text: str) -> list[str]:
        """The partition texts to run one after the other: a range is one run, a range of trainings one for each.

        Each training may make the next one's champion.
        """
        if verb not in TRAINING:
            return [text]
        spec = self.spec(name)
        keys = [training.key for training in span(spec.train.every, spec.timezone, text)]
        if self.approve is not None and len(keys) > 1:
            raise UsageError(f"--approve: an approval is about one training, not about {text}")
        if self.given and len(keys) > 1:
            raise UsageError(f"--input: results of earlier steps are about one training, not about {text}")
        return keys

    def spec(self, name: str) -> PipelineSpec:
        """A pipeline's spec, on the line on which its verbs run."""
        spec = load_pipeline(self.settings.config, name)
        return spec if self.backtest is None else spec.on_backtest(self.backtest)

    def pipeline(self, verb: str, name: str, text: str) -> Result:
        """Run a verb of a pipeline, and those before it that are not given."""
        spec = self.spec(name)
        lake = open_lake(self.settings)
        if verb in SCORING and "pin_training" not in self.given:
            return self.scoring(verb, spec, lake, span(spec.grain, spec.timezone, text))
        return self._training(verb, spec, lake, spec.training(text))

    def scoring(self, verb: str, spec: PipelineSpec, lake: Lake, wanted: Sequence[Partition]) -> Result:
        """Run pin, featurize or score over partitions, in order, and what is before it that is not given."""
        from tasks.pin import pin as pin_partitions

        pin = self.given.get("pin") or pin_partitions(
            spec=spec,
            partitions=wanted,
            lake=lake,
            force=self.force,
            model=self.model,
            allow_in_sample=self.allow_in_sample,
            data=self.data,
        )
        if "pin" not in self.given or not pin.partitions:
            for one in pin.skipped:
                self.say(f"{one.key}: {one.reason}")
        self.waiting += [one.key for one in pin.skipped if one.reason.startswith(WAITS)]
        self.refused += [one.key for one in pin.skipped if one.reason.startswith(IN_SAMPLE)]
        if verb == "pin" or not pin.partitions:
            return pin
        keys = {one.key for one in pin.partitions}
        strange = keys - {one.key for one in wanted}
        if strange:
            raise UsageError(f"--input: the pin holds partition {min(strange)}, which is not in what was asked for")
        views: dict[str, list[str]] = {}
        for one in pin.partitions:
            views.setdefault(one.model.view, []).append(one.key)
        wanted, features = [p for p in wanted if p.key in keys], self.given.get("featurize")
        if verb == "score" and self._spreads(wanted):
            return self._outside().score(spec, lake, wanted, views, pin, features)
        features = features or self.featurize(spec, lake, wanted, views, pin.snapshots, pin)
        if verb == "featurize":
            return features
        from tasks.score import score

        return score(
            spec=spec,
            pin=pin,
            features=features,
            lake=lake,
            run=self.run,
            threads=self.settings.threads,
            batch_rows=self.settings.score_batch_rows,
        )

    def _spreads(self, wanted: Sequence[Partition]) -> bool:
        """Whether partitions are done by an outside scheduler's workers; a single one is done sooner here."""
        return self.settings.dask_scheduler is not None and len(wanted) > 1

    def _trains_outside(self, spec: PipelineSpec) -> bool:
        return self.settings.dask_scheduler is not None and spec.train.way in ("auto", "cluster")

    def _outside(self):
        from tasks.command.outside import Outside

        return Outside(self.settings, self.run, self.say, self.progress)

    def featurize(
        self, spec: PipelineSpec, lake: Lake, wanted, views, snapshots, pin: PinResult | None = None
    ) -> FeaturizeResult:
        from tasks.compute.machine import free_memory
        from tasks.featurize import featurize
        from tasks.sql.session import sql_memory

        started = time.perf_counter()
        done = self._outside().featurize(spec, lake, wanted, views, snapshots, pin) if self._spreads(wanted) else 0
        threads = min(self.settings.threads, len(wanted))  # the memory is for those sessions that run
        # Of what the workers committed, this looks up one version that holds all, and computes what was overwritten.
        found = featurize(
            spec=spec,
            partitions=wanted,
            views=views,
            snapshots=snapshots,
            lake=lake,
            run=self.run,
            threads=threads,
            rows_at_a_time=self.settings.feature_rows,
            progress=self.progress,
            memory_limit=sql_memory(free_memory(), threads),
            data=pin.data if pin else "as-known",
        )
        return replace(found, computed=found.computed + done, seconds=time.perf_counter() - started)

    def _training(self, verb: str, spec: PipelineSpec, lake: Lake, training: Partition) -> Result:
        pin = self.given.get("pin_training") or self._pin_training(spec, lake, training)
        if verb == "pin_training" or pin.done is not None:
            if pin.done is not None:
                self.say(f"training {training} was judged in ledger event {pin.done}")
            if verb == "promote":
                from tasks.promote import repeat
                from tasks.registry import open_registry

                return repeat(spec=spec, number=pin.done, lake=lake, registry=open_registry(self._mlflow()))
            return pin
        from tasks.registry import open_registry

        registry = None if verb == "featurize" else open_registry(self._mlflow())  # first: without one all is in vain
        features = self.given.get("featurize") or self._training_features(spec, lake, pin)
        if verb == "featurize":
            return features
        from tasks import train as training_verb

        trained = self.given.get("train") or training_verb.train(
            spec=spec,
            pin=pin,
            features=features,
            lake=lake,
            registry=registry,
            settings=self.settings,
            run=self.run,
            say=self.say,
            join=partial(self._outside().join, lake) if self._trains_outside(spec) else None,
        )
        if verb == "train":
            return trained
        evaluated = self.given.get("evaluate") or self._evaluate(spec, lake, pin, features, trained)
        if verb == "evaluate":
            return evaluated
        return self._promote(spec, lake, pin, trained, evaluated, registry)

    def _promote(
        self,
        spec: PipelineSpec,
        lake: Lake,
        pin: TrainingPin,
        trained: TrainResult,
        evaluated: EvaluateResult,
        registry,
    ) -> PromoteResult:
        """Apply the verdict; where another champion was made since, judge the same model against that one first."""
        from tasks.command.leaks import without_leaks
        from tasks.pin import pin_champion
        from tasks.promote import promote

        for left in range(JUDGED - 1, -1, -1):
            checked = without_leaks(self.settings, self.run, spec, lake, pin, evaluated)
            try:
                return promote(
                    spec=spec,
                    pin=pin,
                    trained=trained,
                    evaluated=checked,
                    lake=lake,
                    registry=registry,
                    run=self.run,
                    answer=self.given.get("approve") or self._answer(spec, evaluated),
                )
            except LedgerConflictError as error:
                if not left:
                    raise
                self.say(f"{error.message}: judged again")
                judged, pin = pin.champion, pin_champion(spec=spec, pin=pin, lake=lake)
                if pin.champion != judged:
                    features = self._training_features(spec, lake, pin)
                    evaluated = self._evaluate(spec, lake, pin, features, trained)
        raise AssertionError("the loop returns or raises")

    def _answer(self, spec: PipelineSpec, evaluated: EvaluateResult) -> ApproveResult | None:
        """The approval that was given with the command."""
        if self.approve is None:
            return None
        return ApproveResult(
            spec.pipeline,
            evaluated.training,
            evaluated.digest,
            approved=True,
            by=self.run.actor,
            at=iso(datetime.now(UTC)),
            reason=self.approve,
        )

    def _pin_training(self, spec: PipelineSpec, lake: Lake, training: Partition) -> TrainingPin:
        from tasks.pin import pin_training

        return pin_training(spec=spec, training=training, view=self.view(spec, lake), lake=lake)

    def view(self, spec: PipelineSpec, lake: Lake) -> str:
        """Publish the pipeline's present feature view and return its id."""
        from tasks.view import publish_view

        file = str(self.settings.config / "pipelines" / spec.pipeline / spec.features)
        config = self.settings.config
        return publish_view(
            spec=spec, sql=features_sql(config, spec), rollups=rollups_sql(config, spec), file=file, lake=lake
        )

    def _training_features(self, spec: PipelineSpec, lake: Lake, pin: TrainingPin) -> FeaturizeResult:
        train = partitions(*(spec.partition(key) for key in pin.train))
        holdout = partitions(*(spec.partition(key) for key in pin.holdout))
        views = {pin.view: [one.key for one in [*train, *holdout]]}
        if pin.champion is not None and pin.champion.view not in views:
            views[pin.champion.view] = [one.key for one in holdout]
        return self.featurize(spec, lake, [*train, *holdout], views, pin.snapshots)

    def _evaluate(
        self, spec, lake, pin: TrainingPin, features: FeaturizeResult, trained: TrainResult
    ) -> EvaluateResult:
        from tasks.evaluate import evaluate
        from tasks.labelled import labelled_rows

        def holdout(view: str, classes: tuple[str, ...]):
            return labelled_rows(spec, pin, features, view, pin.holdout, lake, classes)

        return evaluate(
            spec=spec,
            pin=pin,
            features=features,
            trained=trained,
            holdout=holdout,
            lake=lake,
            threads=self.settings.threads,
        )

    def registry(self):
        """MLflow's registry; nothing is asked of it yet.

        Raises:
            ServiceError: none was started, and no outside one is named.
        """
        from tasks.registry import open_registry

        return open_registry(self._mlflow())

    def _mlflow(self) -> str:
        if self.settings.mlflow:
            return self.settings.mlflow
        from tasks.services import addresses

        where = addresses(self.settings)
        if where is None:
            raise ServiceError(
                f"a training is recorded in MLflow, and none was started in {self.settings.home}",
                hint="`millrace up` starts one; MILLRACE_MLFLOW names an outside one",
            )
        return where.mlflow
