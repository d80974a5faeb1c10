"""A study's matrix, read strictly from a YAML file; README.md has all keys."""

from itertools import product
from pathlib import Path
from typing import Annotated, Any, ClassVar, Literal, Self

import yaml
from generator.make_collections import AFRIQA
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

    @property
    def files(self) -> list[str]:
        """The files that it reads, for each language the foreign and the English one."""
        return [pattern.format(l) for l in self.languages for pattern in self.patterns]


class Translations(Task):
    """XOR-TyDi: a question has to find its English translation."""

    folder: ClassVar = "xor-tydi/question-translations"
    patterns: ClassVar = (folder + "/{0}-en.{0}.txt", folder + "/{0}-en.en.txt")
    kind: Literal["translations"]
    train: int  # pairs a language
    unlabelled: int  # other questions a language, for centring
    neighbours: dict[Literal["backbone", "lexical"], int]


class Xquad(Task):
    """XQuAD: a question has to find the English passage that it was asked about."""

    patterns: ClassVar = ("xquad/xquad.{}.json", "xquad/xquad.en.json")
    kind: Literal["xquad"]
    validation_share: float = 0.25  # of the training half's articles
    beta: float = 0.3  # own-language fusion without centring
    beta_centered: float = 0.2  # and with it


class Afriqa(Task):
    """AfriQA: a question has to find the English passage that it was asked about, none of which is trained on."""

    kind: Literal["afriqa"]
    validation_share: float = 0.15  # of the training half's articles
    ridge: float = 5.0  # λ of alignment
    shrink: float = 300.0  # and k

    @property
    def files(self) -> list[str]:
        """All files of its languages: there are three splits, and of Swahili the test questions alone."""
        splits = {l: ("test",) if l == "sw" else ("dev", "test", "train") for l in self.languages}
        codes = {language: code for code, language in AFRIQA.items()}
        name = "afriqa/gold_passages/gold_span_passages.afriqa.{}.en.{}.json"
        return [name.format(codes.get(l, l), split) for l in self.languages for split in splits[l]]


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
    tasks: tuple[Annotated[Translations | Xquad | Afriqa, Field(discriminator="kind")], ...]
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
        base = {"model": "", "data": ("",), "output": ""}
        try:
            for task in self.tasks:
                xqg.RetrieverSettings(**base, **task.encoding, **task.training)
            for method in self.methods:
                xqg.TuningSettings(**method.tuning)
        except (TypeError, xqg.UserError) as error:
            raise ValueError(str(error)) from None
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
            text += "" if isinstance(first["input"], dict) else f" ({first['input']!r:.40})"
        raise xqg.UserError(f"{path}: {text}") from None
