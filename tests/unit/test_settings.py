"""Configuration is read in one place; a wrong file is refused with the file, the key and the nearest name."""

import os
from pathlib import Path

import pytest

from tasks.errors import SpecError
from tasks.settings import (
    REPOSITORY,
    contract_file,
    features_sql,
    load_pipeline,
    load_settings,
    load_source,
    pipeline_names,
    source_names,
)

PIPELINE = """
pipeline: demo
grain: day
timezone: America/New_York
start: 2013-01-01
entity: [id]
as_of: start+4h
deadline: start+5h
lookback: 28d
sources:
  rows: {drives: true}
  truth: {uri: "{landing}/t/{partition}.parquet", available: end+3h, contract: t.json, columns: {id: string, x: float}}
label: {sql: "x > 15", source: truth, unlabelled: "x is null"}
train: {objective: binary:logistic}
gate: {metric: auc}
"""
SOURCE = """
grain: day
timezone: America/New_York
uri: "{landing}/s/{partition}.csv"
available: start-6h
contract: r.json
columns: {id: string, x: float}
"""


@pytest.fixture
def config(tmp_path) -> Path:
    for name, text in {
        "pipelines/demo/pipeline.yaml": PIPELINE,
        "pipelines/demo/features.sql": "SELECT 1",
        "pipelines/demo/t.json": "{}",
        "sources/rows/source.yaml": SOURCE,
        "sources/rows/r.json": "{}",
    }.items():
        file = tmp_path / "config" / name
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_text(text, encoding="utf-8")
    return tmp_path / "config"


def refusal(config: Path, old: str, new: str, name: str = "pipelines/demo/pipeline.yaml") -> str:
    """What is said after `old` was replaced by `new`, without the folder."""
    file = config / name
    text = file.read_text(encoding="utf-8")
    assert old in text
    file.write_text(text.replace(old, new), encoding="utf-8")
    with pytest.raises(SpecError) as caught:
        load_pipeline(config, "demo")
    return str(caught.value).replace(f"{config}/", "")


@pytest.mark.parametrize("where", ["s4://bucket/lake", "file:///lake", "s3:/bucket"])
def test_another_kind_of_storage_than_a_folder_or_s3_is_refused(where):
    with pytest.raises(SpecError, match="lake: expected a folder or s3://bucket/prefix, found"):
        load_settings({"MILLRACE_LAKE": where})


def test_a_configuration_that_is_not_there_is_refused(tmp_path):
    with pytest.raises(SpecError, match="MILLRACE_CONFIG: there is no folder .*/nosuch"):
        load_settings({"MILLRACE_CONFIG": str(tmp_path / "nosuch")})


def test_a_pipeline_is_read_with_its_own_and_its_shared_sources(config):
    spec = load_pipeline(config, "demo")
    assert spec.driver.name == "rows" and spec.driver.grain == "day"
    # a source written inside a pipeline takes over its grain, zone and first day
    truth = spec.sources["truth"].source
    assert (truth.grain, truth.timezone, truth.start) == ("day", "America/New_York", spec.start)
    assert load_source(config, "truth") == truth and load_source(config, "rows") == spec.driver
    assert features_sql(config, spec) == "SELECT 1"
    assert (source_names(config), pipeline_names(config)) == (["rows"], ["demo"])


def test_a_contract_lies_beside_the_spec_that_names_it(config):
    spec = load_pipeline(config, "demo")
    assert contract_file(config, spec.driver) == config / "sources/rows/r.json"
    assert contract_file(config, spec.sources["truth"].source) == config / "pipelines/demo/t.json"
    assert contract_file(config, spec.driver.model_copy(update={"contract": None})) is None
    for outside in ("nosuch.json", "../../pipelines/demo/t.json"):
        with pytest.raises(SpecError, match="there is no file"):
            contract_file(config, spec.driver.model_copy(update={"contract": outside}))


@pytest.mark.parametrize(
    ("old", "new", "said"),
    [
        ("lookback:", "lokback:", "pipelines/demo/pipeline.yaml: lokback: unknown key; did you mean 'lookback'?"),
        ("  rows: {", "  rosw: {", "sources.rosw: expected a source written here"),
        ("  rows: {", "  rosw: {", "did you mean 'rows'?"),
        ("available: end+3h", "availabel: end", "sources.truth.availabel: unknown key; did you mean 'available'?"),
        ("drives: true", "drivs: true", "sources.rows.drivs: unknown key; did you mean 'drives'?"),
        ("{metric: auc}", "{metric: auk}", "gate.metric: input should be"),
        ("{metric: auc}", "{metric: auk}", "found 'auk'; did you mean 'auc'?"),
        ("{metric: auc}", "{metric: auc, guard: []}", "gate.guard: unknown key; did you mean 'guards'?"),
        (
            "{metric: auc}",
            "{metric: auc, guards: [{slice: id, max_dorp: 0.02}]}",
            "gate.guards.0.max_dorp: unknown key; did you mean 'max_drop'?",
        ),
        (
            "{metric: auc}",
            "{metric: auc, limits: {modl_mb: 3}}",
            "gate.limits.modl_mb: unknown key; did you mean 'model_mb'?",
        ),
        (
            "{metric: auc}",
            "{metric: auc, guards: [{slice: di, max_drop: 0.02}]}",
            "gate.guards: expected a column of source 'rows' with values to slice by (id), found 'di'",
        ),
        ("{metric: auc}", "{metric: auc, approve: manuall}", "gate.approve: input should be"),
        ("{metric: auc}", "{metric: auc, approve: manuall}", "did you mean 'manual'?"),
        ("{objective:", "{objectiv:", "train.objectiv: unknown key; did you mean 'objective'?"),
        ("{objective:", "{zzz: 1, objective:", "train.zzz: unknown key; expected one of checkpoint, every, gpus,"),
        ("grain: day", "grain: dya", "pipelines/demo/pipeline.yaml: grain: input should be"),
        ("grain: day", "grain: dya", "did you mean 'day'?"),
        (
            "timezone: America/New_York",
            "timezone: America/NewYork",
            "yaml: timezone: 'America/NewYork' is no time zone",
        ),
        ("as_of: start+4h", "as_of: strt+4h", "as_of: 'strt+4h' is no moment of a partition; expected for instance"),
        ("lookback: 28d", "lookback: 28", "lookback: 28 is no length of time; expected for instance 28d"),
        ("entity: [id]", "entity: id", "entity: expected a list of columns such as [flight_id], found 'id'"),
        ("deadline: start+5h", "", "deadline: missing"),
        ("sources:", "sources: []\nx:", "sources: input should be a valid dictionary"),
        ("rows: {drives: true}", "rows: {drives: true, uri: x}", "sources.rows.uri: 'rows' is a shared source"),
        ("rows: {drives: true}", "rows: 3", "sources.rows: expected a mapping such as {drives: true}, found 3"),
        ("rows: {drives: true}", "rows:", "sources: expected exactly one with drives: true, found none"),
        ("pipeline: demo", "pipeline: other", "pipeline: expected 'demo', the folder's name, found 'other'"),
        ("entity:", "features: ../x.sql\nentity:", "features: there is no file '../x.sql' beside it"),
        ("grain: day", "grain: day\ngrain: week", "line 4, column 1 is not YAML: the key 'grain' stands twice"),
        ("entity: [id]", "entity: [id", "is not YAML"),
        (PIPELINE, "- a list", "expected keys and values, found list"),
        ("columns: {id: string", "columns: {id: strng", "sources.truth.columns.id: input should be"),
        (
            "objective: binary:logistic",
            "objective: binary:logistic, search: {trails: 5, space: {eta: [0.1, 0.2]}}",
            "train.search.trails: unknown key; did you mean 'trials'?",
        ),
        (
            "objective: binary:logistic",
            "objective: binary:logistic, search: {trials: 5, space: {eta: [0.3, 0.2]}}",
            "train.search.space.eta: expected a range from its lowest to its highest value, found [0.3, 0.2]",
        ),
    ],
)
def test_a_wrong_pipeline_is_refused_by_file_key_and_nearest_name(config, old, new, said):
    text = refusal(config, old, new)
    assert said in text
    assert "pipelines/demo/pipeline.yaml" in text and "\n" not in text


def test_a_wrong_shared_source_is_refused_in_its_own_file(config):
    text = refusal(config, "available:", "availble:", "sources/rows/source.yaml")
    assert text == "sources/rows/source.yaml: availble: unknown key; did you mean 'available'?"


def test_unreadable_text_is_refused_by_name(config):
    (config / "sources/rows/source.yaml").write_bytes(b"grain: \xff")
    with pytest.raises(SpecError, match="source.yaml: can't be read"):
        load_source(config, "rows")


def test_a_name_that_is_not_there_gets_the_nearest(config):
    with pytest.raises(SpecError, match=r"no pipeline 'dmeo'.*did you mean 'demo'"):
        load_pipeline(config, "dmeo")
    with pytest.raises(SpecError, match=r"no source 'row' .*did you mean 'rows'"):
        load_source(config, "row")
    with pytest.raises(SpecError, match=r"no source 'xyz' .*known: rows"):
        load_source(config, "xyz")


def test_a_changed_file_is_read_again(config):
    assert load_pipeline(config, "demo").lookback.days == 28
    file = config / "pipelines/demo/pipeline.yaml"
    file.write_text(PIPELINE.replace("lookback: 28d", "lookback: 7d"), encoding="utf-8")
    assert load_pipeline(config, "demo").lookback.days == 7


def test_settings_have_embedded_defaults_below_one_home(tmp_path):
    settings = load_settings({"MILLRACE_HOME": str(tmp_path / "home"), "MILLRACE_CONFIG": str(tmp_path)})
    assert settings.lake_uri == str(tmp_path / "home/lake")
    assert settings.landing_uri == str(tmp_path / "home/landing")
    assert (settings.environment, settings.mlflow, settings.database) == ("embedded", None, None)


def test_the_default_home_and_config_lie_in_the_repository():
    settings = load_settings({})
    assert (settings.home, settings.config) == (REPOSITORY / ".millrace", REPOSITORY / "config")


def test_the_environment_overrides_files_and_files_override_defaults(tmp_path):
    (tmp_path / "settings.yaml").write_text("workers: 2\nthreads: 3\npoll: 0.5\n")
    (tmp_path / "settings.prod.yaml").write_text("threads: 4\nlake: s3://bucket/lake\n")
    base = {"MILLRACE_CONFIG": str(tmp_path)}
    assert load_settings(base).threads == 3
    settings = load_settings({**base, "MILLRACE_ENVIRONMENT": "prod", "MILLRACE_POLL": "1.5", "MILLRACE_THREADS": ""})
    assert (settings.workers, settings.threads, settings.poll, settings.environment) == (2, 4, 1.5, "prod")
    assert settings.lake_uri == "s3://bucket/lake"


def test_an_environment_without_settings_is_refused_not_taken_for_the_embedded_one(tmp_path):
    (tmp_path / "settings.production.yaml").write_text("threads: 4\n")
    with pytest.raises(SpecError, match=r"settings.prodution.yaml .did you mean 'production'"):
        load_settings({"MILLRACE_CONFIG": str(tmp_path), "MILLRACE_ENVIRONMENT": "prodution"})


def test_folders_become_absolute_and_uris_stay(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    settings = load_settings({"MILLRACE_LAKE": "some/lake", "MILLRACE_LANDING": "s3://landing", "MILLRACE_HOME": "h"})
    assert settings.lake_uri == str(tmp_path / "some/lake")
    assert settings.landing_uri == "s3://landing"
    assert settings.home == tmp_path / "h"


def test_pools_are_given_as_a_mapping_and_the_others_keep_their_sizes(tmp_path):
    others = {"ingest": 2, "train": 1, "score": 4, "backfill": max(1, os.cpu_count() - 1)}
    assert load_settings({"MILLRACE_POOLS": "{gpu: 2}"}).pools == {**others, "gpu": 2}
    assert load_settings({}).pools == {**others, "gpu": 1}
    for wrong in ("{gpu: ", "gpu", "{gpu: many}"):
        with pytest.raises(SpecError, match="(?i)pools"):
            load_settings({"MILLRACE_POOLS": wrong})


def test_wrong_settings_are_refused_by_file_or_variable(tmp_path):
    file = tmp_path / "settings.yaml"
    file.write_text("worker: 2\n")
    with pytest.raises(SpecError, match=r"settings.yaml: worker: unknown key; did you mean 'workers'\?"):
        load_settings({"MILLRACE_CONFIG": str(tmp_path)})
    file.write_text("workers: 0\n")
    with pytest.raises(SpecError, match=r"settings.yaml: workers: input should be greater than or equal to 1, found 0"):
        load_settings({"MILLRACE_CONFIG": str(tmp_path)})
    file.unlink()
    with pytest.raises(SpecError, match=r"the environment .MILLRACE_….: workers: .*found 'two'"):
        load_settings({"MILLRACE_WORKERS": "two", "MILLRACE_CONFIG": str(tmp_path)})


def test_an_encrypted_scheduler_needs_all_three_files_and_they_need_it(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    given = {"MILLRACE_CONFIG": str(tmp_path), "MILLRACE_DASK_TLS_CA": "ca.pem", "MILLRACE_DASK_TLS_CERT": "m.pem"}
    with pytest.raises(SpecError, match="dask_tls_ca: expected a dask_scheduler at tls://, found none"):
        load_settings(given)
    given["MILLRACE_DASK_SCHEDULER"] = "tls://dask:8786"
    with pytest.raises(SpecError, match=r"dask_tls_key: missing.*MILLRACE_DASK_TLS_KEY"):
        load_settings(given)
    settings = load_settings(given | {"MILLRACE_DASK_TLS_KEY": "m.key"})
    assert settings.dask_tls_key == tmp_path / "m.key"
