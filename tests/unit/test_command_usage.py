"""The command's words: results on stdout, one readable line of an error on stderr, exit codes 0, 1 and 2."""

from __future__ import annotations

import json
from collections.abc import Callable
from datetime import date
from pathlib import Path

import pytest

from tasks.__main__ import main
from tasks.command.output import table
from tasks.domain.partition import span
from tasks.errors import PartitionKeyError
from tests.support.pipelines import deliver, write_config

Call = Callable[..., tuple[int, str, str]]


@pytest.fixture
def call(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> Call:
    """Calls `millrace` on a project in `tmp_path`; gives exit code, stdout and stderr."""
    write_config(tmp_path / "config", "late_orders", live=True)
    deliver(tmp_path / "landing", date(2024, 1, 1), date(2024, 1, 3), orders=5)
    for name, folder in {"HOME": "home", "CONFIG": "config", "LANDING": "landing"}.items():
        monkeypatch.setenv(f"MILLRACE_{name}", str(tmp_path / folder))
    for name in ("MILLRACE_RUN_ID", "MILLRACE_ATTEMPT", "MILLRACE_ACTOR", "MILLRACE_ENVIRONMENT", "MILLRACE_LAKE"):
        monkeypatch.delenv(name, raising=False)

    def run(*words: str) -> tuple[int, str, str]:
        try:
            code = main(words)
        except SystemExit as ended:  # argparse's own way out
            code = int(ended.code or 0)
        out, err = capsys.readouterr()
        return code, out, err

    return run


def last(text: str):
    return json.loads(text.splitlines()[-1])


def test_a_result_is_the_last_line_as_json(call: Call):
    code, out, _ = call("run", "ingest", "orders", "2024-01-01..2024-01-03", "--json")
    assert code == 0
    assert last(out)["source"] == "orders" and [one["rows"] for one in last(out)["partitions"]] == [5, 5, 5]


def test_without_json_the_result_is_readable_and_progress_is_on_stderr(call: Call):
    code, out, err = call("run", "ingest", "orders", "2024-01-01")
    assert code == 0 and json.loads(out)["partitions"][0]["status"] == "landed"
    assert "ingest orders: 1 of 1" in err


def test_the_sources_of_a_pipeline_are_ingested_together(call: Call):
    code, out, _ = call("run", "ingest", "late_orders", "2024-01-01..2024-01-02", "--json")
    assert code == 0
    assert {one["source"]: len(one["partitions"]) for one in last(out)} == {"orders": 2, "arrivals": 2, "shops": 1}


def test_a_source_that_is_not_there_yet_holds_up_no_other_source(call: Call, tmp_path: Path):
    (tmp_path / "landing" / "orders" / "2024-01-02.csv").unlink()
    code, out, err = call("run", "ingest", "late_orders", "2024-01-02", "--json")
    assert code == 1
    assert last(out)["error"]["missing"] == ["orders/2024-01-02"]
    assert call("run", "validate", "arrivals", "2024-01-02")[0] == 0
    assert call("run", "validate", "shops", "all")[0] == 0


def test_a_failure_is_one_line_and_with_json_also_the_error_by_fields(call: Call, tmp_path: Path):
    file = tmp_path / "landing" / "orders" / "2024-01-02.csv"
    file.write_text("order_id,shop,amount\na,s1,many\n")
    code, out, err = call("run", "ingest", "orders", "2024-01-02", "--json")
    assert code == 1
    error = last(out)["error"]
    assert (error["type"], error["retry"], error["line"], error["column"]) == ("FileError", False, 2, "amount")
    assert error["uri"] == str(file) and error["message"] and error["hint"]
    told = [line for line in err.splitlines() if line.startswith("millrace: ")]
    assert len(told) == 1 and "line 2, column 'amount': 'many' is not a number" in told[0]
    assert "Traceback" not in err


def test_the_trace_comes_with_debug_only(call: Call):
    code, _, err = call("run", "ingest", "orders", "2024-02-02", "--debug")
    assert code == 1 and "Traceback" in err and "NotReadyError" in err
    code, _, err = call("run", "ingest", "orders", "2024-02-02")
    assert code == 1 and "Traceback" not in err


def test_an_unexpected_error_is_one_line_too(call: Call, tmp_path: Path):
    (tmp_path / "home").write_text("a file where a folder should be")
    code, _, err = call("run", "ingest", "orders", "2024-01-01")
    assert code == 1
    assert len([line for line in err.splitlines() if line.strip() and " of " not in line]) == 1


@pytest.mark.parametrize(
    ("words", "told"),
    [
        (
            ["run", "ingest", "orders", "2024-1-1"],
            "is no day partition in America/New_York (a key looks like 2013-11-03)",
        ),
        (["run", "score", "late_orders", "2024-01-01T01-0500"], "is no day partition"),
        (["run", "train", "late_orders", "2024-01-01"], "is no month partition"),
        (["run", "ingest", "shops", "2024-01-01"], "is no partition of reference data"),
        (["run", "score", "late_orders", "2024-01-03..2024-01-01"], "the range ends before it starts"),
        (
            ["run", "score", "late_order", "2024-01-01"],
            "there is no pipeline 'late_order' (did you mean 'late_orders'?)",
        ),
        (["run", "ingest", "order", "2024-01-01"], "there is no source or pipeline 'order' (did you mean 'orders'?)"),
        (["run", "score", "orders", "2024-01-01"], "there is no pipeline 'orders'"),
        (["check", "nothing"], "there is no shared source or pipeline 'nothing'"),
        (["check", "--leaks"], "expected the pipelines to check"),
        (["check", "--leaks", "orders"], "there is no pipeline 'orders'"),
        (["check", "--leaks", "late_orders", "--partitions", "0"], "'0' is no number; expected 1 or more"),
        (["backfill", "late", "--from", "2024-01-01", "--to", "2024-01-02"], "there is no pipeline 'late'"),
        (["backfill", "late_orders", "--from", "2024-01-02", "--to", "2024-01-01"], "--to 2024-01-01 is before"),
        (["backfill", "late_orders", "--from", "2024-01-01", "--to", "2024-01-02", "--stages", "x"], "'x' is none of"),
        (["feed", "--from", "soon"], "'soon' is no day; expected for instance 2013-11-05"),
        (["run", "guess", "late_orders", "2024-01-01"], "invalid choice: 'guess'"),
        (["run", "score", "late_orders", "2024-01-01", "--model", "best"], "'best' is none of as-of, champion or"),
        (
            ["run", "train", "late_orders", "2024-01", "--model", "1"],
            "--model, --allow-in-sample and --data are for pin",
        ),
        (["run", "score", "late_orders", "2024-01-01", "--model", "champion"], "late_orders has no champion yet"),
        (["ledger", "late_order"], "there is no pipeline 'late_order' (did you mean 'late_orders'?)"),
        (["ledger", "late_orders", "--known-at", "2024-01-01"], "'2024-01-01' is no moment; expected for instance"),
        (["ledger", "late_orders", "--at", "today"], "'today' is neither a partition of late_orders nor a moment"),
        (["promote", "late_orders", "1"], "the following arguments are required: --why"),
        (["rollback", "late_orders", "--why", " "], "expected a reason in words"),
        (["rollback", "late_orders", "--why", "bad"], "there is no champion to roll back"),
        (["run", "score", "late_orders"], "the following arguments are required: partition"),
        ([], "the following arguments are required: COMMAND"),
    ],
)
def test_wrong_usage_ends_with_two_and_says_what_was_expected(call: Call, words: list[str], told: str):
    code, out, err = call(*words)
    assert code == 2 and told in err and not out


@pytest.mark.parametrize(
    ("text", "told"),
    [
        ("not json", "expected a JSON object of verbs and their results"),
        ("[1]", "expected a JSON object"),
        ('{"guess": {}}', "KeyError('guess')"),
        ('{"pin": {}}', "missing 4 required positional arguments"),
        ('{"pin": 5}', "expected a JSON object"),
        (
            '{"pin": {"pipeline": "another", "partitions": [], "skipped": [], "snapshots": {}}}',
            "the result of pin is about 'another', not about 'late_orders'",
        ),
    ],
)
def test_an_input_that_makes_no_sense_is_wrong_usage(call: Call, tmp_path: Path, text: str, told: str):
    file = tmp_path / "input.json"
    file.write_text(text)
    code, _, err = call("run", "featurize", "late_orders", "2024-01-01", "--input", str(file))
    assert code == 2 and told in err
    code, _, err = call("run", "featurize", "late_orders", "2024-01-01", "--input", str(tmp_path / "none.json"))
    assert code == 2 and "can't be read" in err


def test_an_input_about_other_partitions_is_wrong_usage(call: Call, tmp_path: Path):
    model = {"version": 1, "digest": "0", "view": "v"}
    pinned = {"key": "2024-01-01", "as_of": "2024-01-01T09:00:00Z", "model": model, "late": [], "thin": False}
    pin = {"pipeline": "late_orders", "partitions": [pinned], "skipped": [], "snapshots": {}}
    (tmp_path / "input.json").write_text(json.dumps({"pin": pin}))
    words = ["run", "featurize", "late_orders", "2024-01-02", "--input", str(tmp_path / "input.json")]
    code, _, err = call(*words)
    assert code == 2 and "holds partition 2024-01-01, which is not in what was asked for" in err


def test_due_and_check_answer_in_json_and_as_tables(call: Call):
    code, out, _ = call("due", "--json")
    assert (code, last(out)) == (0, [])
    code, out, _ = call("due")
    assert code == 0 and out.split() == ["step", "name", "partition"]
    code, out, _ = call("check", "--json")
    assert code == 0
    assert {(one["kind"], one["name"]): one["problem"] for one in last(out)} == {
        ("source", "orders"): "",
        ("source", "arrivals"): "",
        ("source", "shops"): "",
        ("pipeline", "late_orders"): "",
    }


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (("score", "2024-01-02"), "--approve: score promotes nothing"),
        (("promote", "2024-01"), "--approve: gate.approve of late_orders is auto, so nobody is asked"),
    ],
)
def test_an_approval_where_nobody_is_asked_is_refused(call: Call, words: tuple[str, str], said: str):
    verb, partition = words
    code, _, err = call("run", verb, "late_orders", partition, "--approve", "why not")
    assert code == 2 and said in err


def test_an_approval_has_a_reason_and_is_about_one_training(call: Call, tmp_path: Path):
    spec = tmp_path / "config/pipelines/late_orders/pipeline.yaml"
    spec.write_text(spec.read_text().replace("{metric: auc}", "{metric: auc, approve: manual}"))
    code, _, err = call("run", "promote", "late_orders", "2024-02", "--approve", " ")
    assert code == 2 and "--approve: expected the reason for the approval" in err
    code, _, err = call("run", "promote", "late_orders", "2024-02..2024-03", "--approve", "why")
    assert code == 2 and "--approve: an approval is about one training, not about 2024-02..2024-03" in err


def test_a_scheduler_names_the_run_and_a_person_is_named_otherwise(call: Call, tmp_path: Path, monkeypatch):
    from tasks.command.handlers import identity

    monkeypatch.setenv("MILLRACE_RUN_ID", "dag/run/task")
    monkeypatch.setenv("MILLRACE_ATTEMPT", "3")
    monkeypatch.setenv("MILLRACE_ACTOR", "anna")
    assert vars(identity()) == {"run_id": "dag/run/task", "attempt": 3, "actor": "anna"}
    for name in ("RUN_ID", "ATTEMPT", "ACTOR"):
        monkeypatch.delenv(f"MILLRACE_{name}")
    by_hand = identity()
    assert by_hand.run_id.startswith("cli-") and by_hand.attempt == 1 and by_hand.actor


def test_ranges_are_inclusive_and_a_single_key_is_a_range_of_one():
    assert [p.key for p in span("day", "UTC", "2024-02-28..2024-03-01")] == ["2024-02-28", "2024-02-29", "2024-03-01"]
    assert [p.key for p in span("month", "UTC", "2024-02")] == ["2024-02"]
    hours = span("hour", "Europe/Berlin", "2024-10-27T01+0200..2024-10-27T03+0100")
    assert [p.key for p in hours][1:3] == ["2024-10-27T02+0200", "2024-10-27T02+0100"]
    with pytest.raises(PartitionKeyError, match="ends before it starts"):
        span("day", "UTC", "2024-01-02..2024-01-01")
    with pytest.raises(PartitionKeyError):
        span("day", "UTC", "2024-01-02..")


def test_a_table_lines_up():
    assert table(("name", "rows"), [("a", 10), ("longer", 2)]) == "name    rows\na       10\nlonger  2"
