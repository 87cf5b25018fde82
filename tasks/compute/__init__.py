"""Gateway to Dask, Dask-CUDA and XGBoost: places to train, training, boosters, metrics.

A training, from the bottom: `rows` (Parquet files and their row groups), `encoding`, `scratch`, `boosting` (the one
function that trains, in one process), `checkpoints`; the places that run it: `single` and `spread` (on a
`cluster`, on GPUs with what `cuda` decides); `turn` (what it keeps inside the scheduler), `pace` (is it hung?), `sizing`
(which way?), `machine` and `devices` (what is there?), `scratch`, `places` (from a choice to a place) and `train` (attempts,
until one is whole).

A search before it: `suggest` (Optuna: what is tried next), `trials` (what was tried), `search` (trials on one matrix).

Import the modules by name, so that a step loads only what it needs: `encoding`, `metrics` and
`params` need numpy and pyarrow at most; `predict` and `scoring` load xgboost; `cluster` and `spread` load Dask.
"""
