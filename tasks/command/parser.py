"""The command's words."""

from __future__ import annotations

import argparse
from collections.abc import Sequence
from datetime import date

from tasks.command import handlers
from tasks.command.steps import VERBS


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
    one = command("run", handlers.run, "run one verb, with what it needs before it, without Airflow")
    one.add_argument("verb", choices=VERBS)
    one.add_argument("name", help="a source (ingest, validate; or a pipeline: all of its sources) or a pipeline")
    one.add_argument("partition", help="a partition key, or FIRST..LAST; for trainings the interval, such as 2013-11")
    one.add_argument("--input", metavar="FILE", help="JSON of the results of earlier verbs; - for standard input")
    one.add_argument("--force", action="store_true", help="also what is published already")
    one = command("backfill", handlers.backfill, "ingest and score a range of days in chunk runs of Airflow")
    one.add_argument("pipeline")
    one.add_argument("--from", dest="first", type=_day, required=True, metavar="DAY")
    one.add_argument("--to", dest="last", type=_day, required=True, metavar="DAY")
    one.add_argument("--stages", default="ingest,score", help="of ingest, score; default both")
    one.add_argument("--force", action="store_true", help="also what is published already")
    one = command("backtest", handlers.backtest, "walk forward over a past range, on a line of its own")
    one.add_argument("pipeline")
    one.add_argument("--from", dest="first", type=_day, required=True, metavar="DAY")
    one.add_argument("--to", dest="last", type=_day, required=True, metavar="DAY")
    one.add_argument("--name", help="of the backtest; left out, one that follows from range and spec")
    one.add_argument("--bootstrap", action="store_true", help="on the main line, which must be empty")
    one = command("report", handlers.report, "realised performance by month and version, against simpler policies")
    one.add_argument("pipeline")
    one.add_argument("--from", dest="first", type=_day, required=True, metavar="DAY")
    one.add_argument("--to", dest="last", type=_day, required=True, metavar="DAY")
    one.add_argument("--backtest", metavar="NAME", help="of that backtest instead of the main line")
    one = command("due", handlers.due, "live partitions for which a run should be started")
    one = command("maintain", handlers.maintain, "compact tables, delete data files that no retained version names")
    one.add_argument("names", nargs="*", metavar="NAME", help="sources or pipelines; all when left out")
    one.add_argument("--dry-run", action="store_true", help="only say what would be done")
    one = commands.add_parser("airflow", help="Airflow's own command line, on this platform", add_help=False)
    one.add_argument("words", nargs=argparse.REMAINDER)
    one.set_defaults(handler=handlers.airflow, json=False, debug=False)
    return parser.parse_args(arguments)


def _day(text: str) -> date:
    try:
        return date.fromisoformat(text)
    except ValueError as error:
        raise argparse.ArgumentTypeError(f"{text!r} is no day; expected for instance 2013-11-05") from error
