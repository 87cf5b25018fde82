"""Gateway to MLflow: runs, registered model versions and the champion's alias.

`open_registry` is cheap; MLflow itself is loaded at the first call that needs it. The champion
ledger in the lake is the truth: what is kept here can be made again from it.
"""

from tasks.registry.records import Registered, TrainingRecord, TrialRecord
from tasks.registry.registry import Registry, open_registry

__all__ = ["Registered", "Registry", "TrainingRecord", "TrialRecord", "open_registry"]
