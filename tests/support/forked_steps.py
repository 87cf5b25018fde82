"""Commands of `millrace` in forked processes: imported once, and killed, traced or altered at a gateway's call.

`ForkedSteps` starts a process that has imported everything and runs nothing; for each request it forks one that
runs a command to its end, to a signal, or to the call at which it is to die.
"""

from __future__ import annotations

import functools
import importlib
import inspect
import json
import os
import pkgutil
import signal
import subprocess
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from pathlib import Path
from types import FunctionType
from typing import Any

from tests.support.project import Ended, Project

ROOT = Path(__file__).resolve().parents[2]
GATEWAYS = ("tasks.lake", "tasks.registry", "tasks.quality", "tasks.sql", "tasks.compute")
OUTSIDE = (
    "os:link",
    "os:replace",
    "requests.sessions:Session.send",
    "tasks.lake.delta:Snapshot.commit",
    "tasks.lake.delta:Snapshot.add_columns",
    "tasks.lake.delta:create_table",
    "tasks.lake.objects:FolderStore.put",
    "tasks.lake.objects:FolderStore.put_if_absent",
    "tasks.lake.objects:FolderStore.put_file",
    "tasks.lake.objects:FolderStore.delete",
    "tasks.lake.datafiles:write_partition",
    "tasks.lake.staging:Staged.keep",
)
"""What changes something outside, whoever calls it: a kill between the request that a gateway makes and its reply."""
Call = Callable[[str, Callable[[], Any]], Any]


@dataclass(frozen=True)
class Point:
    """A call at which a command dies.

    Attributes:
        name: of the function, as `lake.racing.replace_untouched`.
        number: which call of it, 1 for the first.
        moment: before it is made, or after, when its caller has not heard of it.
    """

    name: str
    number: int
    moment: str

    def __str__(self) -> str:
        return f"{self.moment} {self.name} {self.number}"


class ForkedSteps:
    """A started process that forks commands."""

    def __init__(self, process: subprocess.Popen) -> None:
        self._process = process

    def run(
        self,
        project: Project,
        *words: str,
        point: Point | None = None,
        trace: Path | None = None,
        mutant: str | None = None,
        environment: dict[str, str] | None = None,
    ) -> Ended:
        """Run one command on a project.

        Args:
            point: where it is to die.
            trace: a file for the names of its gateway calls, one a line.
            mutant: of `tests.support.mutants`, applied before it begins.
            environment: more variables.
        """
        work = project.folder / "work"
        work.mkdir(exist_ok=True)
        out, err = work / "out", work / "err"
        request = {
            "words": words,
            "environment": project.environment() | (environment or {}),
            "folder": str(work),
            "out": str(out),
            "err": str(err),
            "point": asdict(point) if point else None,
            "trace": str(trace) if trace else None,
            "mutant": mutant,
        }
        self._process.stdin.write(json.dumps(request) + "\n")
        self._process.stdin.flush()
        line = self._process.stdout.readline()
        if not line:
            raise RuntimeError("the process that forks the commands has ended")
        return Ended(json.loads(line), out.read_text(), err.read_text())


@contextmanager
def forked_steps() -> Iterator[ForkedSteps]:
    """A process that forks commands, for the length of a `with` block."""
    # no pool of threads of OpenBLAS: a fork would not have it
    environment = {**os.environ, "OPENBLAS_NUM_THREADS": "1", "PYTHONPATH": str(ROOT)}
    process = subprocess.Popen(
        [sys.executable, "-P", "-m", "tests.support.forked_steps"],
        cwd=ROOT,
        env=environment,
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
    )
    try:
        yield ForkedSteps(process)
    finally:
        process.stdin.close()
        try:
            process.wait(20)
        finally:
            process.kill()
            process.stdout.close()


def wrap(call: Call) -> None:
    """Have every call of a gateway from outside of it, and those of OUTSIDE, go through `call(name, make)`."""
    for package in GATEWAYS:
        for module in [module for name, module in list(sys.modules.items()) if name.startswith(f"{package}.")]:
            for owner, name in _callables(module):
                _replace(owner, name, _from_outside(package, module, owner, name, call))
    for target in OUTSIDE:
        module, _, path = target.partition(":")
        owner: Any = importlib.import_module(module)
        *parts, name = path.split(".")
        for part in parts:
            owner = getattr(owner, part)
        _replace(owner, name, _always(f"{module.removeprefix('tasks.')}.{path}", getattr(owner, name), call))


def _callables(module: Any) -> list[tuple[Any, str]]:
    """The public functions of a module and the public methods of its classes, each with its owner."""
    found: list[tuple[Any, str]] = []
    for name, value in list(vars(module).items()):
        if name.startswith("_") or getattr(value, "__module__", None) != module.__name__:
            continue
        if isinstance(value, FunctionType):
            found.append((module, name))
        elif inspect.isclass(value):
            found += [
                (value, own)
                for own, method in list(vars(value).items())
                if not own.startswith("_") and isinstance(method, FunctionType)
            ]
    return found


def _from_outside(package: str, module: Any, owner: Any, name: str, call: Call) -> Callable:
    function = vars(owner)[name]
    path = f"{owner.__name__}.{name}" if inspect.isclass(owner) else name
    told = f"{module.__name__.removeprefix('tasks.')}.{path}"

    @functools.wraps(function)
    def wrapped(*args: Any, **kwargs: Any) -> Any:
        caller = sys._getframe(1).f_globals.get("__name__", "")
        if not caller.startswith("tasks.") or caller == package or caller.startswith(f"{package}."):
            return function(*args, **kwargs)
        return call(told, functools.partial(function, *args, **kwargs))

    return wrapped


def _always(told: str, function: Callable, call: Call) -> Callable:
    @functools.wraps(function)
    def wrapped(*args: Any, **kwargs: Any) -> Any:
        return call(f"{told}!", functools.partial(function, *args, **kwargs))

    return wrapped


def _replace(owner: Any, name: str, new: Callable) -> None:
    old = vars(owner)[name]
    setattr(owner, name, new)
    if inspect.ismodule(owner):  # and where it was imported by name
        for module in [module for key, module in list(sys.modules.items()) if key.startswith("tasks")]:
            for own, value in list(vars(module).items()):
                if value is old:
                    setattr(module, own, new)


def _dying(point: Point) -> Call:
    calls = 0

    def call(name: str, make: Callable[[], Any]) -> Any:
        nonlocal calls
        if name != point.name:
            return make()
        calls += 1
        due = calls == point.number
        if due and point.moment == "before":
            os.kill(os.getpid(), signal.SIGKILL)
        try:
            return make()
        finally:  # also where the call refuses, as the second link of a name does
            if due:
                os.kill(os.getpid(), signal.SIGKILL)

    return call


def _tracing(file: str) -> Call:
    stream = open(file, "a", buffering=1)  # noqa: SIM115  until the process ends

    def call(name: str, make: Callable[[], Any]) -> Any:
        stream.write(f"{name}\n")
        return make()

    return call


def _import_all() -> None:
    """Everything that a command may need, so that a fork begins at once; nothing that starts a thread of its own."""
    sys.modules["sklearn"] = None  # type: ignore[assignment]
    import tasks

    for found in pkgutil.walk_packages(tasks.__path__, "tasks."):
        if not found.name.startswith(("tasks.services", "tasks.__main__")):
            importlib.import_module(found.name)
    for name in ("tasks.__main__", "duckdb", "deltalake", "pyarrow.dataset", "pyarrow.parquet", "xgboost", "optuna"):
        importlib.import_module(name)
    for name in ("mlflow.pyfunc", "mlflow.xgboost", "great_expectations"):
        importlib.import_module(name)


def _run(request: dict[str, Any]) -> None:
    """In the fork: become the command."""
    for number, name in ((1, "out"), (2, "err")):
        os.dup2(os.open(request[name], os.O_WRONLY | os.O_CREAT | os.O_TRUNC), number)
    os.chdir(request["folder"])
    os.environ.clear()
    os.environ.update(request["environment"])
    if request["mutant"]:
        from tests.support import mutants

        mutants.apply(request["mutant"])
    if request["point"]:
        wrap(_dying(Point(**request["point"])))
    elif request["trace"]:
        wrap(_tracing(request["trace"]))
    from tasks.__main__ import main

    code = main(request["words"])
    sys.stdout.flush()
    os._exit(code)


def _serve() -> None:
    _import_all()
    for line in sys.stdin:
        pid = os.fork()
        if not pid:
            try:
                os.setsid()
                _run(json.loads(line))
            except BaseException as error:
                print(f"{type(error).__name__}: {error}", file=sys.stderr)
                os._exit(70)
        _, status = os.waitpid(pid, 0)
        print(os.waitstatus_to_exitcode(status), flush=True)


if __name__ == "__main__":
    _serve()
