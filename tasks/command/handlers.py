"""One function per command: options in, work done, result printed."""

from __future__ import annotations

import argparse
import getpass
import json
import os
import sys
import uuid
from datetime import UTC, datetime
from pathlib import Path

from tasks.command import output
from tasks.domain.results import Result
from tasks.domain.run import RunRef
from tasks.errors import NotReadyError, PartitionKeyError, Terminal, UsageError
from tasks.settings import Settings, load_settings


def up(options: argparse.Namespace) -> None:
    from tasks.command.demo import start
    from tasks.services import addresses

    settings = load_settings()
    start(settings)
    where = addresses(settings)
    text = f"Airflow  {where.airflow}   user {where.user}, password {where.password}\nMLflow   {where.mlflow}"
    output.emit(vars(where), text, as_json=options.json)


def down(options: argparse.Namespace) -> None:
    from tasks import services

    services.down(load_settings())
    output.emit({"down": True}, "everything has ended", as_json=options.json)


def clean(options: argparse.Namespace) -> None:
    from tasks import services

    settings = load_settings()
    services.clean(settings)
    output.emit({"removed": str(settings.home)}, f"removed {settings.home}", as_json=options.json)


def status(options: argparse.Namespace) -> int:
    from tasks.command.status import pipelines_status
    from tasks.lake import open_lake
    from tasks.line import IN_ORDER
    from tasks.services import status as services_status

    settings = load_settings()
    if options.rebuild:
        open_lake(settings).drop_state()
    parts = services_status(settings)
    mlflow = next((p.address for p in parts if p.name == "mlflow" and p.state in ("running", "outside")), None)
    lines = pipelines_status(settings, mlflow)
    text = output.table(("service", "state", "address"), [(p.name, p.state, p.address) for p in parts])
    text += "\n\n" + output.table(
        ("pipeline", "champion", "since", "partitions", "newest", "problem"),
        [tuple("" if value is None else value for name, value in line.items() if name != "alias") for line in lines],
    )
    text += "".join(
        f"\n{line['pipeline']}: {line['alias']}" for line in lines if line["alias"] not in (None, *IN_ORDER)
    )
    output.emit({"services": [vars(part) for part in parts], "pipelines": lines}, text, as_json=options.json)
    return 0


def demo(options: argparse.Namespace) -> None:
    from tasks.command.demo import demo as run_demo
    from tasks.command.demo import report

    summary = run_demo(load_settings())
    output.emit(summary, report(summary), as_json=options.json)


def feed(options: argparse.Namespace) -> None:
    from tasks.command.demo import unless_equal
    from tasks.feed import feed as deal
    from tasks.lake import open_landing

    settings = load_settings()
    put = unless_equal(open_landing(settings), settings.landing_uri)
    fed = deal(put=put, sources=options.sources, first=options.first, last=options.last)
    text = f"{fed.files} files, {fed.rows} rows, {fed.bytes / 1e6:.1f} MB in {settings.landing_uri}"
    output.emit(fed.to_dict(), text, as_json=options.json)


def check(options: argparse.Namespace) -> int:
    from tasks.command.check import check as check_all

    if options.leaks:
        return _check_leaks(options)
    found = check_all(load_settings(), options.names)
    rows = [(kind, name, problem or "ok") for kind, name, problem in found]
    value = [{"kind": kind, "name": name, "problem": problem} for kind, name, problem in found]
    output.emit(value, output.table(("kind", "name", "state"), rows), as_json=options.json)
    return 1 if any(problem for *_, problem in found) else 0


def _check_leaks(options: argparse.Namespace) -> int:
    from tasks.command.leaks import HINT, check_leaks, told
    from tasks.command.names import known_pipeline

    settings = load_settings()
    if not options.names:
        raise UsageError("--leaks: expected the pipelines to check", hint="millrace check --leaks NAME")
    for name in options.names:
        known_pipeline(settings, name)
    found = [
        check_leaks(settings, name, run=identity(), count=options.partitions, seed=options.seed)
        for name in options.names
    ]
    lines = []
    for one in found:
        lines += [f"{one.pipeline}  {told(one)}", *(f"  {leak.text}" for leak in one.leaks)]
    leaking = any(one.leaks for one in found)
    text = "\n".join([*lines, *([f"what to do: {HINT}"] if leaking else [])])
    output.emit([one.to_dict() for one in found], text, as_json=options.json)
    return 1 if leaking else 0


def run(options: argparse.Namespace) -> int:
    from tasks.command.names import known_pipeline, known_source
    from tasks.command.steps import SCORING, SOURCE_VERBS, Steps

    settings = load_settings()
    given = _given(options)
    chosen = (options.model, options.data, options.allow_in_sample)
    if options.verb not in SCORING and chosen != ("as-of", "as-known", False):
        raise UsageError(f"--model, --allow-in-sample and --data are for {', '.join(SCORING)}, not for {options.verb}")
    with output.progress(f"{options.verb} {options.name}") as show:
        how = {"force": options.force, "model": options.model, "allow_in_sample": options.allow_in_sample}
        how |= {"data": options.data}
        how["approve"] = _approval(settings, options)
        steps = Steps(settings, identity(), output.say, show, given=given, **how)
        if options.verb in SOURCE_VERBS:
            known_source(settings, options.name)
            results = _of_sources(settings, steps, options)
        else:
            known_pipeline(settings, options.name)
            texts = steps.runs(options.verb, options.name, options.partition)
            results = [steps.pipeline(options.verb, options.name, text) for text in texts]
    values = [result.to_dict() for result in results]
    text = "\n".join(json.dumps(value, indent=2) for value in values)
    output.emit(values[0] if len(values) == 1 else values, text, as_json=options.json)
    # a scheduler, which hands over what came before, waits by itself
    return 1 if (steps.waiting or steps.refused) and not options.input else 0


def _approval(settings: Settings, options: argparse.Namespace) -> str | None:
    """The reason given with --approve, where an approval has a meaning."""
    from tasks.command.names import known_pipeline
    from tasks.settings import load_pipeline

    reason = options.approve
    if reason is None:
        return None
    if options.verb != "promote":
        raise UsageError(f"--approve: {options.verb} promotes nothing; it belongs to `millrace run promote`")
    known_pipeline(settings, options.name)
    if load_pipeline(settings.config, options.name).gate.approve == "auto":
        raise UsageError(f"--approve: gate.approve of {options.name} is auto, so nobody is asked")
    if not reason.strip():
        raise UsageError("--approve: expected the reason for the approval")
    return reason.strip()


def _given(options: argparse.Namespace) -> dict[str, Result]:
    """The results of earlier verbs, from --input."""
    from tasks.command.steps import RESULTS

    if not options.input:
        return {}
    try:
        text = sys.stdin.read() if options.input == "-" else Path(options.input).read_text(encoding="utf-8")
        given = {verb: RESULTS[verb].from_dict(value) for verb, value in json.loads(text or "{}").items()}
    except OSError as error:
        raise UsageError(f"--input: {options.input} can't be read: {error.strerror}") from error
    except (ValueError, KeyError, TypeError, AttributeError) as error:
        raise UsageError(f"--input: expected a JSON object of verbs and their results: {error!r}") from error
    for verb, result in given.items():
        subject = getattr(result, "pipeline", getattr(result, "source", None))
        if subject != options.name:
            raise UsageError(f"--input: the result of {verb} is about {subject!r}, not about {options.name!r}")
    return given


def _of_sources(settings: Settings, steps, options: argparse.Namespace) -> list[Result]:
    """A source's verb for one source, or for all of a pipeline; what stops one source holds up no other."""
    from tasks.command.sources import in_source, sources_of

    results, problem = [], None
    for source in sources_of(settings, options.name):
        try:
            text = in_source(settings, options.name, source, options.partition)
            results.append(steps.source(options.verb, source.name, text))
        except (Terminal, NotReadyError) as error:
            if isinstance(error, UsageError | PartitionKeyError):
                raise
            if problem is not None:
                output.say(f"millrace: {problem}")
            problem = error
    if problem is not None:
        raise problem
    return results


def plan(options: argparse.Namespace) -> int:
    from tasks.command.names import known_pipeline
    from tasks.command.plan import plan as plan_range
    from tasks.command.plan import text

    settings = load_settings()
    known_pipeline(settings, options.pipeline)
    result = plan_range(
        settings,
        options.pipeline,
        options.first,
        options.last,
        model=options.model,
        allow_in_sample=options.allow_in_sample,
        force=options.force,
        data=options.data,
    )
    output.emit(result.to_dict(), text(result), as_json=options.json)
    return 0


def backfill(options: argparse.Namespace) -> int:
    from tasks.command.backfill import backfill as run_backfill

    return run_backfill(options)


def backtest(options: argparse.Namespace) -> int:
    from tasks.command.backtest import backtest as walk_forward
    from tasks.command.backtest import text, waiting
    from tasks.command.names import known_pipeline
    from tasks.command.steps import Steps

    settings = load_settings()
    known_pipeline(settings, options.pipeline)
    steps = Steps(settings, identity(), output.say, lambda done, total: None)
    result = walk_forward(
        steps, options.pipeline, options.first, options.last, name=options.name, bootstrap=options.bootstrap
    )
    output.emit(result.to_dict(), text(result, options.first, options.last), as_json=options.json)
    return 1 if waiting(result) else 0


def report(options: argparse.Namespace) -> int:
    from tasks.command.names import known_pipeline
    from tasks.command.report import report as realised
    from tasks.command.report import text
    from tasks.command.steps import Steps

    settings = load_settings()
    known_pipeline(settings, options.pipeline)
    with output.progress("features") as show:
        steps = Steps(settings, identity(), output.say, show, backtest=options.backtest)
        result = realised(steps, options.pipeline, options.first, options.last)
    output.emit(result.to_dict(), text(result), as_json=options.json)
    return 0


def quarantine(options: argparse.Namespace) -> None:
    from tasks.command.names import known_source
    from tasks.command.quarantine import quarantine as list_set_aside
    from tasks.command.quarantine import text

    settings = load_settings()
    known_source(settings, options.name)
    found = list_set_aside(settings, options.name, options.partition, rows=options.rows)
    output.emit(found.to_dict(), text(found), as_json=options.json)


def replay(options: argparse.Namespace) -> int:
    from tasks.command.names import known_source
    from tasks.command.replay import replay as bring_back
    from tasks.command.replay import text
    from tasks.command.steps import Steps

    settings = load_settings()
    known_source(settings, options.name)
    with output.progress(f"replay {options.name}") as show:
        done = bring_back(Steps(settings, identity(), output.say, show), options.name, options.partition)
    output.emit(done.to_dict(), text(done), as_json=options.json)
    return 1 if done.problems else 0


def due(options: argparse.Namespace) -> None:
    from tasks.command.due import due as due_now

    found = due_now(load_settings(), datetime.now(UTC))
    text = output.table(("step", "name", "partition"), [(one.step, one.name, one.key) for one in found])
    output.emit([one.to_dict() for one in found], text, as_json=options.json)


def why(options: argparse.Namespace) -> None:
    from tasks.command.explain import entity_of, why_report
    from tasks.command.names import known_pipeline
    from tasks.explain import why as explain
    from tasks.lake import open_lake
    from tasks.settings import load_pipeline

    settings = load_settings()
    known_pipeline(settings, options.pipeline)
    spec = load_pipeline(settings.config, options.pipeline)
    found = explain(
        spec=spec,
        partition=spec.partition(options.partition),
        entity=entity_of(spec.entity, options.entity),
        lake=open_lake(settings),
        threads=settings.threads,
    )
    output.emit(found.to_dict(), why_report(found), as_json=options.json)


def reproduce(options: argparse.Namespace) -> int:
    from tasks.command.explain import reproduce_report
    from tasks.command.names import known_pipeline
    from tasks.lake import open_lake
    from tasks.reproduce import TOLERANCE
    from tasks.reproduce import reproduce as train_again
    from tasks.settings import load_pipeline

    settings = load_settings()
    known_pipeline(settings, options.pipeline)
    found = train_again(
        spec=load_pipeline(settings.config, options.pipeline),
        version=options.version,
        lake=open_lake(settings),
        settings=settings,
        tolerance=TOLERANCE if options.tolerance is None else options.tolerance,
        say=output.say,
    )
    output.emit(found.to_dict(), reproduce_report(found), as_json=options.json)
    return 1 if found.verdict == "different" else 0


def maintain(options: argparse.Namespace) -> int:
    from tasks.command.maintain import maintain_named, report

    with output.progress("tables maintained") as show:
        result = maintain_named(
            load_settings(),
            options.names,
            run=identity(),
            now=datetime.now(UTC),
            dry_run=options.dry_run,
            progress=show,
        )
    output.emit(result.to_dict(), report(result), as_json=options.json)
    return 1 if any(one.problem for one in result.tables) else 0


def airflow(options: argparse.Namespace) -> None:
    from tasks.services import airflow_environment

    environment = airflow_environment(load_settings())
    os.execvpe(sys.executable, [sys.executable, "-P", "-m", "airflow", *options.words], environment)


def identity() -> RunRef:
    """Who runs: what the scheduler says, else this user."""
    environ = os.environ
    actor = environ.get("MILLRACE_ACTOR")
    if actor is None:
        try:
            actor = getpass.getuser()
        except (OSError, KeyError):
            actor = str(os.getuid())
    run_id = environ.get("MILLRACE_RUN_ID") or f"cli-{uuid.uuid4().hex[:12]}"
    return RunRef(run_id, int(environ.get("MILLRACE_ATTEMPT") or 1), actor)
