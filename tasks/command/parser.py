"""The command's words."""

from __future__ import annotations

import argparse
from collections.abc import Sequence
from datetime import date, datetime

from tasks.command import champions, handlers
from tasks.command.steps import VERBS
from tasks.domain.partition import instant


def parse(arguments: Sequence[str] | None) -> argparse.Namespace:
    """The options of a call; ends the process with 2 and a usage text on wrong words."""
    common = argparse.ArgumentParser(add_help=False)
    common.add_argument("--json", action="store_true", help="print the result as one line of JSON")
    common.add_argument("--debug", action="store_true", help="print the trace of an error")
    parser = argparse.ArgumentParser(
        prog="millrace", description="Scheduled training and batch scoring of XGBoost models."
    )
    commands = parser.add_subparsers(dest="command", required=True, metavar="COMMAND")

    def command(name: str, handler, text: str) -> argparse.ArgumentParser:
        one = commands.add_parser(name, parents=[common], help=text, description=text)
        one.set_defaults(handler=handler)
        return one

    command("up", handlers.up, "start PostgreSQL, MLflow and Airflow, where they don't run yet")
    command("down", handlers.down, "end everything that runs")
    command("clean", handlers.clean, "end everything and remove all that was written")
    one = command("status", handlers.status, "services, and per pipeline its champion and its newest predictions")
    one.add_argument("--rebuild", action="store_true", help="derive the state index anew from the tables' commits")
    command("demo", handlers.demo, "the main job on real flights, through Airflow")
    one = command("feed", handlers.feed, "deal the demo's flights of 2013 into the landing zone")
    one.add_argument("--from", dest="first", type=_day, default=date(2013, 1, 1), metavar="DAY")
    one.add_argument("--to", dest="last", type=_day, default=date(2013, 12, 31), metavar="DAY")
    one.add_argument("--sources", nargs="+", metavar="SOURCE", help="all of them when left out")
    one = command("check", handlers.check, "read and compile sources and pipelines, without data")
    one.add_argument("names", nargs="*", metavar="NAME", help="sources or pipelines; all when left out")
    one.add_argument("--leaks", action="store_true", help="compute features again without what was not known, compare")
    one.add_argument(
        "--partitions", type=_count, metavar="N", help="computed twice by --leaks; default leaks.partitions"
    )
    one.add_argument("--seed", type=int, default=0, metavar="S", help="of the partitions that --leaks takes")
    one = command("run", handlers.run, "run one verb, with what it needs before it, without Airflow")
    one.add_argument("verb", choices=VERBS)
    one.add_argument("name", help="a source (ingest, validate; or a pipeline: all of its sources) or a pipeline")
    one.add_argument("partition", help="a partition key, or FIRST..LAST; for trainings the interval, such as 2013-11")
    one.add_argument("--input", metavar="FILE", help="JSON of the results of earlier verbs; - for standard input")
    one.add_argument("--force", action="store_true", help="also what is published already")
    _chosen(one)
    one.add_argument("--approve", metavar="REASON", help="promote, where gate.approve is manual; you are recorded")
    one = command(
        "plan", handlers.plan, "which days of a range would be scored now, by which version, and why not the others"
    )
    one.add_argument("pipeline")
    _days(one, required=False)
    _chosen(one)
    one.add_argument("--force", action="store_true", help="also what is published already")
    one = command(
        "backfill", handlers.backfill, "ingest, train and score a range of days through Airflow, behind all else"
    )
    one.add_argument("pipeline")
    _days(one)
    one.add_argument("--stages", default="ingest,score", help="of ingest, train, score; default ingest,score")
    one.add_argument("--force", action="store_true", help="also what is published already")
    _chosen(one)
    one.add_argument("--dry-run", action="store_true", help="only say what each stage would do")
    one = command("backtest", handlers.backtest, "walk forward over a past range, on a line of its own")
    one.add_argument("pipeline")
    _days(one)
    one.add_argument("--name", help="of the backtest; left out, one that follows from range and spec")
    one.add_argument("--bootstrap", action="store_true", help="on the main line, which must be empty")
    one = command("report", handlers.report, "realised performance by month and version, against simpler policies")
    one.add_argument("pipeline")
    _days(one)
    one.add_argument("--backtest", metavar="NAME", help="of that backtest instead of the main line")
    _champions(command)
    one = command("quarantine", handlers.quarantine, "what contracts have set aside: rows, and blocked deliveries")
    one.add_argument("name", help="a source, or a pipeline: all of its sources")
    one.add_argument("partition", nargs="?", help="a partition key, or FIRST..LAST, whose rows are shown")
    one.add_argument("--rows", type=_count, default=20, metavar="N", help="to show of each source; default 20")
    one = command("replay", handlers.replay, "after a fix of file, suite or SQL: bring back what was set aside")
    one.add_argument("name", help="a source, or a pipeline, which is scored again too")
    one.add_argument("partition", help="a partition key, or FIRST..LAST")
    one = command("due", handlers.due, "live partitions for which a run should be started")
    one = command("why", handlers.why, "a published prediction, its features, its reasons and all that it came from")
    one.add_argument("pipeline")
    one.add_argument("entity", help="its column's value, or a=1,b=2 where it has several columns")
    one.add_argument("partition", help="a partition key, such as 2013-11-05")
    one = command("reproduce", handlers.reproduce, "train a version again from its pinned snapshots, and compare")
    one.add_argument("pipeline")
    one.add_argument("version", type=int, metavar="N", help="number of the model version")
    one.add_argument("--tolerance", type=float, help="largest difference of predictions; default 0.001")
    one = command("maintain", handlers.maintain, "compact tables, delete data files that no retained version names")
    one.add_argument("names", nargs="*", metavar="NAME", help="sources or pipelines; all when left out")
    one.add_argument("--dry-run", action="store_true", help="only say what would be done")
    one = commands.add_parser("airflow", help="Airflow's own command line, on this platform", add_help=False)
    one.add_argument("words", nargs=argparse.REMAINDER)
    one.set_defaults(handler=handlers.airflow, json=False, debug=False)
    return parser.parse_args(arguments)


def _days(one: argparse.ArgumentParser, *, required: bool = True) -> None:
    one.add_argument("--from", dest="first", type=_day, required=required, metavar="DAY")
    one.add_argument("--to", dest="last", type=_day, required=required, metavar="DAY")


def _chosen(one: argparse.ArgumentParser) -> None:
    """Which model scores."""
    one.add_argument(
        "--model",
        type=_model,
        default="as-of",
        metavar="as-of|champion|N",
        help="which model scores: each day's champion (as-of, the default), the newest one, or version N",
    )
    one.add_argument("--allow-in-sample", action="store_true", help="also days that it was trained on; they are marked")
    one.add_argument(
        "--data",
        choices=("as-known", "corrected"),
        default="as-known",
        help="what was known at each day's cut, or today's revisions of it: then what they change is due again",
    )


def _champions(command) -> None:
    """Who is champion, and a person's say in it."""
    one = command("ledger", champions.ledger, "who was champion when, why, and on which evidence")
    one.add_argument("pipeline")
    which = one.add_mutually_exclusive_group()
    which.add_argument("--at", metavar="MOMENT|PARTITION", help="who scores that day, and by which event")
    which.add_argument(
        "--event", type=int, metavar="N", help="all of one event: also its run, and where its evidence is"
    )
    one.add_argument("--known-at", type=_moment, metavar="MOMENT", help="as it was believed then")
    one.add_argument("--reconcile", action="store_true", help="point MLflow's alias at the ledger's champion")
    one = command("promote", champions.promote, "make a version champion by hand, from after what is published")
    one.add_argument("pipeline")
    one.add_argument("version", type=int, metavar="N")
    one.add_argument("--why", required=True, type=_reason, help="recorded in the ledger")
    one.add_argument("--unbar", action="store_true", help="also a version that was rolled back")
    _despite_leaks(one)
    one = command("rollback", champions.rollback, "take a version back at once, and score its days again")
    one.add_argument("pipeline")
    one.add_argument("--from", dest="bad", type=int, metavar="N", help="the bad version; default: the champion")
    one.add_argument("--to", type=int, metavar="N", help="who comes back; default: the champion before it")
    one.add_argument("--why", required=True, type=_reason, help="recorded in the ledger")
    one.add_argument("--repair", action="store_true", help="replace it in the past too, and score its days again")
    _despite_leaks(one)


def _despite_leaks(one: argparse.ArgumentParser) -> None:
    one.add_argument(
        "--despite-leaks", action="store_true", help="also a version that the leak check refuses; the ledger says so"
    )


def _model(text: str) -> str | int:
    if text in ("as-of", "champion"):
        return text
    try:
        return int(text)
    except ValueError:
        raise argparse.ArgumentTypeError(f"{text!r} is none of as-of, champion or a version's number") from None


def _reason(text: str) -> str:
    if not text.strip():
        raise argparse.ArgumentTypeError("expected a reason in words")
    return text.strip()


def _moment(text: str) -> datetime:
    try:
        return instant(text)
    except ValueError as error:
        raise argparse.ArgumentTypeError(
            f"{text!r} is no moment; expected for instance 2013-11-05T09:00Z or 2013-11-05T04:00-05:00"
        ) from error


def _count(text: str) -> int:
    if not text.isdigit() or int(text) < 1:
        raise argparse.ArgumentTypeError(f"{text!r} is no number; expected 1 or more")
    return int(text)


def _day(text: str) -> date:
    try:
        return date.fromisoformat(text)
    except ValueError as error:
        raise argparse.ArgumentTypeError(f"{text!r} is no day; expected for instance 2013-11-05") from error
