"""A study's matrix: its tasks, conditions, methods and seeds, read strictly from a YAML file.

peft-unseen.yaml is one, with comments, and README.md has all keys.
"""

from itertools import product
from pathlib import Path
from typing import Annotated, Any, Literal, Self

import yaml
from pydantic import BaseModel, ConfigDict, Field, ValidationError, model_validator

import xqg_pyserini as xqg

UNTUNED = "untuned"


class Part(BaseModel):
    """A part of a matrix file, in which a key that is not known is an error."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    def dump(self, **options: Any) -> dict[str, Any]:
        """Return the settings as JSON has them."""
        return self.model_dump(mode="json", **options)


class Search(Part):
    """Short trainings, one for each rate; `source` (from): whose choice is taken over."""

    learning_rates: tuple[float, ...] = Field(min_length=1)
    max_steps: int
    seed: int = 0
    source: dict[str, str] = Field({}, alias="from")


class Task(Part):
    """What every task has; `encoding` and `training` are settings of `xqg.RetrieverSettings`."""

    name: str
    seen: tuple[str, ...] = Field(min_length=1)  # languages that are trained on
    unseen: tuple[str, ...]  # only tested
    test: int = Field(ge=1)  # questions a language
    validation: int = Field(ge=1)
    seed: int = 0
    conditions: tuple[str, ...] | None = None  # in which models are trained; None: all
    encoding: dict[str, Any]
    training: dict[str, Any]
    all_candidates: tuple[int, ...] = ()  # seeds that are scored among all English questions too

    @property
    def languages(self) -> tuple[str, ...]:
        """All languages that are tested."""
        return self.seen + self.unseen


class Translations(Task):
    """XOR-TyDi: a question has to find its English translation."""

    kind: Literal["translations"]
    train: int  # pairs a language
    unlabelled: int  # other questions a language, for centring
    neighbours: dict[Literal["backbone", "lexical"], int]

    @property
    def files(self) -> list[str]:
        """The files that it reads, for each language the foreign and the English side."""
        folder = "xor-tydi/question-translations"
        return [f"{folder}/{l}-en.{side}.txt" for l in self.languages for side in (l, "en")]


class Xquad(Task):
    """XQuAD: a question has to find the English passage that it was asked about."""

    kind: Literal["xquad"]
    validation_share: float = 0.25  # of the training half's articles
    beta: float = 0.3  # own-language fusion without centring
    beta_centered: float = 0.2  # and with it

    @property
    def files(self) -> list[str]:
        """The files that it reads, English first."""
        return [f"xquad/xquad.{l}.json" for l in ("en", *self.languages)]


class Condition(Part):
    """A backbone: as it is (0), or with its last layers initialised anew."""

    name: str
    reinitialise: int = 0
    seed: int = 0


class Method(Part):
    """A way of tuning: `tuning` are settings of `xqg.TuningSettings`."""

    name: str
    tuning: dict[str, Any]
    conditions: tuple[str, ...] | None = None


class Perturbation(Part):
    """A way in which test questions are spoilt (docs/perturb.md)."""

    kind: Literal["typos", "script", "code-switch"]
    rate: float = Field(gt=0, le=1)


class Tables(Part):
    """How results are summarised: none of it changes a cell."""

    reference: str = "full"  # all methods are compared with it
    controls: dict[str, str] = {}  # a method → one that it is compared with besides
    bootstrap: int = 2000
    draws: int = 10_000
    level: float = 0.05
    seed: int = 42


class Matrix(Part):
    """A study, as its file says; there, tasks, conditions and methods are keyed by name."""

    name: str
    seeds: tuple[int, ...] = Field(min_length=1)
    tasks: tuple[Annotated[Translations | Xquad, Field(discriminator="kind")], ...]
    conditions: tuple[Condition, ...] = (Condition(name="as-is"),)
    methods: tuple[Method, ...] = Field(min_length=1)
    search: Search
    perturbations: dict[str, Perturbation] = {}
    tables: Tables = Tables()
    keep: bool = False  # the trained weights
    device: str = "auto"

    @model_validator(mode="before")
    @classmethod
    def _named(cls, content: dict[str, Any]) -> dict[str, Any]:
        """In the file, what a method has besides `conditions` is its tuning."""
        for key in {"tasks", "conditions", "methods"} & set(content):
            content[key] = [{"name": k, **(v or {})} for k, v in content[key].items()]
        for method in content.get("methods", ()):
            rest = {key: method.pop(key) for key in set(method) - {"name", "conditions"}}
            method["tuning"] = {"method": method["name"], **rest}
        return content

    @model_validator(mode="after")
    def _fits(self) -> Self:
        """Refuse names that are none of the matrix's own, and settings that do not train."""
        conditions, methods = ([p.name for p in ps] for ps in (self.conditions, self.methods))
        source, controls = self.search.source, self.tables.controls
        for where, names, known in (
            ("tables: reference", [self.tables.reference], methods),
            ("tables: controls", [*controls, *controls.values()], methods),
            ("search: from", source, self.places),
            ("search: from", source.values(), self.places.keys() - source),
            *((p.name, p.conditions or (), conditions) for p in (*self.tasks, *self.methods)),
        ):
            for name in set(names) - set(known):
                raise ValueError(f"{where}: {name!r}; expected one of {', '.join(known)}")
        place = {"model": "", "data": ("",), "output": ""}
        tried = [(t, xqg.RetrieverSettings, place | t.encoding | t.training) for t in self.tasks]
        for part, cls, settings in (*tried, *((m, xqg.TuningSettings, m.tuning) for m in self.methods)):
            try:
                cls(**settings)
            except (TypeError, xqg.UserError) as error:
                raise ValueError(f"{part.name}: {error}") from None
        return self

    @property
    def places(self) -> dict[str, tuple[Task, Condition]]:
        """The tasks under the conditions, by "TASK/CONDITION"."""
        return {f"{t.name}/{c.name}": (t, c) for t, c in product(self.tasks, self.conditions)}


def read_matrix(path: Path) -> Matrix:
    """Read a matrix file; raises `UserError` for what is wrong in it."""
    try:
        return Matrix.model_validate(dict(yaml.safe_load(path.read_text("utf-8"))))
    except (OSError, ValueError, TypeError, AttributeError, yaml.YAMLError) as error:
        text = " ".join(str(error).split())
        if isinstance(error, ValidationError):
            first = error.errors()[0]
            text = "".join(f"{part}: " for part in first["loc"]) + first["msg"]
            text += f" ({first['input']!r:.40})"
        raise xqg.UserError(f"{path}: {text}") from None
