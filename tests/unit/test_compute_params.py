"""XGBoost's parameters as a pipeline may set them."""

from __future__ import annotations

import pytest

from tasks.compute.params import METRICS, OBJECTIVES, check_params
from tasks.errors import SpecError


def test_defaults_are_filled_in_and_aliases_become_xgboosts_own_names():
    assert check_params("binary:logistic", {"learning_rate": 0.3, "reg_lambda": 2}) == {
        "eta": 0.3,
        "lambda": 2.0,
        "max_depth": 6,
        "max_bin": 256,
    }


def test_an_unknown_name_is_refused_with_the_nearest_one():
    with pytest.raises(SpecError, match="'max_deph' is not known here.*max_depth"):
        check_params("binary:logistic", {"max_deph": 4})


@pytest.mark.parametrize("name", ["device", "nthread", "objective", "seed", "tree_method", "num_class", "n_estimators"])
def test_what_millrace_sets_itself_is_refused_with_where_it_is_set(name):
    with pytest.raises(SpecError, match=f"'{name}' is not set there \\("):
        check_params("reg:squarederror", {name: 1})


@pytest.mark.parametrize(
    ("name", "value", "expected"),
    [
        ("eta", 0, "a number from 1e-06 to 1"),
        ("eta", "fast", "a number"),
        ("max_depth", 2.5, "a whole number from 0 to 64"),
        ("max_depth", True, "a whole number"),
        ("lambda", -1, "of at least 0"),
        ("grow_policy", "leafwise", "one of depthwise, lossguide"),
        ("monotone_constraints", 1, "a text in XGBoost's spelling"),
    ],
)
def test_a_value_out_of_range_or_of_a_wrong_type_is_refused(name, value, expected):
    with pytest.raises(SpecError, match=rf"train.params.{name}: expected .*{expected}.*found"):
        check_params("binary:logistic", {name: value})


def test_a_parameter_and_its_alias_together_are_refused():
    with pytest.raises(SpecError, match="another name of 'eta'"):
        check_params("binary:logistic", {"eta": 0.1, "learning_rate": 0.2})


def test_a_parameter_without_meaning_for_the_objective_is_refused():
    assert check_params("binary:logistic", {"scale_pos_weight": 3})["scale_pos_weight"] == 3
    with pytest.raises(SpecError, match="no meaning for reg:squarederror"):
        check_params("reg:squarederror", {"scale_pos_weight": 3})


def test_an_unknown_objective_is_refused():
    with pytest.raises(SpecError, match="train.objective: expected one of binary:logistic"):
        check_params("rank:pairwise", {})


def test_every_objective_has_metrics_to_follow():
    assert set(METRICS) == set(OBJECTIVES)
