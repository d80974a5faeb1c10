"""What an index is on disk: a directory that Pyserini's search commands read, and what is added.

    index, docid     Faiss's own file, and an id a line
    xqg.json         ours: encoder, fusion, checksums of the stores and of these files
    centers.npy      ours, where the index is centred

A language-aware index is a folder of such directories, one a language, and one for all languages.  An index in shards
is a folder of either, `shard-00003-of-00008` and so on, numbered from 0: passages in their order, each shard a whole
index of its part.  What was exported from an index has its `xqg.json` and centres, beside the files of another engine
(`retrieve.export`).  A Lucene index has its own files in the place of `index`, and `rows.npy` (`retrieve.lucene`).
"""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Annotated, Any

import numpy as np
from msgspec import Meta, Struct

from xqg_pyserini.data import check_languages, find_language
from xqg_pyserini.errors import UserError
from xqg_pyserini.files import file_sums
from xqg_pyserini.fusion.formula import Centers
from xqg_pyserini.metadata import checked, open_matrix, read_json
from xqg_pyserini.stores import check_complete, shard_folders
from xqg_pyserini.stores.shards import Shard
from xqg_pyserini.stores.store import changed

INDEX, DOCID, META, CENTERS, ROWS = "index", "docid", "xqg.json", "centers.npy", "rows.npy"
LUCENE = ("lucene-flat", "lucene-hnsw", "lucene-hnsw-int8")  # types of index that are not Faiss's
ALL_LANGUAGES, LANGUAGE_AWARE = "all-languages", "language-aware"  # no language's code is like the former
EXPORT = "export"
NTOTAL_AT = 8  # in a Faiss file: after the type's four letters and the dimension


_AGAIN = "build the index again"


class _Mixed(Struct):
    languages: list[str]
    center: bool = False


class DescribedLance(Struct):
    """How a Lance dataset is searched: through its IVF-PQ index where it has partitions, else whole."""

    partitions: Annotated[int, Meta(ge=0)]
    probes: Annotated[int, Meta(ge=0)]
    refine: Annotated[int, Meta(ge=1)]


class DescribedLucene(Struct):
    """How wide a graph of Lucene's is searched."""

    ef_search: Annotated[int, Meta(ge=1)]


class Described(Struct):
    """What `xqg.json` says of an index, or of what was exported from it, as far as it is read."""

    n: Annotated[int, Meta(ge=0)]
    d: Annotated[int, Meta(ge=1)]
    encoder: dict[str, Any]
    fusion: _Mixed | None = None
    centers: list[str] | None = None
    without_queries: int = 0
    shard: Shard | None = None
    sha256: dict[str, str] = {}
    xxh3: dict[str, str] = {}  # of the same files; none where they were written before there was it
    kind: str | None = None
    lance: DescribedLance | None = None
    delimiter: str | None = None  # of passages with several rows: `retrieve.parts`
    type: str | None = None
    lucene: DescribedLucene | None = None


class DescribedFolder(Struct):
    """What `xqg.json` says of a language-aware folder."""

    languages: Annotated[list[str], Meta(min_length=1)]
    encoder: dict[str, Any]


def write_centers(folder: Path, centers: Centers) -> None:
    """Write the means of passages and queries beside an index."""
    rows = [centers.passages, centers.pooled, *centers.queries.values()]
    np.save(folder / CENTERS, np.stack(rows), allow_pickle=False)


def described(folder: Path) -> Described:
    """Return what `xqg.json` says of an index; raises `UserError` where it contradicts itself."""
    said = read_json(folder / META, Described, _AGAIN)
    centers = said.centers or []
    centered = said.fusion is not None and said.fusion.center
    if centered != bool(centers) or len(set(centers)) < len(centers):
        raise UserError(f"{folder / META}: damaged (centers: not those of its fusion); {_AGAIN}")
    return said


def read_centers(folder: Path) -> tuple[dict[str, Any] | None, Centers | None]:
    """Return what `xqg.json` says of an index, and its centres where it is centred."""
    file = folder / META
    if not file.is_file():
        return None, None
    meta = read_json(file, dict[str, Any], _AGAIN)
    if meta.get("kind") == LANGUAGE_AWARE:
        checked(meta, DescribedFolder, file, _AGAIN)
        return meta, None
    said = described(folder)
    if said.centers is None:
        return meta, None
    check_sum(folder, CENTERS, meta)
    rows = np.array(open_matrix(folder / CENTERS, _AGAIN))
    shape = (len(said.centers) + 2, said.d)
    if rows.shape != shape or rows.dtype.kind != "f" or not np.isfinite(rows).all():
        raise UserError(
            f"{folder / CENTERS}: holds {rows.shape} of {rows.dtype}, or NaN or infinity; expected "
            f"{shape} of float32; {_AGAIN}"
        )
    queries = dict(zip(said.centers, rows[2:], strict=True))
    return meta, Centers(rows[0], queries, rows[1])


def sums_meta(sums: Mapping[str, Mapping[str, str]]) -> dict[str, Any]:
    """Return what `xqg.json` says of the checksums of files: by the checksum's name, then by the file's."""
    return {of: {name: of_file[of] for name, of_file in sums.items()} for of in ("sha256", "xxh3")}


def check_sum(folder: Path, name: str, meta: dict[str, Any] | None) -> None:
    """Raise `UserError` for a file of an index that has not the checksum that `meta` records: XXH3, if it has that."""
    recorded = {of: (meta or {}).get(of) or {} for of in ("xxh3", "sha256")}
    of = "xxh3" if name in recorded["xxh3"] else "sha256"
    if name not in recorded[of]:
        return
    if not (folder / name).is_file():
        raise UserError(f"{folder / name}: missing; {_AGAIN}")
    if file_sums(folder / name, of)[of] != recorded[of][name]:
        raise changed(folder / name, f"copy it again, or {_AGAIN}")


def refuse_language_aware(folder: str | Path) -> None:
    """Raise `UserError` for a language-aware folder where one index is wanted."""
    inner = language_aware(folder)
    if inner is not None:
        folders = " ".join(str(Path(folder) / name) for name in (*inner, ALL_LANGUAGES))
        raise UserError(f"{folder} is a folder of one index a language: give one of {folders}")


def language_aware(folder: str | Path) -> list[str] | None:
    """Return the languages of a language-aware folder; None for any other."""
    file = Path(folder) / META
    if not file.is_file():
        return None
    meta = read_json(file, dict[str, Any], _AGAIN)
    if meta.get("kind") != LANGUAGE_AWARE:
        return None
    languages = checked(meta, DescribedFolder, file, _AGAIN).languages
    try:
        return list(check_languages(languages))
    except UserError as error:
        raise UserError(f"{file}: {error}; {_AGAIN}") from None


def shards(folder: str | Path) -> list[Path]:
    """Return the shards that a folder holds, in their order, whole or not; none where it is no index in shards."""
    folder = Path(folder)
    return [] if (folder / INDEX).exists() else shard_folders(folder)


def parts(path: Path) -> list[Path]:
    """Return the directories that make up an index: itself, or its shards.

    `DIR/xx` of a language-aware index in shards stands for the `DIR/shard-…/xx`.  Raises `UserError` where a shard is
    missing, or they are numbered out of different totals.
    """
    inner = "" if path.is_dir() else path.name
    folder = path.parent if inner else path
    if not (found := shards(folder)):
        return [path]
    check_complete(folder)
    return [one / inner for one in found]


class LanguageIndexes:
    """Indexes of which each question's language has its own.

    `paths` maps languages to folders; None to that of all languages, which serves questions in
    any other language.  Given is a language-aware folder, or some of the folders in it.
    Raises `UserError` where one is no such folder, or two are for one language.
    """

    def __init__(self, folders: Sequence[str | Path]) -> None:
        self.folders = [Path(folder) for folder in folders]
        self.paths: dict[str | None, Path] = {}
        for folder in self.folders:
            inner = language_aware(parts(folder)[0])
            if inner is not None and len(self.folders) == 1:
                self.paths = {**{l: folder / l for l in inner}, None: folder / ALL_LANGUAGES}
                self._check_inner(inner)
                break
            if inner is not None:
                raise UserError(f"{folder}: give the language-aware folder alone, or some of the folders in it")
            languages = self._languages(folder)
            one = languages[0] if len(languages) == 1 and folder.name != ALL_LANGUAGES else None
            same = find_language(one, self.languages)
            if same is not None or one in self.paths:
                both = f"{self.paths[same]} and {folder} are both for {one or 'all languages'}"
                raise UserError(f"{both}; give one index a language")
            self.paths[one] = folder

    @property
    def languages(self) -> list[str]:
        """Return the languages that have an index of their own."""
        return [language for language in self.paths if language is not None]

    def _check_inner(self, inner: list[str]) -> None:
        for language, path in self.paths.items():
            expected = inner if language is None else [language]
            if parts(path)[0].is_dir() and self._languages(path) != expected:
                held = " ".join(self._languages(path))
                raise UserError(f"{path}: holds the queries of {held}, not of {' '.join(expected)}; {_AGAIN}")

    @staticmethod
    def _languages(folder: Path) -> list[str]:
        fusion = (read_centers(parts(folder)[0])[0] or {}).get("fusion")
        if not fusion:
            what = "does not say the languages mixed into it; several indexes are those of one language-aware index"
            raise UserError(f"{folder}: {what}")
        return list(fusion["languages"])

    def of(self, language: str | None) -> Path:
        """Return the index for questions in a language."""
        path = self.paths.get(find_language(language, self.languages), self.paths.get(None))
        if path is None:
            held = " ".join(sorted(self.languages))
            what = f"there are {held}; give that of all languages as well ({ALL_LANGUAGES})"
            raise UserError(f"no index for questions in {language!r}: {what}")
        return path
