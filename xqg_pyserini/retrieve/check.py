"""Whether a folder is as it was written: stores, indexes and folders of queries, read in full."""

from collections.abc import Callable, Collection, Iterator
from functools import partial
from pathlib import Path
from typing import Any, NamedTuple

from msgspec import Struct

from xqg_pyserini.data import read_generated
from xqg_pyserini.errors import UserError
from xqg_pyserini.files import expand, file_sha256
from xqg_pyserini.fusion import alignment
from xqg_pyserini.metadata import read_json
from xqg_pyserini.models.registry import recorded_settings
from xqg_pyserini.retrieve import layout
from xqg_pyserini.retrieve.directories import open_one
from xqg_pyserini.retrieve.search import Index
from xqg_pyserini.stores import (
    COUNTS,
    META,
    PASSAGES,
    QUERY_SUMS,
    QueryStore,
    Shard,
    VectorStore,
    block_rows,
    check_complete,
    check_one_whole,
    check_recorded,
    recorded_files,
    shard_folders,
)
from xqg_pyserini.stores.moments import FILES, MOMENTS, DescribedMoments, Moments, check_files

_AGAIN = "make it again"


class _Kind(Struct):
    kind: str | None = None


class CheckedFile(NamedTuple):
    """What a check found of one file."""

    path: str
    problem: str | None  # None: it is as it was written


def check_folder(path: str | Path) -> Iterator[CheckedFile]:
    """Read a folder in full, and say of each file whether it is as it was written.

    Takes passage stores, query stores, indexes, language-aware folders, folders of shards of these, exports,
    alignments, and the folders of `xqg generate` and `xqg filter`.  Whatever is damaged, the rest is checked too.

    Raises:
        UserError: for a folder that is none of these.
    """
    path = Path(path)
    if (path / alignment.ALIGNMENT).is_file():
        yield from _alignment(path)
        return
    if (path / layout.META).is_file():
        yield from _language_aware(path) if layout.language_aware(path) else _index(path)
        return
    if not (path / META).is_file() and (shards := shard_folders(path)):
        for shard in shards:
            yield from check_folder(shard)
        indexes = (shards[0] / layout.META).is_file()
        yield _checked(path, partial(_together if indexes else _one_whole, path))
        return
    if not (path / META).is_file():
        expected = "expected a store, an index or a folder of queries that xqg has finished"
        raise UserError(f"{path}: has neither {META} nor {layout.META}; {expected}")
    kind = read_json(path / META, _Kind, _AGAIN).kind
    checks: dict[str, Callable[[Path], Iterator[CheckedFile]]] = {
        PASSAGES: partial(_store, kind=VectorStore),
        QUERY_SUMS: partial(_store, kind=QueryStore),
        "generated-queries": _generated,
        "filtered-queries": _filtered,
    }
    if kind not in checks:
        raise UserError(f"{path / META}: kind is {kind!r}; expected {', '.join(checks)}")
    yield from checks[kind](path)


def _checked(path: Path, check: Callable[[], Any]) -> CheckedFile:
    try:
        check()
    except UserError as error:
        return CheckedFile(str(path), str(error))
    return CheckedFile(str(path), None)


def _store(path: Path, kind: type[VectorStore] | type[QueryStore]) -> Iterator[CheckedFile]:
    try:
        store = kind(path)
    except UserError as error:
        yield CheckedFile(str(path / META), str(error))
        return
    yield _checked(path / META, lambda: recorded_settings(store.encoder, path / META))
    yield CheckedFile(str(store.ids_path), None)
    yield from _matrices(store)
    if isinstance(store, QueryStore) and store.moments is not None:
        yield from _moments(path / MOMENTS, store.moments, store.d)
    for first in store.kept if isinstance(store, QueryStore) else ():
        kept = _checked(path / META, partial(QueryStore, path, first))
        yield from [kept] if kept.problem else _matrices(QueryStore(path, first), {COUNTS})


def _alignment(path: Path) -> Iterator[CheckedFile]:
    file = path / alignment.ALIGNMENT
    try:
        _, said = alignment.described(path)
        recorded_settings(said.encoder, file)
    except UserError as error:
        yield CheckedFile(str(file), str(error))
        return
    yield CheckedFile(str(file), None)
    for name in said.sha256:
        yield _checked(path / name, partial(check_files, path, said.sha256, [name]))
    yield from _moments(path / MOMENTS, said.moments, said.d)


def _moments(path: Path, said: DescribedMoments, d: int) -> Iterator[CheckedFile]:
    """Read what an alignment is learnt from, beside a query store's sums or in an alignment."""
    files = [_checked(path / name, partial(check_files, path, said.sha256, [name])) for name in FILES]
    yield from files
    if not any(file.problem for file in files):  # what is whole may not be what was recorded
        whole = _checked(path, lambda: Moments.open(path, said, d))
        yield from [whole] if whole.problem else []


def _matrices(store: VectorStore | QueryStore, but: Collection[str] = ()) -> Iterator[CheckedFile]:
    """Read each matrix of a store for its SHA-256 and for numbers that are not finite."""
    store.by_sha256()
    for file, matrix in store.matrices.items():
        if file in but:
            continue

        def read(file: str = file, matrix: Any = matrix) -> None:
            size = block_rows(max(1, matrix.shape[1]))
            for start in range(0, store.n, size):
                rows = range(start, min(start + size, store.n))
                store.checked(matrix[rows.start : rows.stop], file, rows)

        yield _checked(store.path / file, read)


def _language_aware(path: Path) -> Iterator[CheckedFile]:
    def read() -> None:
        layout.LanguageIndexes([path])
        recorded_settings(read_json(path / layout.META, layout.DescribedFolder, _AGAIN).encoder, path / layout.META)

    yield _checked(path / layout.META, read)
    for name in [*(layout.language_aware(path) or []), layout.ALL_LANGUAGES]:
        yield from _index(path / name)


class _Sharded(Struct):
    shard: Shard | None = None


def _one_whole(path: Path) -> None:
    """Raise `UserError` where shards of stores or alignments are missing or are not of one whole."""
    check_complete(path)
    folders = shard_folders(path)
    files = [next(f / name for name in (alignment.ALIGNMENT, META) if (f / name).is_file()) for f in folders]
    check_one_whole(folders, [read_json(file, _Sharded, _AGAIN).shard for file in files])


def _together(path: Path) -> None:
    """Raise `UserError` where shards are missing or are not of one index."""
    index = Index(path)
    index.open_all()


def _index(path: Path) -> Iterator[CheckedFile]:
    try:
        described = layout.described(path)
        recorded_settings(described.encoder, path / layout.META)
    except UserError as error:
        yield CheckedFile(str(path / layout.META), str(error))
        return
    yield CheckedFile(str(path / layout.META), None)
    if described.kind == layout.EXPORT:
        for name in described.sha256:
            yield _checked(path / name, partial(layout.check_sum, path, name, {"sha256": described.sha256}))
        return
    opened = _checked(path / layout.DOCID, lambda: open_one(path))
    files = [layout.DOCID, layout.INDEX, *([layout.CENTERS] if described.centers is not None else [])]
    for name in dict.fromkeys([layout.DOCID, *described.sha256]) if described.type in layout.LUCENE else files:
        if name not in described.sha256:
            yield CheckedFile(str(path / name), f"{path / name}: no checksum is recorded; build it again")
        elif name == layout.DOCID:
            yield opened
        else:
            yield _checked(path / name, partial(layout.check_sum, path, name, {"sha256": described.sha256}))


def _generated(path: Path) -> Iterator[CheckedFile]:
    """Check that all shards are there, with their checksums, and can be read."""
    try:
        files = expand(path)
    except UserError as error:
        yield CheckedFile(str(path), str(error))
        return
    known = recorded_files(path)
    for file in files:
        yield _checked(file, partial(_read_shard, file))
        if file.name not in known:
            yield CheckedFile(str(file), f"{file}: no checksum is recorded; generate again")
    yield _checked(path, lambda: next(read_generated(path), None))  # names a shard that is missing


def _read_shard(file: Path) -> None:
    check_recorded(file, [{"sha256": file_sha256(file)}])
    for _ in read_generated(str(file)):
        pass


def _filtered(path: Path) -> Iterator[CheckedFile]:
    for name in recorded_files(path):
        yield _checked(path / name, partial(_compare, path / name))


def _compare(file: Path) -> None:
    if not file.is_file():
        raise UserError(f"{file}: missing; {_AGAIN}")
    check_recorded(file, [{"sha256": file_sha256(file)}])
