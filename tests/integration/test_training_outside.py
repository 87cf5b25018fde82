"""A training on two workers of an outside scheduler, over TLS, with the lake as the only thing that they share."""

from __future__ import annotations

import json
import subprocess
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from datetime import date
from pathlib import Path

import pytest
from distributed import Security

from tasks.compute.cluster import Tls, open_cluster
from tasks.compute.places import Means, open_place
from tasks.compute.sizing import Shape
from tasks.errors import ClusterError
from tests.support.certificates import make_authority, make_certificate
from tests.support.cluster_checks import check_learns_and_follows_its_metrics
from tests.support.dask_processes import DaskProcesses, dask_processes
from tests.support.pipelines import deliver, write_config
from tests.support.project import Project, make_project
from tests.support.s3 import CREDENTIALS


@dataclass(frozen=True)
class Encrypted:
    """A scheduler at tls:// and what its clients show."""

    processes: DaskProcesses
    tls: Tls


@pytest.fixture(scope="module")
def project(tmp_path_factory: pytest.TempPathFactory, mlflow_uri: str, new_bucket: Callable[[], str], s3_endpoint: str):
    """The end of January, clean, in a lake on S3."""
    folder = tmp_path_factory.mktemp("outside")
    config = write_config(folder / "config", "late_orders")
    for file in config.rglob("*.yaml"):
        file.write_text(file.read_text().replace("start: 2024-01-01", "start: 2024-01-20"))
    made = make_project(folder, mlflow=mlflow_uri, bucket=new_bucket(), endpoint=s3_endpoint)
    deliver(made.incoming, date(2024, 1, 20), date(2024, 1, 31))
    made.load({"orders": "2024-01-20..2024-01-31", "arrivals": "2024-01-20..2024-01-31", "shops": "all"})
    return made


@pytest.fixture(scope="module")
def encrypted(project: Project, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Encrypted]:
    """Two workers that see neither the project's folder nor, over TLS, anybody without a certificate."""
    folder = tmp_path_factory.mktemp("dask")
    ca, key = make_authority(folder)
    cert, private = make_certificate(folder, "dask", key)
    options = ["--tls-ca-file", str(ca), "--tls-cert", str(cert), "--tls-key", str(private)]
    tls = Tls(ca, *make_certificate(folder, "millrace", key))
    security = Security(
        require_encryption=True, tls_ca_file=str(ca), tls_client_cert=str(tls.cert), tls_client_key=str(tls.key)
    )
    with dask_processes(
        folder, workers=2, tls=options, security=security, prefixes=[_without(project.folder)] * 3, environment=CREDENTIALS
    ) as processes:  # fmt: skip
        yield Encrypted(processes, tls)


def _without(folder: Path) -> list[str]:
    """Words that hide a folder from the command after them; none where that is not permitted."""
    words = ["unshare", "--mount", "sh", "-c", 'mount -t tmpfs none "$0" && exec "$@"', str(folder)]
    try:
        subprocess.run([*words, "true"], capture_output=True, check=True)
    except (OSError, subprocess.CalledProcessError):
        return []
    return words


def test_a_promotion_trains_on_two_outside_workers_that_share_nothing_but_the_lake(
    project: Project, encrypted: Encrypted
):
    promoted = project.command(
        "run", "promote", "late_orders", "2024-02", "--json",
        MILLRACE_DASK_SCHEDULER=encrypted.processes.address,
        MILLRACE_DASK_TLS_CA=str(encrypted.tls.ca),
        MILLRACE_DASK_TLS_CERT=str(encrypted.tls.cert),
        MILLRACE_DASK_TLS_KEY=str(encrypted.tls.key),
    )  # fmt: skip
    assert promoted.code == 0, promoted.err
    assert promoted.json["promoted"]
    version = json.loads(project.lake.objects.get(f"late_orders/versions/{promoted.json['champion']}.json"))
    assert version["way"] == "cluster" and f"the scheduler at {encrypted.processes.address}" in version["reason"]
    assert "each of 2 needs about" in version["reason"] and version["reason"].endswith(" of 2.1 GB")
    assert not list(project.lake.objects.list(f"late_orders/trainings/{version['key']}/"))  # the rows went again
    assert version["environment"]["workers"] == 2
    with encrypted.processes.client() as client:
        ran = client.run(_trained)
    # one training, and each worker had its own hand of it: Dask's names are train-<place>-<training>
    assert all(len(keys) == 1 for keys in ran.values()), ran
    with encrypted.processes.client() as client:
        joined = client.run(_joined)
    # the window was joined to its labels by both, a span for each task, and no file came from this side
    assert all(joined.values()), joined
    (first, one), (second, other) = sorted(keys[0].removeprefix("train-").split("-", 1) for keys in ran.values())
    assert (first, second) == ("0", "1") and one == other


def _trained(dask_worker) -> list[str]:
    """The trainings' tasks that this worker computed to their end, from its own log."""
    return _computed(dask_worker, "train-")


def _joined(dask_worker) -> list[str]:
    """The spans that it joined."""
    return _computed(dask_worker, "join-late_orders-")


def _computed(dask_worker, kind: str) -> list[str]:
    computed = [entry[0] for entry in dask_worker.state.log if entry[1:3] == ("executing", "memory")]
    return sorted({key for key in computed if key.startswith(kind)})


def test_a_training_that_outside_workers_were_lost_for_goes_on_there_with_its_data_in_external_memory(
    encrypted: Encrypted, tmp_path: Path
):
    means = Means(folder=tmp_path, threads=1, scheduler=encrypted.processes.address, tls=encrypted.tls)
    said: list[str] = []
    with open_place(Shape(1000, 3, 256), means, wish="auto", gpus=0, say=said.append, short=True) as place:
        assert (place.way, place.external, place.workers) == ("cluster", True, 2)
        assert "external memory: an attempt before was lost" in place.reason and said[-1] in place.reason
        check_learns_and_follows_its_metrics(place, tmp_path / "check")


def test_a_certificate_of_another_authority_is_refused(encrypted: Encrypted, tmp_path: Path):
    ca, key = make_authority(tmp_path)
    strange = Tls(encrypted.tls.ca, *make_certificate(tmp_path, "stranger", key))
    arguments = {"workers": 1, "threads": 1, "memory_limit": "auto", "gpus": 0, "workdir": tmp_path}
    with (
        pytest.raises(ClusterError, match="no Dask cluster at tls://"),
        open_cluster(scheduler=encrypted.processes.address, tls=strange, **arguments),
    ):
        pass
