"""Scratch folders of trainings: a living process keeps its own, a killed one's goes with the next."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

from tasks.compute.scratch import scratch

HOLD = (
    "import sys, time; from pathlib import Path; from tasks.compute.scratch import scratch\n"
    "with scratch(Path(sys.argv[1])) as folder:\n"
    "    (folder / 'rows').write_text('x'); print(folder, flush=True); time.sleep(60)"
)


def test_a_folder_is_gone_at_the_end_also_of_a_block_that_fails(tmp_path: Path):
    try:
        with scratch(tmp_path / "train") as folder:
            (folder / "rows").write_text("x")
            raise RuntimeError("on purpose")
    except RuntimeError:
        pass
    assert not list((tmp_path / "train").iterdir())


def test_a_killed_process_leaves_a_folder_only_until_the_next_one_and_a_living_one_keeps_its_own(tmp_path: Path):
    started = [
        subprocess.Popen([sys.executable, "-c", HOLD, str(tmp_path / "train")], stdout=subprocess.PIPE, text=True)
        for _ in range(2)
    ]
    killed, living = (Path(process.stdout.readline().strip()) for process in started)
    started[0].kill()
    started[0].communicate()
    assert (killed / "rows").exists()
    with scratch(tmp_path / "train") as folder:
        assert {path.name for path in (tmp_path / "train").iterdir()} == {folder.name, living.name}
        assert (living / "rows").exists()
    started[1].kill()
    started[1].communicate()


def test_a_folder_whose_process_died_before_it_had_a_lock_is_swept(tmp_path: Path):
    (tmp_path / "train" / "half").mkdir(parents=True)
    with scratch(tmp_path / "train") as folder:
        assert [path.name for path in (tmp_path / "train").iterdir()] == [folder.name]
