"""What an input's name stands for: files, a data set of the Hugging Face hub, or one of ir_datasets.

    PATH                                    a file, a directory or a pattern
    hf:NAME[:CONFIG[:SPLIT]][@REVISION]     a data set of the hub, or a local folder that is laid out like one
    irds:NAME                               a data set of ir_datasets

Each gives lines, which the same readers take; nothing is held but a line (of Parquet, a block of rows).  Text files of
the hub are read as they stand, so that ids stay as they are typed.  No code of a data set's own is ever run, and nobody
is asked for anything.
"""

import difflib
import functools
import hashlib
import importlib
import io
import json
import os
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import suppress
from dataclasses import is_dataclass, replace
from functools import partial
from pathlib import Path
from typing import IO, Any, NamedTuple

from xqg_pyserini.errors import UserError, warn
from xqg_pyserini.files import (
    SHARD,
    SUFFIXES,
    FilePath,
    Line,
    expand,
    file_sha256,
    is_named,
    printable,
    read_lines,
    shown_name,
)

HUB, IRDS = "hf:", "irds:"
NAMED = 20  # of the names that there are, how many an error says
ENTITIES = {"passage": "docs", "question": "queries", "judgement": "qrels"}  # what is read → what ir_datasets calls it
# fields of ir_datasets by which a reader might go; each is there where it was asked for by its name
_AMBIGUOUS = {"id", "docid", "_id", "pid", "doc_id", "contents", "text", "title", "query", "desc", "description"}


class Part(NamedTuple):
    """A file of an input, or what is read like one: `path` as its lines and messages have it."""

    path: Path
    lines: Callable[[], Iterator[Line]]  # blank ones too
    is_empty: bool = False


def parts_of(source: FilePath, what: str, fields: Mapping[str, str] | None = None) -> list[Part]:
    """Return the files that an input stands for, in their order; nothing is read of them yet.

    Args:
        source: as above.
        what: what is read: passage, question, judgement, generated queries.
        fields: what a key holds → the key that the user named.

    Raises:
        UserError: where nothing is found, or it cannot be reached: what there is, and what to do.
    """
    text = os.fspath(source)
    if text.startswith(HUB):
        return _hub(text).parts()
    if text.startswith(IRDS):
        return [Part(Path(text), partial(_rows_of_irds, text, what, fields or {}))]
    found = expand(source, say_left_out=True)
    return [Part(path, partial(read_lines, path, blank=True), not path.stat().st_size) for path in found]


def pinned(source: Any) -> Any:
    """Return an input as other processes are to read it: a data set of the hub at this one's commit."""
    split = _hub(os.fspath(source)) if is_named(source) and os.fspath(source).startswith(HUB) else None
    if split is None or split.revision is None:
        return source
    name = f"{split.name}@{split.revision}"
    return replace(source, path=name) if is_dataclass(source) and not isinstance(source, type) else name


def check_source(source: FilePath) -> None:
    """Raise `UserError` where an input does not exist."""
    describe_sources(source) if is_named(source) else expand(source)


def describe_sources(source: FilePath, what: str = "passage") -> list[dict[str, Any]]:
    """Return what tells an input from any other, for `meta.json`; and by which fields it is read.

    Of each file, also of a local folder by `hf:`, that is name, size and SHA-256.  Of a data set of the hub it is the
    commit; of ir_datasets its version, which fixes the checksums of what it downloads, and the file that it reads.
    """
    how = {"fields": fields} if (fields := getattr(source, "fields", None)) else {}
    text = os.fspath(source)
    if text.startswith(HUB):
        files = _hub(text).described()
    else:
        files = [_describe_irds(text, ENTITIES[what])] if text.startswith(IRDS) else list(map(_file, expand(source)))
    return [file | how for file in files]


def _file(path: Path) -> dict[str, Any]:
    return {"name": printable(path.name), "bytes": path.stat().st_size, "sha256": file_sha256(path)}


def check_shards(where: FilePath, names: Iterable[str]) -> None:
    """Raise `UserError` unless the shards of each set (files with one prefix) are all there."""
    sets: dict[str, dict[int, tuple[int, str]]] = {}  # prefix → number → of how many, name
    for each in names:
        match = SHARD.search(each)
        if match is None:
            continue
        prefix, number, total = each[: match.start()], int(match[1]), int(match[2])
        shards = sets.setdefault(prefix, {})
        if number >= total:
            raise UserError(f"{where}/{each}: shard {number} of {total}; shards are counted from 0")
        if number in shards and shards[number][0] == total:
            raise UserError(f"{where}: {shards[number][1]} and {each} are one shard; remove one of them")
        shards[number] = total, each
        first_total, first_name = next(iter(shards.values()))
        if total != first_total:
            what = f"{first_name} and {each} are shards of two sets"
            raise UserError(f"{where}: {what}; put each into a folder of its own")
    for prefix, shards in sets.items():
        total, name = next(iter(shards.values()))
        missing = [number for number in range(total) if number not in shards]
        if missing:
            width = len(SHARD.search(name)[1])  # type: ignore[index]
            first = f"{prefix}-{missing[0]:0{width}}-of-{total:0{width}}"
            what = f"{len(missing)} of {total} shards are missing, the first is {first}"
            remedy = f"finish making them, or name those to read by a pattern such as '{where}/*.jsonl'"
            remedy = "get them too" if is_named(where) else remedy
            raise UserError(f"{where}: {what}; {remedy}")


def _library(package: str, requirement: str) -> Any:
    try:
        return importlib.import_module(package)
    except ImportError:
        raise UserError(f"the package {package} is not installed: run pip install '{requirement}'") from None


def _some(names: Iterable[str]) -> str:
    several = list(names)
    more = f", … ({len(several)} in all)" if len(several) > NAMED else ""
    return ", ".join(several[:NAMED]) + more


def _said(error: BaseException) -> str:
    """Return an exception as a part of a line."""
    text = _line(str(error))
    return f"{type(error).__name__}: {text:.200}" if text else type(error).__name__


def _line(text: str) -> str:
    return shown_name(" ".join(text.split()))


# ---------------------------------------------------------------- the hub


class _Split(NamedTuple):
    """The files of one split of a data set."""

    name: str  # hf:NAME:CONFIG:SPLIT
    split: str
    files: list[str]  # paths, or hf:// addresses
    folder: str  # that they are shown from; "" for a local one
    revision: str | None  # the commit; None for a local folder

    def parts(self) -> list[Part]:
        shown = [Path(f"{HUB}{self._inside(file)}" if self.revision else file) for file in self.files]
        where = self.name if self.revision else os.path.commonpath([path.parent for path in shown])
        check_shards(where, map(str, shown) if self.revision else (os.path.relpath(path, where) for path in shown))
        return [self._part(path, file) for path, file in zip(shown, self.files, strict=True)]

    def _inside(self, file: str) -> str:
        """Return a file's path with the data set's name before it."""
        repository = self.name.removeprefix(HUB).split(":")[0]
        return f"{repository}/{file.partition(f'@{self.revision}/')[2] or os.path.relpath(file, self.folder)}"

    def _part(self, path: Path, file: str) -> Part:
        opened: Callable[[], IO[bytes]] = partial(_open_remote, file) if "://" in file else partial(_open, file)
        if path.suffix.lower() == ".parquet":
            return Part(path, partial(_rows_of_parquet, path, opened))
        if not path.name.lower().endswith(SUFFIXES):
            raise UserError(f"{path}: expected JSON Lines, TSV, CSV or Parquet; convert it, and give the file")
        return Part(path, partial(read_lines, path, blank=True, opened=opened))

    def described(self) -> list[dict[str, Any]]:
        if self.revision is None:
            return [_file(Path(file)) for file in self.files]
        return [{"name": self.name, "revision": self.revision, "files": len(self.files)}]


def split_of(source: FilePath) -> str | None:
    """Return the split that a name of the hub stands for; None for any other input."""
    text = os.fspath(source)
    return _hub(text).split if text.startswith(HUB) else None


def _hub(source: str) -> _Split:
    """Return the split that a name stands for; a hub's is looked up once in a process, and stays at that commit."""
    name, *rest = source.removeprefix(HUB).split(":")
    if os.path.isdir(name):  # whose name may hold any @
        return _find_split(source, name, rest, name, None)
    return _find_remote(source)


@functools.cache
def _find_remote(source: str) -> _Split:
    text, _, revision = source.removeprefix(HUB).partition("@")
    name, *rest = text.split(":")
    return _find_split(source, name, rest, *_find_commit(source, name, revision or None))


def _find_commit(source: str, name: str, revision: str | None) -> tuple[str, str]:
    """Return where a data set is, by its name or in the cache, and the commit that a revision now stands for."""
    _library("datasets", "datasets>=4")  # which brings the other
    from huggingface_hub import HfApi, errors, snapshot_download

    try:
        return name, str(HfApi().dataset_info(name, revision=revision).sha)
    except errors.HFValidationError:
        raise UserError(f"{source}: no such folder, and no name of a data set (USER/NAME)") from None
    except errors.RevisionNotFoundError:
        raise UserError(f"{source}: the data set {name} has no revision {revision}") from None
    except errors.GatedRepoError:
        raise UserError(f"{source}: its owners ask for consent: give it on its page, then run hf auth login") from None
    except errors.RepositoryNotFoundError:
        what = "the hub has no such data set (or it is private: run hf auth login), and there is no such folder"
        raise UserError(f"{source}: {what}") from None
    except Exception as error:  # no network, or the hub is down
        unreachable = "HF_HUB_OFFLINE is set" if "Offline" in type(error).__name__ else _said(error)
    try:
        folder = snapshot_download(name, repo_type="dataset", revision=revision, local_files_only=True)
        return folder, Path(folder).name
    except Exception as error:
        lacks = "lacks a part of it" if "ncomplete" in type(error).__name__ else "does not hold it"
        get = f"hf download {name} --repo-type dataset" + (f" --revision {revision}" if revision else "")
        what = f"the hub cannot be reached ({unreachable}), and the folder HF_HOME {lacks}"
        remedy = f"where there is a network run {get}, and bring that folder here, or give files by their paths"
        raise UserError(f"{source}: {what}; {remedy}") from None


def _find_split(source: str, name: str, rest: list[str], where: str, revision: str | None) -> _Split:
    """Return the split of a data set that is at `where`: a folder, or its name on the hub."""
    if len(rest) > 2 or not name or not all(rest):
        raise UserError(f"{source}: expected hf:NAME, hf:NAME:CONFIG or hf:NAME:CONFIG:SPLIT, perhaps @REVISION")
    config, split = [*rest, None, None][:2]
    is_remote = where == name and revision is not None
    builder = _builder(source, where, config, revision if is_remote else None)
    loading, usual = vars(builder.config), vars(type(builder.config)())
    same = ("name", "version", "data_dir", "data_files", "description")
    odd = [key for key in loading if key not in same and loading[key] != usual.get(key)]
    if odd and not (odd == ["sep"] and loading["sep"] == "\t"):
        how = ", ".join(f"{key} {loading[key]!r}" for key in odd)
        raise UserError(f"{source}: its files are to be loaded with {how}, which is not done here; convert them")
    files = {str(key): list(map(str, paths)) for key, paths in (builder.config.data_files or {}).items()}
    config = config or builder.config.name
    if split is None and len(files) == 1:
        split = next(iter(files))
    if split not in files:
        example = f"{HUB}{name}:{config}:{min(files)}"
        asked = f"has no split {split}" if split else f"has several splits; give one, such as {example}"
        raise UserError(f"{source}: {asked}; there are {_some(files)}")
    inside = f"hf://datasets/{name}@{revision}/" if is_remote else os.path.join(os.path.abspath(where), "")
    for file in files[split]:
        if not (file if is_remote else os.path.normpath(file)).startswith(inside):
            raise UserError(f"{source}: names a file that is not its own, {file}; give it by its path")
    return _Split(f"{HUB}{name}:{config}:{split}", split, files[split], "" if is_remote else where, revision)


def _builder(source: str, where: str, config: str | None, revision: str | None) -> Any:
    """Return what `datasets` makes of a data set: which files belong to which split."""
    datasets = _library("datasets", "datasets>=4")
    if int(datasets.__version__.split(".")[0]) < 4:  # older ones may run a data set's own code
        raise UserError(f"datasets {datasets.__version__} is too old: run pip install 'datasets>=4'")
    load = partial(datasets.load_dataset_builder, where, revision=revision)
    try:
        return load(config)
    except Exception as error:
        failed = error
    configs: list[str] = []
    with suppress(Exception):
        configs = datasets.get_dataset_config_names(where, revision=revision)
    if config is not None and configs == ["default"]:  # no configurations, but perhaps a folder for each
        with suppress(Exception):
            return load(data_dir=config)
    if configs and config not in configs:
        asked = f"has no configuration {config}" if config else "has several configurations; give one"
        raise UserError(f"{source}: {asked}; there are {_some(configs)}")
    if "scripts are no longer supported" in str(failed):
        what = "is a program, which is not run; perhaps the hub has its rows"
        raise UserError(f"{source}: {what}: {source.partition('@')[0]}@refs/convert/parquet")
    raise UserError(f"{source}: cannot be opened ({_said(failed)})")


class _Remote(io.RawIOBase):
    """A file of the hub, whose errors are the system's."""

    def __init__(self, file: Any) -> None:
        self._file = file

    def readable(self) -> bool:
        return True

    def seekable(self) -> bool:
        return True

    def seek(self, offset: int, whence: int = 0) -> int:
        return int(self._file.seek(offset, whence))

    def tell(self) -> int:
        return int(self._file.tell())

    def readinto(self, buffer: Any) -> int:
        try:
            data = self._file.read(len(buffer))
        except Exception as error:
            raise ConnectionError(0, f"the hub stopped answering ({_said(error)}); run it again") from error
        buffer[: len(data)] = data
        return len(data)

    def close(self) -> None:
        self._file.close()
        super().close()


def _open_remote(address: str) -> IO[bytes]:
    from huggingface_hub import HfFileSystem

    try:
        return io.BufferedReader(_Remote(HfFileSystem().open(address, "rb")), 1 << 20)
    except Exception as error:
        raise UserError(f"{address}: cannot be opened ({_said(error)})") from None


def _open(path: str) -> IO[bytes]:
    return open(path, "rb")


def _rows_of_parquet(path: Path, opened: Callable[[], IO[bytes]]) -> Iterator[Line]:
    """Yield rows as JSON, without binary columns and vectors; null within a value is left out, as in JSON Lines."""
    import pyarrow as pa
    import pyarrow.parquet as pq

    number = 0
    try:
        with opened() as file:
            table = pq.ParquetFile(file)
            wanted = [field.name for field in table.schema_arrow if not _is_vector(field.type)]
            for batch in table.iter_batches(1000, columns=wanted):
                for row in batch.to_pylist():
                    number += 1
                    record = {key: _without_null(value) for key, value in row.items()}
                    yield Line(path, number, json.dumps(record, ensure_ascii=False, default=str), "row")
    except pa.ArrowException as error:
        raise UserError(f"{path}, after row {number}: no whole Parquet file ({_said(error)}); get it again") from None
    except OSError as error:
        raise UserError(f"{path}, after row {number}: {error.strerror or _said(error)}") from None


def _is_vector(kind: Any) -> bool:
    import pyarrow.types as types

    if types.is_list(kind) or types.is_large_list(kind) or types.is_fixed_size_list(kind):
        return types.is_floating(kind.value_type) or _is_vector(kind.value_type)
    return types.is_binary(kind) or types.is_large_binary(kind) or types.is_fixed_size_binary(kind)


def _without_null(value: Any) -> Any:
    if isinstance(value, dict):
        return {key: _without_null(each) for key, each in value.items() if each is not None}
    return [_without_null(each) for each in value] if isinstance(value, list) else value


# ---------------------------------------------------------------- ir_datasets


def _irds(source: str, entity: str) -> tuple[Any, list[str]]:
    """Return a data set of ir_datasets that has what is wanted, and a list that gets what the library says."""
    library = _library("ir_datasets", "ir_datasets")
    from ir_datasets.util import download

    said: list[str] = []
    vars(download)["_logger"].info = said.append  # terms of use, and how to get what cannot be downloaded
    vars(download)["input"] = _ask_nobody
    name = source.removeprefix(IRDS)
    try:
        dataset = library.load(name)
    except KeyError:
        near = difflib.get_close_matches(name, list(library.registry), 1, 0.6)
        hint = f" (do you mean {IRDS}{near[0]}?)" if near else ""
        raise UserError(f"{source}: ir_datasets {library.__version__} has no such data set{hint}") from None
    except Exception as error:  # some are known when a list of them is there
        raise _irds_failed(source, entity, said, error) from error
    if not dataset.has(entity):
        has = " and ".join(each for each in ENTITIES.values() if dataset.has(each))
        below = [each for each in library.registry if each.startswith(f"{name}/") and library.load(each).has(entity)]
        there = f"; {_some(IRDS + each for each in below)} have" if below else ""
        raise UserError(f"{source}: has no {entity}{has and f', but {has}'}{there}")
    return dataset, said


def _ask_nobody(prompt: str = "") -> str:
    raise PermissionError("a user name and a password are needed")


def _irds_failed(source: str, entity: str, said: list[str], error: Exception) -> UserError:
    name = source.removeprefix(IRDS)
    export = f"ir_datasets export {name} {entity} --format {'trec' if entity == 'qrels' else 'jsonl'} --out FILE"
    if len(error.args) == 2 and isinstance(error.args[1], list) and error.args[1]:  # what each address gave
        error = error.args[1][-1][1]
    told = [_line(text) for text in said if not text.startswith("download error")]  # it tries again
    why = "; ".join([_said(error), *told])
    remedy = f"where there is a network, {export} writes a file to give instead, or bring its folder here"
    return UserError(
        f"{source}: ir_datasets cannot read its {entity} ({why}); {remedy} (~/.ir_datasets, or IR_DATASETS_HOME)"
    )


def _rows_of_irds(source: str, what: str, fields: Mapping[str, str]) -> Iterator[Line]:
    """Yield what ir_datasets has as JSON: its fields that are text, and what readers look for."""
    named = set(fields.values())
    if what not in ENTITIES:
        raise UserError(f"{source}: ir_datasets has no {what}; give a path, or hf:NAME")
    entity = ENTITIES[what]
    dataset, said = _irds(source, entity)
    # another text may be in another language
    language = dataset.queries_lang() if entity == "queries" and "question" not in fields else None
    records: dict[str, Callable[[Any], dict[str, Any]]]
    records = {"docs": _document, "queries": partial(_query, language=language), "qrels": _judgement}
    path = Path(source)
    try:
        for number, item in enumerate(getattr(dataset, f"{entity}_iter")(), 1):
            known = records[entity](item)
            others = {key: value for key, value in item._asdict().items() if isinstance(value, str)}
            others = {key: value for key, value in others.items() if key in named or key not in _AMBIGUOUS}
            row = others | {key: value for key, value in known.items() if key not in others or key not in named}
            yield Line(path, number, json.dumps(row, ensure_ascii=False), "record")
    except (UserError, MemoryError):
        raise
    except Exception as error:  # each format has its own
        raise _irds_failed(source, entity, said, error) from error
    for text in said:
        warn(f"{source}: {_line(text)}")


def _document(item: Any) -> dict[str, Any]:
    """Return a passage whose title and text are together what ir_datasets takes for its text."""
    whole, title, text = item.default_text(), getattr(item, "title", None), getattr(item, "text", None)
    text = text if isinstance(text, str) else ""
    if not isinstance(title, str) or not title.strip() or text.strip() == whole.strip() or not whole.startswith(title):
        return {"id": item.doc_id, "title": "", "text": text if text.strip() == whole.strip() else whole}
    rest = whole[len(title) :].lstrip()
    return {"id": item.doc_id, "title": title, "text": text if text.strip() == rest.strip() else rest}


def _query(item: Any, language: str | None) -> dict[str, Any]:
    known = {"id": item.query_id, "question": item.default_text()}
    return known | ({} if language is None else {"lang": language})


def _judgement(item: Any) -> dict[str, Any]:
    return {"query_id": item.query_id, "doc_id": item.doc_id, "relevance": item.relevance}


def _describe_irds(source: str, entity: str) -> dict[str, Any]:
    dataset, said = _irds(source, entity)
    described = {"name": source, "ir_datasets": _library("ir_datasets", "ir_datasets").__version__}
    count = dataset.metadata().get(entity, {}).get("count")
    described |= {} if count is None else {"count": count}
    try:
        found = getattr(dataset, f"{entity}_path", lambda: None)()
    except NotImplementedError:
        found = None
    except Exception as error:  # it downloads what it lacks
        raise _irds_failed(source, entity, said, error) from error
    files = [Path(path) for path in (found if isinstance(found, list | tuple) else [found]) if path]
    if files and all(path.is_file() for path in files):
        sums = [file_sha256(path) for path in files]
        whole = sums[0] if len(sums) == 1 else hashlib.sha256("".join(sums).encode()).hexdigest()
        described |= {"bytes": sum(path.stat().st_size for path in files), "sha256": whole}
    return described
