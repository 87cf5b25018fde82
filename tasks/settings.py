"""The only reader of `config/` and of the environment.

Settings come from `config/settings.yaml`, then `config/settings.<environment>.yaml`, then
`MILLRACE_<NAME>` variables; unknown keys are refused. Secrets are never settings: S3 keys come
from boto3's own chain (AWS_ACCESS_KEY_ID …), passwords from the URLs given in the environment.
"""

from __future__ import annotations

import difflib
import os
import re
from collections.abc import Mapping
from functools import lru_cache
from pathlib import Path
from typing import Any, get_args

import yaml
from pydantic import BaseModel, ConfigDict, Field, ValidationError

from tasks.domain.source import SourceSpec
from tasks.domain.spec import PipelineSpec, SourceUse
from tasks.errors import SpecError

REPOSITORY = Path(__file__).resolve().parent.parent
_USE_KEYS = {"drives"}
_TLS = ("dask_tls_ca", "dask_tls_cert", "dask_tls_key")


class Settings(BaseModel):
    """Where things are and how much of the machine may be used."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    environment: str = "embedded"
    """Name of the environment; chooses `settings.<environment>.yaml`."""
    home: Path = REPOSITORY / ".millrace"
    """The one folder under which everything is written."""
    config: Path = REPOSITORY / "config"
    """The folder with pipelines/ and sources/."""
    lake: str = ""
    """Root of the lake: a folder or s3://bucket/prefix; empty for `<home>/lake`."""
    landing: str = ""
    """Root of the landing zone, {landing} in a source's uri; empty for `<home>/landing`."""
    database: str | None = None
    """URL of an outside PostgreSQL server for Airflow (database airflow); None for the embedded one."""
    mlflow: str | None = None
    """URL of an outside MLflow server; None for the embedded one."""
    mlflow_database: str | None = None
    """URL of an outside PostgreSQL database for the embedded MLflow; None for the embedded one."""
    dask_scheduler: str | None = None
    """Address of an outside Dask scheduler, for instance tcp://host:8786; None for a local cluster."""
    dask_tls_ca: Path | None = None
    """Certificate of the authority to trust, in PEM format, where the scheduler is at tls://."""
    dask_tls_cert: Path | None = None
    """Certificate that is shown to the scheduler."""
    dask_tls_key: Path | None = None
    """Private key of that certificate."""
    s3_endpoint: str | None = None
    """Endpoint of an S3 server other than AWS."""
    s3_region: str = "us-east-1"
    """Region of the buckets."""
    s3_timeout: float = Field(60, gt=0)
    """Seconds for which an S3 server may stay silent, or for one request of a Delta table, before it is tried again."""
    workers: int = Field(1, ge=1)
    """Dask workers of a local CPU cluster."""
    threads: int = Field(default_factory=lambda: os.cpu_count() or 1, ge=1)
    """Threads of all workers together."""
    memory_limit: str = "auto"
    """Memory limit of a Dask worker, in Dask's spelling."""
    train_attempts: int = Field(4, ge=1)
    """How often a training that was lost or hung is gone on with before its step fails."""
    train_stall: float = Field(60.0, gt=0)
    """Seconds beyond three times its median round after which a silent training counts as hung."""
    gpu_patience: float = Field(3600.0, ge=0)
    """Seconds to wait for a GPU that another training holds."""
    gpu_pool: float = Field(0.5, ge=0, le=0.9)
    """Share of a GPU's memory with which RMM's pool begins in a local CUDA cluster; only where XGBoost takes from it."""
    gpu_memory_limit: float = Field(0.8, ge=0, le=1)
    """Share of a GPU's memory that Dask may hold in a local CUDA cluster before it moves some to the host; 0 for no limit."""
    cpu_hour_price: float | None = Field(None, ge=0)
    """Price of one thread for an hour, for the cost of a training; None leaves cost out."""
    gpu_hour_price: float | None = Field(None, ge=0)
    """Price of one GPU for an hour."""
    score_batch_rows: int = Field(65_536, ge=1)
    """Rows that scoring reads, predicts and writes at a time: its memory follows them, not a partition's size."""
    feature_rows: int = Field(10_000_000, ge=1)
    """Rows of the sources that feature SQL holds at a time: a long range is computed in groups that need no more."""
    history_days: float = Field(7.0, ge=1)
    """Days for which `maintain` keeps the data files of a table's earlier versions; every run must be shorter."""
    file_bytes: int = Field(134_217_728, ge=1_048_576)
    """Bytes of a data file from which on a compaction begins another."""
    airflow_parallelism: int = Field(8, ge=1)
    """Airflow task instances at a time."""
    pools: dict[str, int] = Field(default_factory=lambda: _pools())
    """Slots of Airflow's pools; what is left out keeps its default."""
    patience: int = Field(1800, ge=0)
    """Seconds that a step waits for late inputs when its deadline has already passed, as in a backfill."""
    poll: float = Field(2.0, gt=0)
    """Seconds between two looks at the landing zone or the lake while waiting."""

    @property
    def lake_uri(self) -> str:
        return self.lake or str(self.home / "lake")

    @property
    def landing_uri(self) -> str:
        return self.landing or str(self.home / "landing")


def load_settings(environ: Mapping[str, str] | None = None) -> Settings:
    """The settings of this process.

    Raises:
        SpecError: an unknown key or a wrong value, naming the file or the variable.
    """
    environ = os.environ if environ is None else environ
    config = Path(environ.get("MILLRACE_CONFIG") or REPOSITORY / "config").resolve()
    if not config.is_dir():
        raise SpecError(f"MILLRACE_CONFIG: there is no folder {config}")
    environment = environ.get("MILLRACE_ENVIRONMENT") or "embedded"
    values: dict[str, Any] = {}
    if environment != "embedded" and not (config / f"settings.{environment}.yaml").exists():
        known = ["embedded", *sorted(file.name.split(".")[1] for file in config.glob("settings.*.yaml"))]
        raise SpecError(
            f"MILLRACE_ENVIRONMENT: there is no {config / f'settings.{environment}.yaml'}",
            hint=_nearest(environment, known) or f"known: {', '.join(known)}",
        )
    for file in (config / "settings.yaml", config / f"settings.{environment}.yaml"):
        if file.exists():
            part = _read_yaml(file)
            _checked(Settings, {**part}, file)
            values.update(part)
    for name in Settings.model_fields:
        text = environ.get(f"MILLRACE_{name.upper()}")
        if text:
            values[name] = _mapping_of(name, text) if name == "pools" else text
    values |= {"environment": environment, "config": config}
    settings = _checked(Settings, values, "the environment (MILLRACE_…)")
    _check_tls(settings)
    resolved: dict[str, Any] = {"home": settings.home.expanduser().resolve(), "pools": _pools() | settings.pools}
    for name in ("lake", "landing"):
        value = getattr(settings, name)
        if value and not value.startswith("s3://"):
            if re.match(r"[A-Za-z][A-Za-z0-9+.-]*:/", value):
                raise SpecError(f"{name}: expected a folder or s3://bucket/prefix, found {value!r}")
            resolved[name] = str(Path(value).expanduser().resolve())
    for name in _TLS:
        if getattr(settings, name) is not None:
            resolved[name] = getattr(settings, name).expanduser().resolve()
    return settings.model_copy(update=resolved)


def _pools() -> dict[str, int]:
    # a backfill leaves one processor to what is due today; the pool gpu has a slot for each device that the driver shows
    gpus = len(list(Path("/dev").glob("nvidia[0-9]*")))
    return {"ingest": 2, "train": 1, "score": 4, "gpu": max(1, gpus), "backfill": max(1, (os.cpu_count() or 1) - 1)}


def _check_tls(settings: Settings) -> None:
    given = [name for name in _TLS if getattr(settings, name) is not None]
    encrypted = (settings.dask_scheduler or "").startswith("tls://")
    if encrypted and len(given) < len(_TLS):
        missing = [name for name in _TLS if name not in given]
        raise SpecError(
            f"{missing[0]}: missing, and {settings.dask_scheduler} needs {', '.join(_TLS)}",
            hint="set it in settings.yaml or as MILLRACE_" + missing[0].upper(),
        )
    if given and not encrypted:
        raise SpecError(
            f"{given[0]}: expected a dask_scheduler at tls://, found {settings.dask_scheduler or 'none'}",
            hint="set dask_scheduler to tls://host:port, or leave the dask_tls_ settings out",
        )


def _mapping_of(name: str, text: str) -> Any:
    try:
        return yaml.safe_load(text)
    except yaml.YAMLError as error:
        raise SpecError(f"MILLRACE_{name.upper()}: expected a mapping such as {{gpu: 1}}, found {text!r}") from error


def source_names(config: Path) -> list[str]:
    """Names of the shared sources, without reading them."""
    return sorted(file.parent.name for file in (config / "sources").glob("*/source.yaml"))


def pipeline_names(config: Path) -> list[str]:
    """Names of the pipelines' folders, without reading them."""
    return sorted(file.parent.name for file in (config / "pipelines").glob("*/pipeline.yaml"))


def load_source(config: Path, name: str) -> SourceSpec:
    """The source of a name: shared in `config/sources/`, or written inside a pipeline."""
    file = config / "sources" / name / "source.yaml"
    if file.exists():
        return _source(file, name, _read_yaml(file))
    for pipeline in pipeline_names(config):
        raw = _read_yaml(config / "pipelines" / pipeline / "pipeline.yaml")
        uses = raw.get("sources")
        if isinstance(uses, dict) and isinstance(uses.get(name), dict) and set(uses[name]) - _USE_KEYS:
            return load_pipeline(config, pipeline).sources[name].source
    known = source_names(config)
    raise SpecError(
        f"there is no source {name!r} in {config}", hint=_nearest(name, known) or f"known: {', '.join(known)}"
    )


def load_pipeline(config: Path, name: str) -> PipelineSpec:
    """The pipeline of a name.

    Raises:
        SpecError: names the file, the key, what was expected and the nearest valid name.
    """
    file = config / "pipelines" / name / "pipeline.yaml"
    if not file.exists():
        known = pipeline_names(config)
        raise SpecError(
            f"there is no pipeline {name!r} in {config / 'pipelines'}",
            hint=_nearest(name, known) or f"known: {', '.join(known)}",
        )
    values = _read_yaml(file)
    uses = values.get("sources")
    if isinstance(uses, dict):
        values["sources"] = {key: _use(config, file, values, key, use) for key, use in uses.items()}
    spec = _checked(PipelineSpec, values, file)
    if spec.pipeline != name:
        raise SpecError(f"{file}: pipeline: expected {name!r}, the folder's name, found {spec.pipeline!r}")
    sql = file.parent / spec.features
    if not _inside(sql, file.parent) or not sql.is_file():
        raise SpecError(f"{file}: features: there is no file {spec.features!r} beside it")
    for name in spec.rollups:
        if not rollup_file(config, spec, name).is_file():
            raise SpecError(f"{file}: rollups.{name}: there is no file 'rollups/{name}.sql' beside it")
    return spec


def features_sql(config: Path, spec: PipelineSpec) -> str:
    """The text of a pipeline's feature SQL."""
    return (config / "pipelines" / spec.pipeline / spec.features).read_text(encoding="utf-8")


def rollup_file(config: Path, spec: PipelineSpec, name: str) -> Path:
    """The file with the SQL of one of a pipeline's rollups."""
    return config / "pipelines" / spec.pipeline / "rollups" / f"{name}.sql"


def rollups_sql(config: Path, spec: PipelineSpec) -> dict[str, str]:
    """The texts of a pipeline's rollups, by name."""
    return {name: rollup_file(config, spec, name).read_text(encoding="utf-8") for name in spec.rollups}


def contract_file(config: Path, source: SourceSpec) -> Path | None:
    """The file of a source's expectation suite: beside `source.yaml`, or in the pipeline's folder."""
    if source.contract is None:
        return None
    folders = [config / "sources" / source.name]
    if not (folders[0] / "source.yaml").exists():
        folders = [config / "pipelines" / name for name in pipeline_names(config)]
    for folder in folders:
        if (folder / source.contract).is_file() and _inside(folder / source.contract, folder):
            return folder / source.contract
    raise SpecError(f"source {source.name!r}: contract: there is no file {source.contract!r} in {folders[0]}")


def _use(config: Path, file: Path, pipeline: dict, name: str, use: Any) -> SourceUse:
    use = {} if use is None else use
    if not isinstance(use, dict):
        raise SpecError(f"{file}: sources.{name}: expected a mapping such as {{drives: true}}, found {use!r}")
    own = {key: value for key, value in use.items() if key not in _USE_KEYS}
    shared = config / "sources" / str(name) / "source.yaml"
    for key in own if shared.exists() else ():
        if near := _nearest(str(key), list(_USE_KEYS)):
            raise SpecError(f"{file}: sources.{name}.{key}: unknown key; {near}")
    if own and shared.exists():
        raise SpecError(
            f"{file}: sources.{name}.{next(iter(own))}: {name!r} is a shared source",
            hint=f"change {shared}, or give this one another name",
        )
    if own:
        defaults = {key: pipeline[key] for key in ("grain", "timezone", "start", "end") if key in pipeline}
        inherited = tuple(set(defaults) - set(own))
        source = _source(file, name, {**defaults, **own}, at=f"sources.{name}.", inherited=inherited)
    elif shared.exists():
        source = _source(shared, name, _read_yaml(shared))
    else:
        known = source_names(config)
        raise SpecError(
            f"{file}: sources.{name}: expected a source written here (uri, columns, …) or one of config/sources/",
            hint=_nearest(str(name), known) or f"shared sources: {', '.join(known) or 'none'}",
        )
    return _checked(
        SourceUse, {"source": source, **{k: v for k, v in use.items() if k in _USE_KEYS}}, file, at=f"sources.{name}."
    )


def _source(file: Path, name: str, values: dict, *, at: str = "", inherited: tuple[str, ...] = ()) -> SourceSpec:
    if values.get("name", name) != name:
        raise SpecError(f"{file}: {at}name: expected {name!r}, found {values['name']!r}")
    return _checked(SourceSpec, {"name": name, **values}, file, at=at, inherited=inherited)


def _inside(path: Path, folder: Path) -> bool:
    return path.resolve().is_relative_to(folder.resolve())


def _read_yaml(file: Path) -> dict:
    try:
        stamp = file.stat()
        value = _parse_yaml(str(file), stamp.st_mtime_ns, stamp.st_size)
    except yaml.YAMLError as error:
        mark = getattr(error, "problem_mark", None)
        where = f" line {mark.line + 1}, column {mark.column + 1}" if mark else ""
        raise SpecError(f"{file}:{where} is not YAML: {getattr(error, 'problem', None) or error}") from error
    except (OSError, UnicodeDecodeError) as error:
        raise SpecError(f"{file}: can't be read: {error}") from error
    except (ValueError, TypeError, OverflowError) as error:  # a date that no calendar has, a list as a key
        raise SpecError(
            f"{file}: a value can't be read: {error}", hint="is each date a day of the calendar?"
        ) from error
    if not isinstance(value, dict):
        raise SpecError(f"{file}: expected keys and values, found {type(value).__name__}")
    return dict(value)


class _Loader(getattr(yaml, "CSafeLoader", yaml.SafeLoader)):
    """YAML without duplicate keys."""


def _mapping(loader: _Loader, node: yaml.MappingNode) -> dict:
    seen = set()
    for key, _ in node.value:
        if key.value in seen:
            raise yaml.constructor.ConstructorError(None, None, f"the key {key.value!r} stands twice", key.start_mark)
        seen.add(key.value)
    return loader.construct_mapping(node, deep=True)


_Loader.add_constructor(yaml.resolver.BaseResolver.DEFAULT_MAPPING_TAG, _mapping)


@lru_cache(maxsize=512)
def _parse_yaml(file: str, stamp: int, size: int) -> Any:
    return yaml.load(Path(file).read_text(encoding="utf-8"), Loader=_Loader)  # noqa: S506 - a safe loader


def _checked(
    kind: type[BaseModel], values: dict, file: Path | str, *, at: str = "", inherited: tuple[str, ...] = ()
) -> Any:
    try:
        return kind(**values) if all(isinstance(key, str) for key in values) else kind.model_validate(values)
    except ValidationError as error:
        # a key that a source takes over from its pipeline is wrong where it is written
        problems = [
            _explain(kind, problem, file, "" if problem["loc"] and problem["loc"][0] in inherited else at)
            for problem in error.errors()[:3]
        ]
        raise SpecError("; ".join(problems)) from error
    except OverflowError as error:
        raise SpecError(f"{file}: {at}a moment or length of time is out of reach: {error}") from error


def _explain(kind: type[BaseModel], problem: Mapping[str, Any], file: Path | str, at: str) -> str:
    path = [str(part) for part in problem["loc"]]
    key = at + ".".join(path)
    if problem["type"] == "extra_forbidden":
        names = _fields(kind, path[:-1])
        near = _nearest(path[-1], names)
        return f"{file}: {key}: unknown key; {near or 'expected one of ' + ', '.join(names)}"
    if problem["type"] == "missing":
        return f"{file}: {key}: missing"
    message = problem["msg"].removeprefix("Value error, ")
    if problem["type"] == "value_error" and not path:
        return f"{file}: {at}{message}"
    found = problem.get("input")
    text = f", found {found!r}" if isinstance(found, str | int | float | bool) and repr(found) not in message else ""
    if problem["type"] == "literal_error" and isinstance(found, str):
        expected = [part.strip("' ") for part in str(problem["ctx"]["expected"]).replace(" or ", ", ").split(",")]
        near = _nearest(found, expected)
        text += f"; {near}" if near else ""
    return f"{file}: {key}: {message[0].lower()}{message[1:]}{text}"


def _fields(kind: type[BaseModel], path: list[str]) -> list[str]:
    for part in path:
        field = kind.model_fields.get(part)
        kinds = (
            (field.annotation, *get_args(field.annotation)) if field else ()
        )  # one that may be left out is `X | None`
        inner = [one for one in kinds if isinstance(one, type) and issubclass(one, BaseModel)]
        if not inner:
            break
        kind = inner[0]
    return sorted(kind.model_fields)


def _nearest(name: str, known: list[str]) -> str:
    match = difflib.get_close_matches(name, known, n=1, cutoff=0.6)
    return f"did you mean {match[0]!r}?" if match else ""
