"""Millrace: scheduled training and batch scoring, one file per step.

Verbs (read from top to bottom, they are the product):
`ingest` lands files, `validate` publishes clean rows, `featurize` computes features from what was
known (through a `view` of the SQL, and its `rollup`s), `pin` resolves champion and snapshots once, `train` makes a challenger (`search` finds its
parameters, where asked for, `labelled` gives the rows, `fit` the model), `evaluate` gathers evidence (sliced by
`driving` values), `leaks` looks for what a feature could not know (`planted`: for the label in it), `promote` applies the
decision to the ledger (a person's: `appoint`; taken back: `rollback`; what they share: `line`), `score` publishes
predictions, `report` holds them against what came true, `explain` says why one is what it is (`absent`: where one is that
isn't there), `reproduce` trains a version again and compares, `maintain` keeps the tables' files few.

Gateways (one foreign system each): `lake` (Delta tables, objects, ledger), `formats` (delivered
files), `quality` (Great Expectations), `sql` (DuckDB), `compute` (Dask, XGBoost, Optuna), `registry`
(MLflow), `services` (the embedded PostgreSQL, MLflow and Airflow).

Nouns: `domain` (partitions, time, specs, decisions), `errors`, `settings`.
Nothing here imports Airflow.
"""
