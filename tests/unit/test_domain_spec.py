"""Specs are frozen, and what could only fail later is refused at once."""

import json
import pickle
from datetime import UTC, date, datetime

import pytest
from pydantic import ValidationError

from tasks.domain import tables
from tasks.domain.spec import LabelSpec, PipelineSpec
from tasks.settings import REPOSITORY, load_pipeline, pipeline_names
from tests.support.specs import pipeline, source


def refusal(make, **changes) -> str:
    with pytest.raises(ValidationError) as caught:
        make(**changes)
    return str(caught.value)


def test_a_spec_is_frozen():
    with pytest.raises(ValidationError, match="frozen"):
        pipeline().grain = "hour"


def test_a_pipelines_parts_are_derived_from_its_spec():
    spec = pipeline(end="2013-03-20", train={"every": "week"})
    assert spec.driver.name == "rows"
    assert (spec.first.key, spec.last.key) == ("2013-01-01", "2013-03-20")
    assert pipeline().last is None
    assert spec.partition("2013-01-05").key == "2013-01-05"
    assert spec.training("2013-03-11").grain == "week"
    assert spec.training_as_of(spec.training("2013-03-11")) == datetime(2013, 3, 11, 8, tzinfo=UTC)


def test_a_backtests_line_is_its_own_and_stays_with_every_copy_of_the_spec():
    spec = pipeline()
    assert (spec.line, spec.model) == ("demo", "demo")
    other = spec.on_backtest("q2")
    assert (other.line, other.model) == ("demo/backtests/q2", "demo-backtests-q2")
    assert (
        pickle.loads(pickle.dumps(other)).line
        == other.model_copy(update={"start": date(2013, 2, 1)}).line
        == other.line
    )
    assert (spec.line, other.recipe) == ("demo", spec.recipe)


def test_a_time_column_is_used_only_where_grains_or_zones_differ():
    assert pipeline().driving_time is None
    assert pipeline(grain="hour", as_of="start", deadline="end+1h").driving_time == "seen"
    assert pipeline(timezone="UTC", as_of="start+6h", deadline="start+7h").driving_time == "seen"


def test_the_last_partition_holds_the_last_day():
    ahead = {"rows": source("rows", available="start-40d", time="seen"), "truth": source("truth", available="end+3h")}
    at = {"as_of": "start", "deadline": "end"}
    assert pipeline(ahead, grain="week", end="2013-03-20", **at).last.key == "2013-03-18"
    assert pipeline(ahead, grain="month", end="2013-03-31", **at).last.key == "2013-03"
    assert pipeline(ahead, grain="hour", end="2013-03-10", **at).last.key == "2013-03-10T23-0400"


def test_features_that_could_read_their_own_labels_are_refused():
    with pytest.raises(ValueError, match="features could read the labels of their own partition"):
        pipeline(as_of="end+4h", deadline="end+5h")


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"uri": "{landing}/x.csv"}, "expected {partition} in it"),
        ({"columns": {}}, "expected at least one column"),
        ({"columns": {"_x": "int"}}, "'_x' is reserved"),
        ({"columns": {"revision": "int"}}, "'revision' is reserved"),
        ({"columns": {"x": "int", "X": "int"}}, "x and X differ in case only"),
        ({"columns": {"x": "integer"}}, "columns.x"),
        ({"time": "x"}, "'x' is not one"),
        ({"time": "nosuch"}, "'nosuch' is not one"),
        ({"missing": ["2013-1-5"]}, "missing: '2013-1-5' is no day partition"),
        ({"timezone": "Mars/Base"}, "no time zone"),
        ({"available": "noon"}, "no moment"),
        ({"name": "Bad Name"}, "no name"),
        ({"delimiter": "||"}, "delimiter"),
        ({"max_reject_rate": 2}, "max_reject_rate"),
        ({"formt": "csv"}, "formt"),
        ({"ahead": ["id"]}, "ahead: expected columns of type date, timestamp, local_timestamp, 'id' is not one"),
        ({"ahead": "seen"}, "expected true, or a list of columns such as [valid_until], found 'seen'"),
    ],
)
def test_a_source_that_cannot_be_is_refused(changes, words):
    assert words in refusal(lambda name="rows", **kw: source(name, **kw), **changes)


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"entity": ()}, "expected a list of columns such as [flight_id], found ()"),
        ({"entity": "id"}, "expected a list of columns such as [flight_id], found 'id'"),
        ({"entity": ("id", "id")}, "expected a list of columns"),
        ({"entity": ("nosuch",)}, "source 'rows' has no column 'nosuch'"),
        ({"label": LabelSpec(sql="x", source="nosuch")}, "expected one of rows, truth, found 'nosuch'"),
        ({"end": "2012-12-31"}, "expected a day on or after start"),
        ({"deadline": "start+3h"}, "expected a moment at or after as_of"),
        ({"as_of": "start-7h"}, "its partition 2013-01-01 is available only start-6h, after as_of"),
        ({"gate": {"metric": "rmse"}}, "expected one of auc, logloss, accuracy for binary:logistic, found rmse"),
        ({"train": {"objective": "reg:squarederror"}}, "expected one of rmse, mae"),
        ({"train": {"gpus": "many"}}, "expected auto or a number of GPUs, found 'many'"),
        ({"train": {"gpus": -1}}, "expected auto or a number of GPUs"),
        ({"train": {"params": {"a": [1]}}}, "a: expected a number, a text or a truth value, found [1]"),
        ({"train": {"params": [1]}}, "expected XGBoost's parameters by name"),
        ({"train": {"rounds": 0}}, "rounds"),
        ({"gate": {"confidence": 0.4}}, "confidence"),
        (
            {"gate": {"guards": [{"slice": "z", "max_drop": 0}]}},
            "expected a column of source 'rows' with values to slice by (id), found 'z'",
        ),
        ({"gate": {"guards": [{"slice": "x", "max_drop": 0}]}}, "with values to slice by (id), 'x' is float"),
        (
            {"gate": {"guards": [{"slice": "id", "max_drop": 0}] * 2}},
            "'id' stands twice; expected one guard for a column",
        ),
        ({"gate": {"guards": [{"slice": "id"}]}}, "max_drop"),
        ({"gate": {"guards": [{"slice": "id", "max_drop": -1}]}}, "greater than or equal to 0"),
        ({"gate": {"limits": {"model_mb": 0}}}, "greater than 0"),
        ({"gate": {"approve": "manuell"}}, "'auto' or 'manual'"),
        ({"leaks": {"alone": 0.5}}, "alone"),
        ({"leaks": {"partitions": 0}}, "partitions"),
        ({"lookback": "5"}, "no length of time"),
        ({"entities": 1}, "entities"),
    ],
)
def test_a_pipeline_that_cannot_be_is_refused(changes, words):
    assert words in refusal(pipeline, **changes)


@pytest.mark.parametrize(
    ("sources", "words"),
    [
        ({"rows": source("rows", grain="hour", available="start-6h")}, "expected the timestamp column that assigns"),
        ({"rows": source("rows", grain="none")}, "reference data can't drive"),
        ({"rows": source("rows", columns={"id": "int"}, available="start-6h")}, "int in source 'rows' and string"),
        ({"truth": source("truth", grain="none")}, "label.source: expected a source with a grain"),
        ({"entities": source("entities")}, "'entities' is the view of the rows to be scored"),
    ],
)
def test_sources_that_do_not_fit_together_are_refused(sources, words):
    given = {"rows": source("rows", available="start-6h"), "truth": source("truth"), **sources}
    assert words in refusal(pipeline, sources=given)


def test_exactly_one_source_drives():
    assert "found none" in refusal(pipeline, sources={"truth": source("truth")})


def test_parameters_keep_their_types():
    params = pipeline(train={"params": {"max_depth": 6, "eta": 0.1, "tree_method": "hist", "flag": True}}).train.params
    assert [type(value) for value in params.values()] == [int, float, str, bool]


def test_history_ends_before_its_day():
    one = source("rows", history="2013-02-01")
    assert one.is_history(one.partition("2013-01-31")) and not one.is_history(one.partition("2013-02-01"))
    assert not source("rows").is_history(one.partition("2013-01-31"))
    assert one.history == date(2013, 2, 1)


def test_a_declared_moment_is_that_of_the_source():
    one = source("rows", available="end+3h")
    assert one.declared(one.partition("2013-01-05")) == datetime(2013, 1, 6, 8, tzinfo=UTC)
    planes = source("planes", grain="none", uri="{landing}/planes.csv")
    assert planes.declared(planes.partition("all")) == datetime(1900, 1, 1, tzinfo=UTC)


def test_dates_that_yaml_reads_as_dates_are_keys_again():
    assert source("rows", missing=[date(2013, 12, 31)]).missing == ("2013-12-31",)


def test_reasons_are_few_and_off_unless_asked_for():
    assert pipeline().score.reasons == 0
    assert pipeline(score={"reasons": 10}).score.reasons == 10
    for wrong in (-1, 11, 2.5, "3", True):
        with pytest.raises(ValueError, match="reasons"):
            pipeline(score={"reasons": wrong})
    assert "reasons" in tables.predictions_columns({"id": "string"}, classes=False, reasons=True)


def test_millraces_own_columns_stand_beside_the_declared_ones():
    assert list(tables.clean_columns({"x": "int"})) == ["x", "_known_at", "_line", "partition_key", "revision"]
    assert list(tables.raw_columns({"x": "int"}))[-2:] == list(tables.SOURCE_KEY)
    assert "scores" in tables.predictions_columns({"id": "string"}, classes=True)
    assert "scores" not in tables.predictions_columns({"id": "string"}, classes=False)
    assert tables.features("demo", "abc") == "demo/features/abc"


def test_a_spec_is_read_back_from_its_spelling_as_the_same():
    space = {"max_depth": [3, 8], "eta": [0.01, 0.3, "log"], "grow_policy": {"choice": ["depthwise", "lossguide"]}}
    spec = pipeline(
        end="2013-03-20",
        train={"window": "90d", "params": {"eta": 0.1}, "search": {"trials": 3, "space": space, "validation": "2d12h"}},
        score={"reasons": 2},
    )
    again = PipelineSpec.model_validate(json.loads(json.dumps(spec.spelled())))
    assert again == spec and again.recipe == spec.recipe


@pytest.mark.parametrize("name", pipeline_names(REPOSITORY / "config"))
def test_a_pipeline_of_the_project_is_read_back_from_its_spelling_as_the_same(name: str):
    spec = load_pipeline(REPOSITORY / "config", name)
    assert PipelineSpec.model_validate(json.loads(json.dumps(spec.spelled()))) == spec


def test_a_late_policy_says_until_when_and_a_driver_has_rows_to_wait_for():
    late = {"policy": "degrade", "until": "end+6h"}
    assert str(source("truth", late=late).late.until) == "end+6h"
    for wrong, said in {
        "wait with a moment": ({"until": "end+6h"}, "until: expected with skip and degrade alone"),
        "no moment": ({"policy": "skip"}, "until: expected the moment after which"),
        "before it is due": (
            {"policy": "skip", "until": "start"},
            "late.until: expected a moment at or after available",
        ),
        "another word": ({"policy": "drop", "until": "end"}, "policy"),
    }.values():
        with pytest.raises(ValueError, match=said):
            source("truth", late=wrong)
    with pytest.raises(ValueError, match="reference data has no moment"):
        source("places", grain="none", late=late)
    rows, truth = source("rows", available="start-6h", time="seen", late=late), source("truth", available="end+3h")
    with pytest.raises(ValueError, match="it drives, and without its rows there is nothing to score"):
        pipeline({"rows": rows, "truth": truth})


def test_several_files_have_a_mark_and_a_receipt_has_an_ending():
    for wrong, said in (
        ({"uri": "{landing}/{partition}/*.csv"}, "complete: expected the file that is put last"),
        ({"receipt": "sha256"}, "receipt: expected an ending such as .sha256"),
        ({"renamed": {"y": ["z"]}}, "renamed: 'y' is not one of the columns"),
        ({"renamed": {"x": ["id"]}}, "renamed: 'id' stands for two columns"),
        ({"renamed": {"x": ["z"], "id": ["z"]}}, "renamed: 'z' stands for two columns"),
    ):
        with pytest.raises(ValueError, match=said):
            source("rows", **wrong)
