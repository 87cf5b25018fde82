"""What a training's environment is known by."""

from pathlib import Path

from tasks.compute.same import _commit, environment

COMMIT = "0123456789abcdef0123456789abcdef01234567"


def test_the_commit_is_read_from_gits_own_files_however_it_keeps_them(tmp_path: Path):
    git = tmp_path / ".git"
    assert _commit(git) is None
    (git / "refs" / "heads").mkdir(parents=True)
    (git / "HEAD").write_text("ref: refs/heads/main\n")
    assert _commit(git) is None  # nothing was committed yet
    (git / "packed-refs").write_text(
        f"# pack-refs with: peeled\n{'f' * 40} refs/heads/main2\n{COMMIT} refs/heads/main\n"
    )
    assert _commit(git) == COMMIT
    (git / "refs" / "heads" / "main").write_text(f"{'a' * 40}\n")
    assert _commit(git) == "a" * 40
    tree = git / "worktrees" / "other"
    tree.mkdir(parents=True)
    (tree / "HEAD").write_text("ref: refs/heads/main\n")
    (tree / "commondir").write_text("../..\n")
    pointer = tmp_path / "other"
    pointer.write_text(f"gitdir: {tree}\n")
    assert _commit(pointer) == "a" * 40
    (git / "HEAD").write_text(f"{COMMIT}\n")
    assert _commit(git) == COMMIT


def test_the_environment_names_code_lock_and_library():
    found = environment()
    assert len(found["code"]) == len(found["lock"]) == 64 and found["xgboost"].startswith("3.")
    assert set(found) == {"code", "commit", "lock", "python", "machine", "xgboost"}
