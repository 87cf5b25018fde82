"""`millrace reproduce`: a version trained again from what it pinned, whatever the files say today."""

from __future__ import annotations

import json
from typing import Any

import pytest

from tasks.command.explain import reproduce_report
from tasks.command.maintain import maintain_named
from tasks.domain.run import RunRef
from tasks.errors import NotFoundError, ReproductionError
from tasks.lake.vacuum import vacuum
from tasks.reproduce import ReproduceResult, reproduce
from tasks.settings import load_pipeline
from tests.support.project import Project, with_settings
from tests.support.rows import later, replace_again

NAME = "late_orders"
DESCRIPTOR = f"{NAME}/versions/1.json"


def again(project: Project, version: int = 1) -> ReproduceResult:
    spec = load_pipeline(project.settings.config, NAME)
    return reproduce(spec=spec, version=version, lake=project.lake, settings=project.settings)


def edit(project: Project, old: str, new: str) -> None:
    file = project.settings.config / "pipelines" / NAME / "pipeline.yaml"
    assert old in file.read_text()
    file.write_text(file.read_text().replace(old, new))


def redescribe(project: Project, *without: str, **changes: Any) -> dict[str, Any]:
    values = json.loads(project.lake.objects.get(DESCRIPTOR))
    changed = {name: value for name, value in (values | changes).items() if name not in without}
    project.lake.objects.put(DESCRIPTOR, json.dumps(changed).encode())
    return values


def features(project: Project) -> str:
    view = json.loads(project.lake.objects.get(DESCRIPTOR))["view"]
    return f"{NAME}/features/{view}"


def test_a_version_is_trained_to_the_same_bytes_by_its_own_spec_and_the_lake_stays_as_it_was(champion: Project):
    edit(champion, "max_depth: 2", "max_depth: 4")
    edit(champion, "rounds: 5", "rounds: 9")
    edit(champion, "label: {sql: late,", "label: {sql: not late,")
    before = champion.objects()
    other = with_settings(champion, threads=1, workers=2)  # it is trained with the threads and workers of then
    found = again(other)
    assert (found.verdict, found.digest, found.differences) == ("same bytes", found.recorded, ()), found.reason
    assert found.comparison.largest == 0 and found.values[0] == found.values[1] > 0.5
    assert champion.objects() == before
    assert "verdict   same bytes" in reproduce_report(found)


def test_where_the_environment_differs_it_is_named_and_predictions_are_compared(champion: Project):
    recorded = json.loads(champion.lake.objects.get(DESCRIPTOR))["environment"]
    redescribe(champion, environment=recorded | {"lock": "0" * 64, "workers": 2})
    found = again(champion)
    assert found.verdict == "within tolerance" and "the bytes happen to be the same" in found.reason
    assert [one.name for one in found.differences] == ["lock", "workers"]
    assert "lock     000000000000" in reproduce_report(found)


def test_another_model_under_the_versions_digest_is_called_different(champion: Project):
    import xgboost

    booster = xgboost.Booster()
    booster.load_model(bytearray(champion.lake.get_model(redescribe(champion)["digest"])))
    redescribe(champion, digest=champion.lake.put_model(bytes(booster[0:1].save_raw("ubj"))))
    ended = champion.command("reproduce", NAME, "1", "--json")
    assert ended.code == 1, ended.err
    assert ended.json["verdict"] == "different" and ended.json["comparison"]["largest"] > 0.01
    assert "but the bytes are others" in ended.json["reason"]


def test_a_version_of_before_specs_were_recorded_is_trained_if_todays_gives_the_same_training(champion: Project):
    redescribe(champion, "spec", "environment", "params")
    found = again(champion)
    assert found.verdict == "within tolerance" and found.digest == found.recorded
    assert {"code", "lock", "threads", "workers"} <= {one.name for one in found.differences}
    assert {one.then for one in found.differences} == {None}
    edit(champion, "max_depth: 2", "max_depth: 4")
    with pytest.raises(ReproductionError, match="before specs were recorded, and today's gives another training"):
        again(champion)


def test_what_can_not_be_trained_again_is_told_before_anything_is_trained(champion: Project):
    with pytest.raises(NotFoundError, match="has no version 7 .its versions: 1"):
        again(champion, 7)
    recorded = redescribe(champion)["spec"]
    redescribe(champion, spec=recorded | {"train": recorded["train"] | {"seed": 1}})
    with pytest.raises(ReproductionError, match="spec and snapshots no longer give the training"):
        again(champion)
    redescribe(champion, spec=recorded | {"colour": "red"})
    with pytest.raises(ReproductionError, match="is none of this release: colour"):
        again(champion)


def test_maintenance_keeps_what_a_champion_was_trained_on_and_what_is_gone_is_named(champion: Project):
    name = features(champion)
    version = json.loads(champion.lake.objects.get(DESCRIPTOR))["inputs"][name]
    replaced = [replace_again(champion.table(name), (f"2024-01-{day}",)) for day in (20, 21)]
    request = {"run": RunRef("maintain"), "dry_run": False, "progress": lambda done, total: None}
    for days in (30, 60):
        tables = maintain_named(champion.settings, [NAME], now=later(days), **request).tables
        assert not any(one.problem for one in tables)
    assert again(champion).verdict == "same bytes"
    vacuum(champion.table(name), before=later(90))  # as for a version that is no champion's any more
    with pytest.raises(
        ReproductionError, match=f"{name}@{version} was in part replaced on .* and vacuumed since"
    ) as caught:
        again(champion)
    assert not caught.value.retry and champion.version(name) == max(replaced)
