"""A search as a pipeline asks for it: its space, its rows, what it tries next."""

from __future__ import annotations

import math
from dataclasses import replace

import pytest
from pydantic import ValidationError

from tasks.compute.params import check_params, check_space, replaced
from tasks.compute.places import Means, open_place
from tasks.compute.sizing import Shape
from tasks.compute.suggest import suggest
from tasks.compute.trials import Trial, Trials, best_of
from tasks.domain.partition import Span
from tasks.domain.search import SearchSpec
from tasks.domain.training import validation_window
from tasks.errors import SpecError, TrainingError
from tasks.lake.objects import FolderStore
from tests.support.specs import pipeline

SPACE = {"max_depth": [3, 8], "eta": [0.01, 0.3, "log"], "grow_policy": {"choice": ["depthwise", "lossguide"]}}


def searching(**changes):
    return SearchSpec(**{"trials": 5, "space": SPACE, **changes})


def space(params=None, aim="binary:logistic", **ranges):
    return check_space(aim, params or {}, searching(space=ranges or SPACE).space)


def tried(number: int, value: float | None, **params) -> Trial:
    return Trial(number, params, value, "" if value else "no value", {}, 1.5, 0.5, 10, "single", "cpu")


def test_a_search_is_part_of_the_recipe_only_where_there_is_one():
    # digests of before searches were there: trainings judged then are not due again
    assert pipeline().recipe == "e89fbb43884e"
    assert pipeline(train={"params": {"eta": 0.1, "max_depth": 3}, "rounds": 7}).recipe == "47317664cc6c"
    asked = {"trials": 5, "space": SPACE}
    known = {pipeline().recipe}
    for changes in (
        {"train": {"search": asked}},
        {"train": {"search": asked | {"trials": 6}}},
        {"train": {"search": asked | {"space": SPACE | {"max_depth": [3, 9]}}}},
        {"train": {"search": asked | {"validation": "7d"}}},
        {"train": {"search": asked}, "gate": {"metric": "logloss"}},
    ):
        known.add(pipeline(**changes).recipe)
    assert len(known) == 6
    turned = {"trials": 5, "space": dict(reversed(SPACE.items()))}
    assert pipeline(train={"search": turned}).recipe == pipeline(train={"search": asked}).recipe
    assert pipeline(gate={"metric": "logloss"}).recipe == pipeline().recipe


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"trials": 0}, "trials"),
        ({"trials": 1001}, "trials"),
        ({"trials": 2.5}, "trials"),
        ({"trails": 5}, "trails"),
        ({"space": {}}, "expected ranges by parameter"),
        ({"space": ["eta"]}, "expected ranges by parameter"),
        ({"space": {"eta": 0.1}}, "expected [3, 8], [0.01, 0.3, log] or {choice: [a, b]}, found 0.1"),
        ({"space": {"eta": [0.1, 0.2, "lin"]}}, "expected [3, 8], [0.01, 0.3, log]"),
        ({"space": {"eta": [False, True]}}, "expected [3, 8]"),
        ({"space": {"eta": {"chioce": [1, 2]}}}, "expected [3, 8]"),
        ({"space": {"eta": [0.3, 0.1]}}, "expected a range from its lowest to its highest value"),
        ({"space": {"eta": [0.1, 0.1]}}, "expected a range from its lowest to its highest value"),
        ({"space": {"lambda": [0, math.inf]}}, "expected a range from its lowest to its highest value"),
        ({"space": {"lambda": [0, 9, "log"]}}, "expected a range above 0 where log stands"),
        ({"space": {"eta": {"choice": [0.1]}}}, "expected at least two different values"),
        ({"space": {"eta": {"choice": [0.1, 0.1]}}}, "expected at least two different values"),
        ({"space": {"eta": {"choice": [0.1, [0.2]]}}}, "expected numbers, texts or truth values"),
        ({"validation": "7 days"}, "no length of time"),
    ],
)
def test_a_search_that_cannot_be_is_refused(changes, words):
    with pytest.raises(ValidationError) as caught:
        searching(**changes)
    assert words in str(caught.value)


@pytest.mark.parametrize(
    ("ranges", "words"),
    [
        ({"max_dept": [3, 8]}, "train.search.space: XGBoost's 'max_dept' is not known here .the nearest name is max_depth"),
        ({"max_depth": [3, 8.5]}, "train.search.space.max_depth: expected a whole number from 0 to 64, found 8.5"),
        ({"eta": [0, 1]}, "train.search.space.eta: expected a number from 1e-06 to 1, found 0"),
        ({"grow_policy": [1, 2]}, "train.search.space.grow_policy: expected {choice: .*}, since it is a text"),
        ({"grow_policy": {"choice": ["depthwise", "x"]}}, "grow_policy: expected one of depthwise, lossguide, found 'x'"),
        ({"max_bin": [64, 256]}, "'max_bin' is not searched for: the trials share data that is quantised once"),
        ({"device": {"choice": ["cpu", "cuda"]}}, "train.search.space: 'device' is not set there"),
        ({"nthread": [1, 2]}, "'nthread' is not set there"),
        ({"objective": {"choice": ["a", "b"]}}, "'objective' is not set there .it is train.objective"),
        ({"rounds": [10, 20]}, "'rounds' is not set there .it is train.rounds"),
        ({"eta": [0.1, 0.2], "learning_rate": [0.1, 0.2]}, "'learning_rate' is another name of 'eta', which is there too"),
    ],
)  # fmt: skip
def test_a_space_that_xgboost_or_the_search_cannot_take_is_refused(ranges, words):
    with pytest.raises(SpecError, match=words):
        space(**ranges)


def test_a_space_without_meaning_for_the_objective_is_refused():
    with pytest.raises(SpecError, match="scale_pos_weight: it has no meaning for reg:squarederror"):
        space(aim="reg:squarederror", scale_pos_weight=[1, 9])


def test_what_params_says_is_tried_first_and_must_lie_in_the_space():
    found = space({"learning_rate": 0.1, "max_depth": 5, "subsample": 0.8}, reg_lambda=[1, 9], eta=[0.01, 0.3])
    assert (found.first, list(found.ranges)) == ({"eta": 0.1}, ["eta", "lambda"])
    assert suggest(found, "auc", [], seed=1)["eta"] == 0.1
    for params, ranges in (
        ({"learning_rate": 0.5}, {"eta": [0.01, 0.3]}),
        ({"max_depth": 4}, {"max_depth": {"choice": [3, 5]}}),
    ):
        with pytest.raises(SpecError, match="is tried first, but lies outside of train.search.space"):
            space(params, **ranges)


def test_the_best_parameters_take_the_places_of_those_in_params_whatever_their_names():
    params = {"learning_rate": 0.1, "max_depth": 5}
    assert replaced(params, {"eta": 0.2, "lambda": 3.0}) == {"max_depth": 5, "eta": 0.2, "lambda": 3.0}
    assert check_params("binary:logistic", replaced(params, {"eta": 0.2}))["eta"] == 0.2


def test_a_suggestion_follows_from_what_was_tried_and_the_seed_alone():
    given, done = space(), []
    for number in range(1, 15):
        params = suggest(given, "auc", done, seed=7)
        assert params == suggest(given, "auc", done, seed=7)
        assert 3 <= params["max_depth"] <= 8 and isinstance(params["max_depth"], int)
        assert 0.01 <= params["eta"] <= 0.3 and params["grow_policy"] in ("depthwise", "lossguide")
        done.append(tried(number, None if number == 3 else 1 - abs(params["eta"] - 0.1), **params))
    assert suggest(given, "auc", done, seed=8) != suggest(given, "auc", done, seed=7)
    assert len({trial.params["eta"] for trial in done}) == 14
    # after so many it has learnt where the good ones lie: an auc is sought high, a logloss low
    sought = [suggest(given, metric, done, seed=seed)["eta"] for metric in ("auc", "logloss") for seed in range(9)]
    assert sum(abs(eta - 0.1) for eta in sought[:9]) < sum(abs(eta - 0.1) for eta in sought[9:])


def test_the_best_trial_is_the_first_of_equals_and_never_one_without_a_value():
    trials = [tried(1, None), tried(2, 0.6), tried(3, 0.7), tried(4, 0.7), tried(5, 0.2)]
    assert best_of(trials, "auc").number == 3
    assert best_of(trials, "logloss").number == 5
    with pytest.raises(TrainingError, match="none of 1 trials gave a model, the first: no value"):
        best_of(trials[:1], "auc")


def test_of_two_searches_for_the_same_both_go_on_with_the_trial_that_was_first(tmp_path):
    kept = Trials(FolderStore(tmp_path), "demo/trainings/abc/trials")
    first = tried(1, 0.6, eta=0.123456789012345)
    assert kept.keep(first) == first
    assert kept.keep(replace(first, value=0.7)) == first
    kept.keep(tried(2, None, eta=0.2))
    kept.keep(tried(4, 0.8, eta=0.2))
    assert kept.done(9) == [first, tried(2, None, eta=0.2)]  # the fourth stands behind a gap
    assert kept.done(1) == [first]


def judged(first: str, last: str, length: str | None = None, **changes) -> list[str]:
    spec = pipeline(**changes)
    train = spec.partition(first), spec.partition(last)
    return [p.key for p in validation_window(spec, train, None if length is None else Span.parse(length))]


def test_the_trials_are_judged_by_the_end_of_the_training_window():
    # the holdout of these specs is 7 days
    assert judged("2013-01-01", "2013-02-28") == ["2013-02-22", "2013-02-28"]
    assert judged("2013-01-01", "2013-02-28", "14d") == ["2013-02-15", "2013-02-28"]
    assert judged("2013-03-01", "2013-03-12") == ["2013-03-10", "2013-03-12"]  # a quarter at most, unless told
    assert judged("2013-03-01", "2013-03-12", "7d") == ["2013-03-06", "2013-03-12"]
    assert judged("2013-03-01", "2013-03-02", "6h") == ["2013-03-02", "2013-03-02"]


def test_a_window_of_which_nothing_is_left_to_train_on_is_refused():
    for length in ("12d", "30d"):
        with pytest.raises(TrainingError, match="all 12 partitions from 2013-03-01 to 2013-03-12"):
            judged("2013-03-01", "2013-03-12", length)
    with pytest.raises(TrainingError, match="all 1 partitions"):
        judged("2013-03-01", "2013-03-01")


@pytest.mark.parametrize(("rows", "way"), [(1000, "single"), (10**12, "external")])
def test_a_search_runs_in_one_process_whatever_the_settings_say_of_clusters(tmp_path, rows, way):
    means = Means(tmp_path, threads=1, scheduler="tcp://127.0.0.1:9", workers=4)
    for wish in ("auto", "cluster"):
        with open_place(Shape(rows, 3, 256), means, wish=wish, gpus=0, say=lambda text: None, alone=True) as place:
            assert (place.way, place.device) == (way, "cpu")
