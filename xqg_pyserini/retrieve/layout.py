"""What an index is on disk: a directory that Pyserini's search commands read, and what is added.

    index, docid     Faiss's own file, and an id a line
    xqg.json         ours: encoder, fusion, checksums of the stores
    centers.npy      ours, where the index is centred

A language-aware index is a folder of such directories, one a language, and one for all languages.
"""

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

from xqg_pyserini.errors import UserError
from xqg_pyserini.fusion.formula import Centers

INDEX, DOCID, META, CENTERS = "index", "docid", "xqg.json", "centers.npy"
ALL_LANGUAGES, LANGUAGE_AWARE = "all-languages", "language-aware"  # no language's code is like the former


def write_centers(folder: Path, centers: Centers) -> None:
    """Write the means of passages and queries beside an index."""
    rows = [centers.passages, centers.pooled, *centers.queries.values()]
    np.save(folder / CENTERS, np.stack(rows), allow_pickle=False)


def read_centers(folder: Path) -> tuple[dict[str, Any] | None, Centers | None]:
    """Return what `xqg.json` says of an index, and its centres where it is centred."""
    file = folder / META
    if not file.is_file():
        return None, None
    try:
        meta = json.loads(file.read_text("utf-8"))
        if not {"n", "d", "encoder"} <= set(meta):
            raise ValueError("n, d or encoder is missing")
        languages = meta.get("centers")
        if languages is None:
            return meta, None
        rows = np.load(folder / CENTERS, allow_pickle=False)
        if rows.shape != (len(languages) + 2, meta["d"]):
            raise ValueError(f"{CENTERS} has the shape {rows.shape}")
        if not np.isfinite(rows).all():
            raise ValueError(f"{CENTERS} holds NaN or infinity")
    except (ValueError, OSError, KeyError, AttributeError, TypeError, EOFError) as error:
        raise UserError(f"{file}: damaged ({error}); build the index again") from None
    return meta, Centers(rows[0], dict(zip(languages, rows[2:], strict=True)), rows[1])


def refuse_language_aware(folder: str | Path) -> None:
    """Raise `UserError` for a language-aware folder where one index is wanted."""
    inner = language_aware(folder)
    if inner is not None:
        folders = " ".join(str(Path(folder) / name) for name in (*inner, ALL_LANGUAGES))
        raise UserError(f"{folder} is a folder of one index a language: give one of {folders}")


def language_aware(folder: str | Path) -> list[str] | None:
    """Return the languages of a language-aware folder; None for any other."""
    try:
        meta = json.loads((Path(folder) / META).read_text("utf-8"))
        if meta.get("kind") != LANGUAGE_AWARE:
            return None
        if not meta["languages"]:
            raise TypeError("it names no languages")
        return [str(language) for language in meta["languages"]]
    except (OSError, ValueError, AttributeError):
        return None
    except (KeyError, TypeError) as error:
        raise UserError(f"{Path(folder) / META}: damaged ({error}); build the index again") from None


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
            inner = language_aware(folder)
            if inner is not None and len(self.folders) == 1:
                self.paths = {**{l: folder / l for l in inner}, None: folder / ALL_LANGUAGES}
                break
            if inner is not None:
                raise UserError(f"{folder}: give the language-aware folder alone, or some of the folders in it")
            fusion = (read_centers(folder)[0] or {}).get("fusion")
            if not fusion:
                what = "does not say the languages mixed into it; several indexes are those of one language-aware index"
                raise UserError(f"{folder}: {what}")
            languages = fusion["languages"]
            one = languages[0] if len(languages) == 1 and folder.name != ALL_LANGUAGES else None
            if one in self.paths:
                both = f"{self.paths[one]} and {folder} are both for {one or 'all languages'}"
                raise UserError(f"{both}; give one index a language")
            self.paths[one] = folder

    def of(self, language: str | None) -> Path:
        """Return the index for questions in a language."""
        path = self.paths.get(language, self.paths.get(None))
        if path is None:
            held = " ".join(sorted(filter(None, self.paths)))
            what = f"there are {held}; give that of all languages as well ({ALL_LANGUAGES})"
            raise UserError(f"no index for questions in {language!r}: {what}")
        return path
