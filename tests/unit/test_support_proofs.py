"""What `make proof` keeps, writes, and calls out of date."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.support import proofs
from tests.support.proofs import Proof, digest, stale, write_section

TEXT = "before\n<!-- faults:begin -->\nNot run yet.\n<!-- faults:end -->\nafter\n"


@pytest.fixture
def file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setattr(proofs, "FILE", tmp_path / "reliability.md")
    monkeypatch.setattr(proofs, "KEPT", tmp_path / "kept")
    monkeypatch.setattr(proofs, "CODE", {"faults": ("lake/*.py",)})
    (tmp_path / "reliability.md").write_text(TEXT)
    return tmp_path / "reliability.md"


def numbers() -> Proof:
    return Proof("faults", ("a", "b"), lambda found: (["n"], [[str(sum(one["n"] for one in found))]]))


def test_a_table_is_written_when_each_case_is_there_and_a_run_goes_on_where_one_was_cut_off(file: Path):
    numbers().add("a", n=1)
    assert file.read_text() == TEXT
    with pytest.raises(pytest.skip.Exception, match="ended well at"):
        numbers().skip_kept("a")
    numbers().skip_kept("b")
    numbers().add("b", n=2)
    text = file.read_text()
    assert text.startswith("before\n<!-- faults:begin -->\n20") and "\n| n |\n| --- |\n| 3 |\n<!--" in text
    assert text.endswith("<!-- faults:end -->\nafter\n") and "Not run yet" not in text


def test_what_is_kept_is_of_one_code(file: Path, monkeypatch: pytest.MonkeyPatch):
    numbers().add("a", n=1)
    monkeypatch.setattr(proofs, "code", lambda: "other")
    numbers().skip_kept("a")


def test_a_proof_is_out_of_date_when_what_writes_has_changed(file: Path, monkeypatch: pytest.MonkeyPatch):
    assert stale() == ["faults"]
    write_section("faults", ["n"], [["1"]])
    assert stale() == []
    monkeypatch.setattr(proofs, "proved", lambda section: [])
    assert stale() == ["faults"]


def test_comments_docstrings_and_layout_are_no_change(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(proofs, "ROOT", tmp_path)
    file, seen = tmp_path / "verb.py", set()
    for text in ('"""One."""\ndef verb(): return 1', "def verb():\n    '''Two.'''\n    return 1  # three"):
        file.write_text(text)
        seen.add(digest([file]))
    assert len(seen) == 1
    file.write_text("def verb(): return 2")
    assert digest([file]) not in seen
