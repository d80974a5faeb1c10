"""A study's matrix: its tasks, conditions, methods and seeds, read strictly from a YAML file.

peft-unseen.yaml is one, with comments, and README.md has all keys.
"""

from collections.abc import Mapping
from itertools import product
from pathlib import Path
from typing import Annotated, Any, Literal, Self

import yaml
from pydantic import BaseModel, ConfigDict, Field, ValidationError, model_validator

import xqg_pyserini as xqg

UNTUNED = "untuned"
HERE = Path(__file__).resolve().parent


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

    @model_validator(mode="after")
    def _trains(self) -> Self:
        settings = self.encoding | self.training | {"model": "", "data": ("",), "output": ""}
        _try(xqg.RetrieverSettings, settings)
        return self

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
    """A way of tuning: in YAML, what is not `conditions` are settings of `xqg.TuningSettings`."""

    name: str
    tuning: dict[str, Any]
    conditions: tuple[str, ...] | None = None

    @model_validator(mode="before")
    @classmethod
    def _parted(cls, entry: dict[str, Any]) -> dict[str, Any]:
        own = {key: entry.pop(key) for key in ("name", "conditions") if key in entry}
        tuning = {"method": own["name"], **entry}
        _try(xqg.TuningSettings, tuning)
        return own | {"tuning": tuning}


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
    def _named(cls, content: Any) -> Any:
        content = dict(content) if isinstance(content, Mapping) else {}
        for key in ("tasks", "conditions", "methods"):
            if isinstance(content.get(key), Mapping):
                content[key] = [{**(v or {}), "name": k} for k, v in content[key].items()]
        return content

    @model_validator(mode="after")
    def _fits(self) -> Self:
        conditions, methods = ([p.name for p in ps] for ps in (self.conditions, self.methods))
        source, controls = self.search.source, self.tables.controls
        for where, names, known in (
            ("tables: reference", [self.tables.reference], methods),
            ("tables: controls", [*controls, *controls.values()], methods),
            ("search: from", source, self.places),
            ("search: from", source.values(), self.places.keys() - source),
            *((p.name, p.conditions or (), conditions) for p in (*self.tasks, *self.methods)),
        ):
            for name in names:
                if name not in known:
                    raise ValueError(f"{where}: {name!r}; expected one of {', '.join(known)}")
        return self

    @property
    def places(self) -> dict[str, tuple[Task, Condition]]:
        """The tasks under the conditions, by "TASK/CONDITION"."""
        return {f"{t.name}/{c.name}": (t, c) for t, c in product(self.tasks, self.conditions)}


def _try(settings: Any, values: Mapping[str, Any]) -> None:
    try:
        settings(**values)
    except (TypeError, xqg.UserError) as error:
        raise ValueError(str(error)) from None


def read_matrix(name: str | Path) -> Matrix:
    """Read a matrix file, or the one of that name here; raises `UserError` for what is wrong."""
    path = HERE / f"{name}.yaml"
    path = path if path.is_file() else Path(name)
    if not path.is_file():
        names = ", ".join(sorted(file.stem for file in HERE.glob("*.yaml")))
        raise xqg.UserError(f"{name}: neither a file nor a matrix of this study ({names})")
    try:
        return Matrix.model_validate(yaml.safe_load(path.read_text("utf-8")))
    except (OSError, UnicodeDecodeError, yaml.YAMLError) as error:
        raise xqg.UserError(f"{path}: {' '.join(str(error).split())}") from None
    except ValidationError as error:
        first = error.errors()[0]
        where = "".join(f"{part}: " for part in first["loc"])
        raise xqg.UserError(f"{path}: {where}{first['msg']} ({first['input']!r:.40})") from None
