"""The Parquet files of one write: written and counted before anything is committed."""

from __future__ import annotations

import os
import uuid
from collections.abc import Callable, Iterable, Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from dataclasses import dataclass, replace
from pathlib import Path
from urllib.parse import unquote

import pyarrow as pa
import pyarrow.dataset as pads

from tasks.errors import SpecError, StorageError

_ROW_GROUP = 131_072  # rows; small batches of a stream are gathered into groups of at least half of it


@dataclass(frozen=True)
class NewFile:
    """A data file that no commit names yet: its path in the table, values by partition column, rows, bytes."""

    path: str
    values: dict[str, str]
    rows: int
    size: int


def write_files(
    data: pa.Table | pa.RecordBatchReader, *, columns: pa.Schema, partition_by: tuple[str, ...], folder: Path
) -> list[NewFile]:
    """Writes rows as files named by their partition, such as `partition_key=2013-01-05/part-0-….parquet`.

    Rows keep their order within a partition. When it fails, none of its files stays behind.

    Args:
        data: rows with all of `columns`, in any order; types are cast where nothing is lost.
        columns: the columns to write.
        partition_by: partition columns, part of `columns`; they go into the path, not into the file.
        folder: the table's folder, or a local one from which they are uploaded.

    Raises:
        SpecError: the data's columns are not `columns`.
        StorageError: the disk is full or refuses.
    """
    reader = data.to_reader(max_chunksize=_ROW_GROUP) if isinstance(data, pa.Table) else data
    _check_names(reader.schema, columns)
    written: list[NewFile] = []
    token = uuid.uuid4().hex

    def visit(file) -> None:
        path = str(Path(file.path).relative_to(folder))
        values = {name: unquote(value) for name, value in (part.split("=", 1) for part in path.split("/")[:-1])}
        written.append(NewFile(path, values, file.metadata.num_rows, file.size))

    layout = pads.ParquetFileFormat()
    try:
        pads.write_dataset(
            pa.RecordBatchReader.from_batches(columns, _cast(reader, columns)),
            folder,
            format=layout,
            file_options=layout.make_write_options(compression="zstd"),
            partitioning=pads.partitioning(pa.schema([columns.field(name) for name in partition_by]), flavor="hive"),
            basename_template=f"part-{{i}}-{token}.parquet",
            existing_data_behavior="overwrite_or_ignore",
            preserve_order=True,
            min_rows_per_group=_ROW_GROUP // 2,
            max_rows_per_group=_ROW_GROUP,
            max_partitions=1_000_000,
            file_visitor=visit,
        )
    except BaseException as error:
        # on a full disk each retry would leave more; the visitor isn't told of a file that broke off
        for file in folder.rglob(f"part-*-{token}.parquet"):
            with suppress(OSError):
                file.unlink()
        if not isinstance(error, OSError):
            raise
        raise StorageError(f"{folder}: rows can't be written: {error}", hint="is the disk full?") from error
    return [_plainly_named(folder, file) for file in written]


def write_partition(
    batches: Iterable[pa.RecordBatch],
    *,
    values: Mapping[str, str | int],
    columns: pa.Schema,
    folder: Path,
    number: int,
    written: Callable[[NewFile], object],
    most: int | None = None,
) -> None:
    """Writes the rows of one partition as they come, holding no more of them than a row group; no rows, no file.

    Args:
        batches: with `columns` in any order; the partition's own columns may be left out.
        values: by partition column.
        columns: the table's columns; those of the partition go into the path, not into the file.
        folder: as in `write_files`.
        number: counts the files of a partition, so that they are read in the order of writing.
        written: told of the file when it is closed, whether or not the rows broke off.
        most: bytes from which on the file takes no further row group; what is left of `batches` is for another.

    Raises:
        SpecError: the data's columns are not `columns`.
        StorageError: the disk is full or refuses.
    """
    import pyarrow.parquet as pq

    inside = pa.schema([field for field in columns if field.name not in values])
    texts = {name: str(value) for name, value in values.items()}
    parts = [f"{name}={text.replace('+', 'p')}" for name, text in texts.items()]  # as `_plainly_named`
    path = "/".join([*parts, f"part-{number}-{uuid.uuid4().hex}.parquet"])
    rows, writer = 0, None
    try:
        try:
            for group in _row_groups(_cast(_checked(batches, columns, values), inside)):
                if writer is None:
                    (folder / path).parent.mkdir(parents=True, exist_ok=True)
                    writer = pq.ParquetWriter(folder / path, inside, compression="zstd")
                writer.write_table(group, row_group_size=_ROW_GROUP)
                rows += group.num_rows
                if most is not None and (folder / path).stat().st_size >= most:
                    break
        finally:
            if writer is not None:
                writer.close()  # writes the footer: a full disk shows here too
    except OSError as error:
        raise StorageError(f"{folder}: rows can't be written: {error}", hint="is the disk full?") from error
    finally:
        if writer is not None:
            written(NewFile(path, texts, rows, (folder / path).stat().st_size))


def _checked(
    batches: Iterable[pa.RecordBatch], columns: pa.Schema, values: Mapping[str, object]
) -> Iterator[pa.RecordBatch]:
    for batch in batches:
        given = [field for field in columns if field.name in values and field.name not in batch.schema.names]
        _check_names(pa.schema([*batch.schema, *given]), columns)
        yield batch


def _row_groups(batches: Iterable[pa.RecordBatch]) -> Iterator[pa.Table]:
    """Gathers small batches; a group has at least half of a full one's rows, but for the last."""
    waiting: list[pa.RecordBatch] = []
    for batch in batches:
        waiting.append(batch)
        if sum(one.num_rows for one in waiting) >= _ROW_GROUP // 2:
            yield pa.Table.from_batches(waiting)
            waiting = []
    if waiting:
        yield pa.Table.from_batches(waiting)


def _plainly_named(folder: Path, file: NewFile) -> NewFile:
    """The file under a path without escapes, which readers undo in different ways.

    pyarrow escapes the + of an hour's offset in the folder's name; the value itself is in the log.
    """
    if "%" not in file.path:
        return file
    plain = replace(file, path=file.path.replace("%2B", "p"))
    (folder / plain.path).parent.mkdir(parents=True, exist_ok=True)
    (folder / file.path).rename(folder / plain.path)
    return plain


def flush_files(folder: Path, files: Iterable[NewFile]) -> None:
    """Has data files and their names reach the disk.

    A commit must not outlive a crash of the machine that its files did not outlive.
    """
    paths = [Path(file.path) for file in files]
    parts = {part for path in paths for part in (path, *path.parents)}
    with ThreadPoolExecutor(8, thread_name_prefix="flush") as pool:  # the system flushes neighbours together
        list(pool.map(flush, (folder / part for part in parts)))


def _check_names(found: pa.Schema, columns: pa.Schema) -> None:
    missing = [name for name in columns.names if name not in found.names]
    extra = [name for name in found.names if name not in columns.names]
    if missing or extra:
        parts = [f"lacks {', '.join(missing)}"] * bool(missing) + [f"has also {', '.join(extra)}"] * bool(extra)
        raise SpecError(f"the data's columns are not the table's: it {' and '.join(parts)}")


def _cast(reader: Iterable[pa.RecordBatch], columns: pa.Schema) -> Iterator[pa.RecordBatch]:
    for batch in reader:
        if batch.num_rows:
            try:
                table = pa.Table.from_batches([batch]).select(columns.names).cast(columns)
            except (pa.ArrowInvalid, pa.ArrowNotImplementedError) as error:
                raise SpecError(f"the data's types don't fit the table's: {error}") from error
            yield from table.combine_chunks().to_batches()


def flush(path: Path) -> None:
    """Has a file, or the names in a folder, reach the disk."""
    handle = os.open(path, os.O_RDONLY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)
