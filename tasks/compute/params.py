"""XGBoost's parameters as a pipeline may set them: known names, sane values, defaults by objective."""

from __future__ import annotations

import difflib
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from tasks.domain.search import Dimension
from tasks.errors import SpecError

OBJECTIVES = ("binary:logistic", "reg:squarederror", "reg:absoluteerror", "multi:softprob")
"""The objectives that Millrace trains."""

METRICS: Mapping[str, tuple[str, ...]] = {
    "binary:logistic": ("auc", "logloss"),
    "reg:squarederror": ("mae", "rmse"),
    "reg:absoluteerror": ("rmse", "mae"),
    "multi:softprob": ("merror", "mlogloss"),
}
"""XGBoost's metrics followed per round, by objective; early stopping looks at the last."""

_INFINITY = float("inf")
# name -> (type, lowest, highest); an open bound at 0 is written as the least sensible number.
_NUMBERS: Mapping[str, tuple[type, float, float]] = {
    "eta": (float, 1e-6, 1),
    "gamma": (float, 0, _INFINITY),
    "max_depth": (int, 0, 64),
    "max_leaves": (int, 0, 2**20),
    "max_bin": (int, 2, 65_536),
    "min_child_weight": (float, 0, _INFINITY),
    "max_delta_step": (float, 0, _INFINITY),
    "subsample": (float, 1e-6, 1),
    "colsample_bytree": (float, 1e-6, 1),
    "colsample_bylevel": (float, 1e-6, 1),
    "colsample_bynode": (float, 1e-6, 1),
    "lambda": (float, 0, _INFINITY),
    "alpha": (float, 0, _INFINITY),
    "scale_pos_weight": (float, 0, _INFINITY),
    "base_score": (float, -_INFINITY, _INFINITY),
    "max_cat_to_onehot": (int, 1, _INFINITY),
    "max_cat_threshold": (int, 1, _INFINITY),
    "num_parallel_tree": (int, 1, 10_000),
}
_TEXTS: Mapping[str, tuple[str, ...]] = {
    "grow_policy": ("depthwise", "lossguide"),
    "monotone_constraints": (),
    "interaction_constraints": (),
}
_ALIASES: Mapping[str, str] = {
    "learning_rate": "eta",
    "min_split_loss": "gamma",
    "reg_lambda": "lambda",
    "reg_alpha": "alpha",
}
_OURS: Mapping[str, str] = {
    "objective": "it is train.objective",
    "seed": "it is train.seed",
    "random_state": "it is train.seed",
    "num_boost_round": "it is train.rounds",
    "n_estimators": "it is train.rounds",
    "rounds": "it is train.rounds",
    "device": "it follows from train.gpus and the machine",
    "gpu_id": "it follows from train.gpus and the machine",
    "nthread": "it follows from the settings workers and threads",
    "n_jobs": "it follows from the settings workers and threads",
    "tree_method": "it is always hist",
    "num_class": "it follows from the label",
    "eval_metric": "it follows from the objective",
    "booster": "it is always gbtree",
    "enable_categorical": "it is always on",
}
_DEFAULTS: Mapping[str, Any] = {"eta": 0.1, "max_depth": 6, "max_bin": 256}


def check_params(objective: str, params: Mapping[str, Any]) -> dict[str, Any]:
    """The parameters of a training: XGBoost's own names, with defaults filled in.

    Args:
        objective: one of `OBJECTIVES`.
        params: what the pipeline's `train.params` says.

    Raises:
        SpecError: an unknown name (the nearest one is given), a value of a wrong type or out of
            range, or a parameter that Millrace sets itself.
    """
    if objective not in OBJECTIVES:
        raise SpecError(f"train.objective: expected one of {', '.join(OBJECTIVES)}, found {objective!r}")
    checked: dict[str, Any] = {}
    for written, value in params.items():
        name = _ALIASES.get(written, written)
        if name in checked:
            raise SpecError(f"train.params: {written!r} is another name of {name!r}, which is set too")
        if name == "scale_pos_weight" and objective != "binary:logistic":
            raise SpecError(f"train.params.{written}: it has no meaning for {objective}")
        checked[name] = _checked(written, name, value)
    return {**_DEFAULTS, **checked}


@dataclass(frozen=True)
class Space:
    """A search's parameters under XGBoost's own names.

    Attributes:
        ranges: name -> its range or choice, in the order of their names.
        whole: the names of those that are whole numbers.
        first: the values that `train.params` has for them: they are tried first.
    """

    ranges: Mapping[str, Dimension]
    whole: frozenset[str]
    first: Mapping[str, Any]


def check_space(objective: str, params: Mapping[str, Any], space: Mapping[str, Dimension]) -> Space:
    """The space of a search, every value in it one that `check_params` takes.

    Args:
        objective: one of `OBJECTIVES`.
        params: the pipeline's `train.params`.
        space: the pipeline's `train.search.space`.

    Raises:
        SpecError: as `check_params`, for the ends of a range and each value of a choice; a parameter
            that changes the quantised data; a value in `params` that lies outside of its range.
    """
    at = "train.search.space"
    own = {_ALIASES.get(written, written): (written, value) for written, value in params.items()}
    ranges: dict[str, Dimension] = {}
    first: dict[str, Any] = {}
    for written, asked in space.items():
        name = _ALIASES.get(written, written)
        if name in ranges:
            raise SpecError(f"{at}: {written!r} is another name of {name!r}, which is there too")
        if name == "max_bin":
            raise SpecError(
                f"{at}: {written!r} is not searched for: the trials share data that is quantised once",
                hint="set it in train.params",
            )
        if name == "scale_pos_weight" and objective != "binary:logistic":
            raise SpecError(f"{at}.{written}: it has no meaning for {objective}")
        if name in _TEXTS and not asked.choice:
            raise SpecError(f"{at}.{written}: expected {{choice: [...]}}, since it is a text")
        values = [_checked(written, name, value, at) for value in asked.choice or (asked.low, asked.high)]
        ranges[name] = Dimension(choice=tuple(values)) if asked.choice else Dimension(*values, log=asked.log)
        if name in own:
            other, value = own[name]
            first[name] = _checked(other, name, value)
            if not (first[name] in values if asked.choice else values[0] <= first[name] <= values[1]):
                raise SpecError(
                    f"train.params.{other}: {value!r} is tried first, but lies outside of {at}.{written}",
                    hint="widen the space, or leave the parameter out of train.params",
                )
    whole = frozenset(name for name in ranges if name in _NUMBERS and _NUMBERS[name][0] is int)
    return Space(dict(sorted(ranges.items())), whole, first)


def replaced(params: Mapping[str, Any], found: Mapping[str, Any]) -> dict[str, Any]:
    """`params` with those that a search found in their places, whatever name `params` has for them."""
    return {name: value for name, value in params.items() if _ALIASES.get(name, name) not in found} | dict(found)


def _checked(written: str, name: str, value: Any, at: str = "train.params") -> Any:
    if name in _OURS:
        raise SpecError(f"{at}: {written!r} is not set there", hint=_OURS[name])
    if name in _TEXTS:
        if not isinstance(value, str) or (_TEXTS[name] and value not in _TEXTS[name]):
            expected = f"one of {', '.join(_TEXTS[name])}" if _TEXTS[name] else "a text in XGBoost's spelling"
            raise SpecError(f"{at}.{written}: expected {expected}, found {value!r}")
        return value
    if name not in _NUMBERS:
        known = [*_NUMBERS, *_TEXTS, *_ALIASES]
        near = difflib.get_close_matches(written, known, n=1, cutoff=0.0)
        raise SpecError(f"{at}: XGBoost's {written!r} is not known here", hint=f"the nearest name is {near[0]}")
    kind, low, high = _NUMBERS[name]
    fits = isinstance(value, int | float) and not isinstance(value, bool) and low <= value <= high
    if not fits or (kind is int and value != int(value)):
        words = "a whole number" if kind is int else "a number"
        bounds = f" from {low:g} to {high:g}" if high != _INFINITY else f" of at least {low:g}"
        raise SpecError(f"{at}.{written}: expected {words}{bounds}, found {value!r}")
    return kind(value)
