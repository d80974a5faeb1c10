"""Generated queries → an alignment: one streaming pass, or none where moments were kept.

The arithmetic is `fusion.alignment`'s, the sums are `stores.moments`'; what an alignment will bring, and so which λ is
taken, is `held_out`'s.
"""

import json
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from functools import partial
from itertools import chain
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import numpy as np
from msgspec import Struct, to_builtins

from xqg_pyserini import stores
from xqg_pyserini.data import check_languages
from xqg_pyserini.errors import UserError, warn
from xqg_pyserini.files import file_sha256, write_json
from xqg_pyserini.fusion.alignment import ALIGNMENT, CENTERS, FORMAT, MATRICES, Alignment, align_moments, covariances
from xqg_pyserini.metadata import read_json
from xqg_pyserini.models.encoder import Encoder, same_encoder
from xqg_pyserini.models.engines import Computing
from xqg_pyserini.retrieve.accumulate import Learning, Placing, QuerySource, encode_records, warn_left_out
from xqg_pyserini.retrieve.held_out import RIDGES, chosen_ridge, estimated
from xqg_pyserini.retrieve.merge import write_whole
from xqg_pyserini.retrieve.sharding import Replacing, WrittenShards, write_shards
from xqg_pyserini.settings import check_values, option
from xqg_pyserini.stores import QueryStore, Shard, ShardSettings, VectorStore
from xqg_pyserini.stores.moments import MOMENTS, SAMPLE, Moments

LEADING = (1, 10)  # directions whose share of what is left is said
_AGAIN = "make it again"


@dataclass(frozen=True)
class AlignSettings:
    """How an alignment is learnt; each field's help says what it is.

    Raises:
        UserError: for a value that the field does not take, a ridge where only centring is asked for.
    """

    shrink: float = option(300.0, "pairs that the covariance of all languages counts as in each", least=0, metavar="K")
    ridge: float | None = option(
        None,
        "how near to centring alone; default: 5, or 10, 20 or centring alone where held-out passages find them clearly "
        "better",
        above=0,
        metavar="LAMBDA",
    )
    center_only: bool = option(False, "take away each language's mean, and turn nothing")
    languages: tuple[str, ...] | None = option(None, "languages to learn from (default: all)", metavar="xx")
    sample: int = option(SAMPLE, "passages kept to try what was learnt", least=0, metavar="N")
    skip_unknown: bool = option(False, "leave out queries for passages that are not there")

    def __post_init__(self) -> None:
        check_values(self)
        if self.languages is not None:
            check_languages(self.languages)
        if self.center_only and self.ridge is not None:
            raise UserError("a ridge serves what is turned, and centring alone turns nothing", ("ridge", "center_only"))


def align(
    queries: str | Path | QueryStore | Alignment | Sequence[str | Path | QueryStore | Alignment],
    passages: str | Path | VectorStore | None = None,
    output: str | Path | None = None,
    settings: AlignSettings | None = None,
    *,
    encoder: Encoder | str | None = None,
    overwrite: bool = False,
    repair: bool = False,
    cluster: str | None = None,
) -> Alignment:
    """Learn from generated queries what puts questions right: see `fusion.alignment.align_moments`.

    Args:
        queries: generated queries (a file, directory or pattern), each encoded once in this pass; or query stores that
            keep moments (all shards of one too), or alignments, which are added up without any encoding; or several of
            these.
        passages: the passage store of the queries; not needed where nothing is encoded.
        output: the folder to write; None for one that goes with the object (`Alignment.save` keeps it).
        settings: shrinkage, ridge, languages, sample.
        encoder: of the passages, where it is at hand; another is refused.
        overwrite: replace what `output` holds.
        repair: replace what `output` holds of this same job if it is damaged, and say what is; whole, it stays.
        cluster: "ray" or "ray:ADDRESS": have a cluster encode generated queries (`merge.write_whole`).

    A killed job goes on where it was and gives the same; what it gives depends on the order of records, shards and
    parts within n·2⁻⁵³ only (`stores.moments.Moments`).

    Raises:
        UserError: as `accumulate_queries`; for a store that keeps no moments, encoders that differ, or the same file
            of queries in two parts.
    """
    if cluster is not None:
        return _align_on(cluster, queries, passages, output, settings, encoder, Replacing(overwrite, repair))
    aligning = _Aligning(queries, passages, settings, encoder)
    if output is not None:
        aligning.write(Path(output), Replacing(overwrite, repair))
        return Alignment(output)
    folder = TemporaryDirectory(prefix="xqg-align-")
    aligning.write(Path(folder.name) / "alignment", Replacing())
    made = Alignment(Path(folder.name) / "alignment")
    made.folder = folder
    return made


def align_shards(
    queries: str | Path,
    passages: str | Path | VectorStore,
    output: str | Path,
    shards: ShardSettings,
    settings: AlignSettings | None = None,
    *,
    encoder: Encoder | str | None = None,
    overwrite: bool = False,
    repair: bool = False,
) -> WrittenShards:
    """Learn from the queries of some shards of the passages, or of all, each into an alignment of its own in `output`.

    Given all of them, or their folder, `align` adds them up to the alignment of all queries.  A shard that stands there
    whole stays.

    Raises:
        UserError: as `align`; for a shard whose passages have no queries, one of another job, or a damaged one without
            `repair`.
    """
    aligning = _Aligning(queries, passages, settings, encoder)
    replacing = Replacing(overwrite, repair, shards.on_the_way)
    if aligning.source is None or aligning.store is None:
        about = "cluster" if shards.on_the_way else "num_shards"
        raise UserError("shards are of queries that are encoded; what keeps moments is added up at once", about)
    return write_shards(output, shards, aligning.store.n, aligning.store.meta["ids_sha256"], aligning, replacing)


def _align_on(
    cluster: str,
    queries: Any,
    passages: str | Path | VectorStore | None,
    output: str | Path | None,
    settings: AlignSettings | None,
    encoder: Encoder | str | None,
    replacing: Replacing,
) -> Alignment:
    """Have a cluster learn in shards of the passages, and add up what it learnt."""
    if output is None:
        raise UserError("a cluster writes where all its machines see it: give an output", "output")
    given = [queries] if isinstance(queries, str | Path | QueryStore | Alignment) else list(queries)
    if len(given) > 1 or not isinstance(given[0], str | Path) or passages is None:
        raise UserError("a cluster takes generated queries, given once, with their passages", "cluster")

    def join(parts: list[Path], output: str | Path, overwrite: bool) -> Alignment:
        return align(list(parts), None, output, settings, overwrite=overwrite)

    write = partial(align_shards, given[0], passages, settings=settings, encoder=encoder)
    path = passages.path if isinstance(passages, VectorStore) else passages
    made: Alignment = write_whole(output, write, cluster, replacing, [given[0], path], join)
    return made


class _NothingToLearn(UserError):
    """A shard has no query."""


class _Aligning:
    """What is learnt from, and how."""

    def __init__(
        self,
        queries: str | Path | QueryStore | Alignment | Sequence[str | Path | QueryStore | Alignment],
        passages: str | Path | VectorStore | None,
        settings: AlignSettings | None,
        encoder: Encoder | str | None,
    ) -> None:
        self.settings = settings = settings or AlignSettings()
        self.store = store = VectorStore(passages) if isinstance(passages, str | Path) else passages
        parts, texts = _opened([queries] if isinstance(queries, str | Path | QueryStore | Alignment) else queries)
        self.parts = parts
        self.source = QuerySource(texts, settings.languages) if texts is not None else None
        if self.source is not None and store is None:
            raise UserError(f"{texts}: queries are encoded beside their passages; give the passage store", "passages")
        _check_parts(store, parts, self.source)
        self.placing: Placing | None = None
        if self.source is not None and store is not None:
            encoder = Encoder.for_store(store, encoder)
            self.placing = Placing(self.source, store, settings.skip_unknown)
        elif encoder is not None:
            Encoder.for_store(parts[0], encoder)
        self.encoder = encoder

    @property
    def computing(self) -> Computing:
        return self.encoder.computing if isinstance(self.encoder, Encoder) else Computing(device="cpu")

    def prepare(self, device: str, folder: Path) -> None:
        """Check all records."""
        assert isinstance(self.encoder, Encoder) and self.placing is not None
        self.encoder = self.encoder.for_cluster(device)
        _ = self.placing.checked  # is kept

    def write(self, output: Path, replacing: Replacing, shard: Shard | None = None) -> bool:
        """Write the alignment of all queries, or of a shard's; tell whether it had to be.

        On the way to a whole, a shard that has no query is none.
        """
        try:
            return self._write(output, replacing, shard)
        except _NothingToLearn:
            if not replacing.on_the_way:
                raise
            return False

    def _write(self, output: Path, replacing: Replacing, shard: Shard | None) -> bool:
        settings, parts, source, store = self.settings, self.parts, self.source, self.store
        said = to_builtins(shard)
        if replacing.stands(output, ALIGNMENT, partial(self._expected, said), shard):
            return False
        job: dict[str, Any] = {"stage": "align", "languages": settings.languages, "sample": settings.sample}
        job |= {"parts": [part.moments and part.moments.sha256 for part in parts], "shard": said}
        if source is not None:
            assert store is not None and isinstance(self.encoder, Encoder)
            job |= {"encoder": repr(self.encoder.settings), "how": [*self.encoder.how, settings.skip_unknown]}
            job |= {"sources": source.identity(), "passages": [store.meta[k] for k in ("ids_sha256", "vectors_sha256")]}
        inputs = [*(part.path for part in parts), *(source.inputs if source else ()), *([store.path] if store else ())]
        with stores.resumable(output, job, replacing.allowed, inputs) as part:
            numbers, encoded = [_numbers(each) for each in parts], list[Moments]()
            description: Any = parts[0].encoder if parts else None
            if self.placing is not None:
                assert store is not None and isinstance(self.encoder, Encoder)
                self.placing.begin(part)
                encoder = self.encoder.going_on(part.state)
                description = encoder.describe("query")
                learning = Learning(part, store, part.begin(description), settings.sample)
                rows = shard.rows if shard else range(store.n)
                encode_records(self.placing, rows, encoder, part, [learning])
                encoded.append(learning.moments)
                numbers.append(learning.moments.numbers)
            precisions = {str((each or {}).get("precision")) for each in (*(p.encoder for p in parts), description)}
            if len(precisions) > 1:
                warn(f"queries encoded in {' and in '.join(sorted(precisions))} are learnt from together")
            if shard is not None and not any(numbers[0].values()):
                what = f"{shard} has no query to learn from"
                raise _NothingToLearn(f"{what}; take fewer shards", "num_shards")
            languages = None if shard else settings.languages  # a shard may lack some, and its records hold no others
            every = Moments.holding(numbers, languages, (store or parts[0]).d, settings.sample)
            for one in chain((_moments(each, settings.sample) for each in parts), encoded):
                every.merge(one)  # one after the other: not all can be held
            sources = [*_distinct(chain(*map(_sources, parts))), *(source.describe() if source else ())]
            _write(part.path, every, settings, description, sources, said)
            state = part.state
        if store is not None and self.placing is not None:
            warn_left_out(state, store, shard)
        return True

    def _expected(self, shard: dict[str, Any] | None) -> dict[str, Any]:
        """Return what is recorded of an alignment, of what is known before it is learnt."""
        sources = [*_distinct(chain(*map(_sources, self.parts))), *(self.source.describe() if self.source else ())]
        expected: dict[str, Any] = {"kind": "alignment", "sources": sources, "shrink": self.settings.shrink}
        if isinstance(self.encoder, Encoder):
            expected["encoder"] = self.encoder.expected
        return expected | {"shard": shard}


# ---------------------------------------------------------------- what is learnt from


class _Kind(Struct):
    kind: str | None = None


def _opened(
    given: Iterable[str | Path | QueryStore | Alignment],
) -> tuple[list[QueryStore | Alignment], str | Path | None]:
    """Return the stores and alignments among what is given, and the generated queries."""
    parts: list[QueryStore | Alignment] = []
    texts: list[str | Path] = []
    for each in chain.from_iterable(map(_shards, given)):
        if isinstance(each, QueryStore | Alignment):
            parts.append(each)
        elif (Path(each) / ALIGNMENT).is_file():
            parts.append(Alignment(each))
        elif (file := Path(each) / stores.META).is_file() and read_json(file, _Kind, _AGAIN).kind == stores.QUERY_SUMS:
            parts.append(QueryStore(each))
        else:
            texts.append(each)
    if len(texts) > 1:
        what = f"{texts[0]} and {texts[1]}: generated queries are one file, directory or pattern"
        raise UserError(f"{what}; align each, and then both alignments together", "queries")
    if not parts and not texts:
        raise UserError("no queries to learn from", "queries")
    return parts, texts[0] if texts else None


def _shards(given: str | Path | QueryStore | Alignment) -> Sequence[str | Path | QueryStore | Alignment]:
    """Return the shards that a folder of them stands for; of anything else that itself."""
    if isinstance(given, QueryStore | Alignment) or not (shards := stores.shard_folders(Path(given))):
        return [given]
    stores.check_complete(Path(given))
    return list(shards)


def _check_parts(
    store: VectorStore | None, parts: Sequence[QueryStore | Alignment], source: QuerySource | None
) -> None:
    """Raise `UserError` for parts that keep no moments, are of different encoders, or hold the same queries."""
    seen: dict[str, list[tuple[Any, Any]]] = {}
    for part in parts:
        if part.moments is None:
            raise UserError(f"{part.path} keeps no moments; accumulate again with moments", "moments")
        first = store or parts[0]
        if part.d != first.d:
            raise UserError(
                f"{part.path} has {part.d} dimensions, {first.path} has {first.d}; use one encoder for both"
            )
        same_encoder(first, part)
    described = [(part.path, _sources(part), part.meta.get("shard")) for part in parts]
    for path, files, shard in [*described, *([(source.inputs[0], source.describe(), None)] if source else [])]:
        for file in files:
            for other, others in seen.setdefault(file["sha256"], []):
                if other is not path and not _apart(shard, others):
                    raise UserError(f"{other} and {path} hold the same queries ({file['name']}); give one of them")
            seen[file["sha256"]].append((path, shard))


def _sources(part: QueryStore | Alignment) -> list[dict[str, Any]]:
    return list(part.meta.get("sources", ()))


def _apart(shard: dict[str, Any] | None, other: dict[str, Any] | None) -> bool:
    """Tell whether two parts are shards of one whole: of the same files, the queries of different passages."""
    if shard is None or other is None or shard["number"] == other["number"]:
        return False
    return {**shard, "number": None} == {**other, "number": None}


def _distinct(files: Iterable[dict[str, Any]]) -> list[dict[str, Any]]:
    """Return each file once: shards name the same."""
    return list({json.dumps(file): file for file in files}.values())


def _numbers(part: QueryStore | Alignment) -> dict[str, int]:
    assert part.moments is not None
    return {language: sum(part.moments.pairs.get(language, ())) for language in part.moments.languages}


def _moments(part: QueryStore | Alignment, sample: int) -> Moments:
    assert part.moments is not None
    return Moments.open(part.path / MOMENTS, part.moments, part.d, sample)


# ---------------------------------------------------------------- what comes of it


def _write(
    folder: Path,
    moments: Moments,
    settings: AlignSettings,
    encoder: dict[str, Any],
    sources: list[dict[str, Any]],
    shard: dict[str, Any] | None,
) -> None:
    """Fill an alignment's folder."""
    ridges = () if settings.center_only else RIDGES if settings.ridge is None else (settings.ridge,)
    estimate = estimated(moments, settings.shrink, ridges)
    if settings.center_only:
        ridge, chosen = None, "centring alone, as asked for"
    else:
        ridge, chosen = chosen_ridge(estimate) if settings.ridge is None else (settings.ridge, "given")
    centers, turns = align_moments(moments.sums(), settings.shrink, ridge)
    np.save(folder / CENTERS, centers.astype(np.float32))
    (folder / MATRICES).unlink(missing_ok=True)  # of a killed try with another ridge
    if turns is not None:
        np.save(folder / MATRICES, turns.astype(np.float32))
    meta: dict[str, Any] = {"format": FORMAT, "kind": "alignment", "d": moments.d, "encoder": encoder}
    meta |= {"languages": moments.languages, "pairs": dict(zip(moments.languages, _pairs(moments), strict=True))}
    meta |= {"shrink": settings.shrink, "ridge": ridge, "chosen": chosen}
    meta |= {"geometry": _geometry(moments), "estimate": estimate, MOMENTS: moments.save(folder / MOMENTS)}
    names = [CENTERS] if turns is None else [CENTERS, MATRICES]
    meta |= {"sha256": {name: file_sha256(folder / name) for name in names}, "sources": sources}
    write_json(folder / ALIGNMENT, meta | ({} if shard is None else {"shard": shard}))


def _pairs(moments: Moments) -> list[int]:
    return moments.pairs.sum(axis=1).tolist()


def _geometry(moments: Moments) -> dict[str, Any]:
    """Return what share of the queries' variance is language, and for each what is left beside its passages."""
    sums = moments.sums()
    n = sums.pairs
    means, mean = sums.queries / n[:, None], sums.queries.sum(axis=0) / n.sum()
    total = moments.squares.sum() / n.sum() - mean @ mean
    between = (n / n.sum()) @ ((means - mean) ** 2).sum(axis=1)
    languages = {}
    for i, own in enumerate(covariances(sums)):
        values = np.linalg.eigvalsh(own)[::-1].clip(min=0)
        left = float(values.sum())
        languages[moments.languages[i]] = {
            "distance": float(np.linalg.norm(means[i] - sums.passages[i] / n[i])),
            "left": left,
            "leading": [float(values[:k].sum()) / left if left else 0.0 for k in LEADING],
        }
    return {"language_share": float(between / total) if total > 0 else 0.0, "languages": languages}
