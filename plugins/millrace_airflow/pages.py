"""The page of each DAG in the UI: what, why, when, and what to do on failure."""

_RUN_ONE = """
**Run one by hand.** `airflow dags trigger {dag} --conf '{{{{"partition": "{example}"}}}}'`, or without
Airflow `millrace run {verb} {name} {example}`.
"""
_RANGE = """A range in one run: `--conf '{{"from": "...", "to": "..."}}'`.
"""

INGEST_PAGE = (
    """
**What.** One delivery of `{source.name}` (`{source.uri}`): `ingest` lands it in the raw table as a numbered revision,
`validate` holds its rows against the contract: clean rows are published, bad rows go to quarantine with the
reason; above the declared limit the partition is blocked, and what was published before stays.

**Why.** Whatever is computed later reads the clean table only.

**When.** For each {source.grain} partition at `{source.available}` in {source.timezone}, and as soon as a file arrives late.
`ingest` waits for a file without holding a slot.

**On failure.** `ingest`: the log names file, line and column; deliver the file again, then clear the task.
`validate`: the log names the expectation, the Data Docs button shows it, `millrace quarantine {source.name} {example}`
lists the rows; mend the file or the suite, then `millrace replay {source.name} {example}` or clear the task. A file that never came: deliver it, or
declare its partition under `missing` of the source.
"""
    + _RUN_ONE.format(dag="{source.name}__ingest", verb="validate", name="{source.name}", example="{example}")
    + _RANGE
)

SCORE_PAGE = (
    """
**What.** Predictions of `{spec.pipeline}` for one {spec.grain}: `pin` resolves the champion at as_of and the
snapshots of every table once, `featurize` computes the features from what was known at as_of,
`score` publishes the predictions in one commit.

**Why.** Publishing a partition twice is the same as once: a second run finds it published and skips the rest.

**When.** At `{spec.as_of}` in {spec.timezone}, to be published by `{spec.deadline}`; and when late inputs arrive.
`pin` waits for inputs without holding a slot.

**On failure.** `pin` names the inputs that did not arrive: run their ingest, then clear the task. A
partition without a champion is skipped: train first. Anything else: the log ends with the cause and the remedy;
`millrace run score {spec.pipeline} {example}` does the same without Airflow.
"""
    + _RUN_ONE.format(dag="{spec.pipeline}__score", verb="score", name="{spec.pipeline}", example="{example}")
    + _RANGE
)

TRAIN_PAGE = """
**What.** A challenger for `{spec.pipeline}`: `pin_training` fixes windows and snapshots, `featurize` computes
what is not there yet, `train` makes a model version, `evaluate` compares it with the champion on matured
data that neither saw, `promote` writes the verdict to the champion ledger.

**Why.** The gate ({spec.gate.metric}, confidence {spec.gate.confidence}) decides on evidence; the ledger keeps it.

**When.** Once each {spec.train.every}, at `{spec.as_of}` of its first {spec.grain} in {spec.timezone}.

**On failure.** `pin_training`: too little history, or labels still expected; the log names them. `train`: the log names
the column or the resource. Clear the task after mending the cause: a version that was already trained is reused.
`millrace run promote {spec.pipeline} {example}` does the same without Airflow.
""" + _RUN_ONE.format(dag="{spec.pipeline}__train", verb="promote", name="{spec.pipeline}", example="{example}")

APPROVAL = """
**Approval.** A challenger that the gate would promote waits at `approve` for a person, who finds the evidence under
Required Actions and answers Approve or Refuse; either goes to the ledger with name, moment and reason. It waits as long
as nobody answers, and the next training with it. Without Airflow: `millrace run promote {spec.pipeline} {example}
--approve "why"`.
"""

BACKFILL_PAGE = """
**What.** A range of days of `{spec.pipeline}`: `ingest` and `validate` take every source's deliveries, `train` the
trainings that begin in the range, one after the other, `due` asks the tables which days are to be scored and by
which version, `score` publishes them. The work is cut into a few chunks, which are the tasks' mapped instances: so many of
them are done as are green. Of the stages a run takes those that `stages` names.

**Why.** The past is made up for without holding up today: it has a pool of its own, `backfill`, one slot short of the
processors, it goes behind whatever else waits, and its processes stand back from the processors.

**When.** When somebody asks: `millrace backfill {spec.pipeline} --from 2013-11-01 --to 2013-11-30`, or here, with
`from` and `to`. Pause the DAG to let no further chunk begin, mark the run failed to stop it. A second run does what is left,
and a third one nothing.

**On failure.** The log of the chunk names the partition and the reason. A delivery that never came: deliver it, or
declare its partition under `missing` of its source. Then clear the task or start the backfill again.
"""

WAKE_PAGE = """
**What.** `due` asks the tables and the landing zone which partitions of live sources and pipelines are due and
not done, and `start` starts a run for each. Nothing is remembered here: a lost, doubled or late event
changes nothing, since what is due is computed from the state.

**Why.** A file's arrival leads to its partition's predictions, at any hour, without a person.

**When.** When clean data of a live source was published, and every few minutes.

**On failure.** `due` names the source or the pipeline that it can't read; the others are started. A run that failed is
started again an hour later, while it is due.
See what is due with `millrace due`.
"""

MAINTAIN_PAGE = """
**What.** `maintain` goes over every table of the lake: partitions in more files than their size needs are written
again as few, data files are deleted that no version within the retention names, and checkpoints are kept beside
the log. Rows and what the commits say of them stay as they are.

**Why.** Small files and superseded ones would make reading slower and the lake larger, without end.

**When.** Each night at 03:17 UTC; at any other moment it does no harm either.

**On failure.** The log names the table and the reason; the others were maintained. Run it again at any time, with
`millrace maintain`; `--dry-run` says what it would do. The retention is the setting `history_days`: no run may
take longer.
"""
