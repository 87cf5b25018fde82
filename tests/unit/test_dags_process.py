"""A step's process: input and result, its log, and that nothing of it outlives its parent."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import threading
import time
from pathlib import Path

import psutil
import pytest
from millrace_airflow.process import StepProcess, tasks_command

from tasks.settings import REPOSITORY


def step(program: str, *arguments: str, log=lambda line: None, **environment: str) -> StepProcess:
    return StepProcess([sys.executable, "-c", program, *arguments], environment, log, grace=5)


def ended(pid: int, patience: float = 20) -> bool:
    """Whether a process is gone (or only waits to be reaped) within some seconds."""
    until = time.monotonic() + patience
    while time.monotonic() < until:
        try:
            if psutil.Process(pid).status() == psutil.STATUS_ZOMBIE:
                return True
        except psutil.NoSuchProcess:
            return True
        time.sleep(0.05)
    return False


def read_pid(file: Path, patience: float = 20) -> int:
    until = time.monotonic() + patience
    while not (file.exists() and file.read_text().strip()):
        assert time.monotonic() < until, f"{file} was not written"
        time.sleep(0.02)
    return int(file.read_text())


def test_the_last_line_is_the_result_and_input_comes_as_json():
    program = "import json, sys; given = json.load(sys.stdin); print('on the way'); print(json.dumps({'got': given}))"
    outcome = step(program).run({"pin": {"partitions": ["2013-11-05"]}})
    assert (outcome.code, outcome.result) == (0, {"got": {"pin": {"partitions": ["2013-11-05"]}}})


def test_a_step_of_the_past_stands_back_with_all_that_it_starts():
    # a thread or process that it starts later inherits it; before that it may run at the parent's for a moment
    program = "import os, subprocess, sys, time; time.sleep(1); print(subprocess.check_output(['nice'], text=True))"
    ours = os.getpriority(os.PRIO_PROCESS, 0)
    for nice in (0, 5):
        outcome = StepProcess([sys.executable, "-c", program], {}, lambda line: None, nice=nice).run()
        assert (outcome.code, outcome.result) == (0, min(19, ours + nice))


def test_each_line_of_the_log_arrives_while_the_step_works():
    seen: list[tuple[float, str]] = []
    program = "import sys, time\nfor n in range(2): print('line', n, file=sys.stderr, flush=True); time.sleep(0.5)"
    step(program, log=lambda line: seen.append((time.monotonic(), line))).run()
    assert [line for _, line in seen] == ["line 0", "line 1"]
    assert seen[1][0] - seen[0][0] > 0.3


def test_much_output_on_both_sides_does_not_block():
    program = "import sys; print('x' * 2**20, file=sys.stderr); print('y' * 2**20); print('{\"done\": true}')"
    assert step(program).run({"much": "z" * 2**21}).result == {"done": True}


def test_a_step_that_dies_without_a_word_has_no_result():
    assert step("import os; os._exit(3)").run() == step("import sys; sys.exit(3)").run()
    outcome = step("import os; os.kill(os.getpid(), 9)").run()
    assert (outcome.code, outcome.result) == (-9, None)
    assert step("print('not json')").run().result is None


def test_the_step_gets_its_identity_and_this_very_package():
    program = "import json, os, tasks; print(json.dumps([os.environ['MILLRACE_RUN_ID'], tasks.__file__]))"
    run_id, file = step(program, MILLRACE_RUN_ID="dag/run/task").run().result
    assert run_id == "dag/run/task"
    assert Path(file).parent == REPOSITORY / "tasks"


def test_what_a_step_leaves_behind_is_ended_with_it(tmp_path):
    program = (
        "import subprocess, sys; child = subprocess.Popen(['sleep', '600']);"
        "open(sys.argv[1], 'w').write(str(child.pid)); print('{}')"
    )
    began = time.monotonic()
    assert step(program, str(tmp_path / "pid")).run().code == 0
    assert time.monotonic() - began < 30
    assert ended(read_pid(tmp_path / "pid"))


def test_a_killed_task_ends_the_group_politely_then_by_force(tmp_path):
    program = (
        "import os, signal, sys, time; signal.signal(signal.SIGTERM, signal.SIG_IGN);"
        "open(sys.argv[1], 'w').write(str(os.getpid())); time.sleep(600)"
    )
    process = StepProcess([sys.executable, "-c", program, str(tmp_path / "pid")], {}, lambda line: None, grace=0.5)
    outcomes: list = []
    runner = threading.Thread(target=lambda: outcomes.append(process.run()))
    runner.start()
    read_pid(tmp_path / "pid")
    process.end()
    runner.join(20)
    assert outcomes[0].code == -signal.SIGKILL


def test_an_interrupted_task_leaves_no_process(tmp_path):
    class Timeout(BaseException):
        pass

    def log(line: str) -> None:
        raise Timeout

    program = (
        "import os, sys, time; open(sys.argv[1], 'w').write(str(os.getpid()));"
        "print('hello', file=sys.stderr, flush=True); time.sleep(600)"
    )
    with pytest.raises(Timeout):
        step(program, str(tmp_path / "pid"), log=log).run()
    assert ended(read_pid(tmp_path / "pid"))


def test_a_step_ends_when_its_parent_is_killed(tmp_path):
    # `feed` reads its arguments in the real command, so the lifeline watched is the project's own.
    waiting = f"import os, sys; sys.argv = ['millrace']; import tasks.__main__ as m, time; m._watch_lifeline(); open({str(tmp_path / 'pid')!r}, 'w').write(str(os.getpid())); time.sleep(600)"
    parent = (
        "import sys; from millrace_airflow.process import StepProcess;"
        f"StepProcess([sys.executable, '-c', {waiting!r}], {{}}, print).run()"
    )
    path = os.pathsep.join([str(REPOSITORY), str(REPOSITORY / "plugins")])
    task = subprocess.Popen([sys.executable, "-c", parent], env={**os.environ, "PYTHONPATH": path})
    pid = read_pid(tmp_path / "pid")
    task.kill()
    task.wait()
    assert ended(pid)


def test_the_command_of_a_step_is_the_millrace_command(tmp_path):
    home = {"MILLRACE_HOME": str(tmp_path)}
    outcome = StepProcess(
        tasks_command("run", "ingest", "nosuch", "2013-01-01", "--json"), home, lambda line: None
    ).run()
    assert outcome.code == 2
    assert outcome.result["error"]["type"] == "UsageError"
    assert json.dumps(outcome.result).count("nosuch") >= 1
