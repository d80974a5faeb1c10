"""A study's matrix: its tasks, conditions, methods and seeds, read strictly from a YAML file.

peft-unseen.yaml is one, with comments.  A key that is not known is an error.
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
    """A part of a matrix file."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    def dump(self, **options: Any) -> dict[str, Any]:
        """Return the settings as JSON has them."""
        return self.model_dump(mode="json", **options)


class Search(Part):
    """Short trainings, one for each rate, scored by MRR@10 on validation questions.

    `source` (in YAML: from) maps "TASK/CONDITION" to the one whose choice is taken over.
    """

    learning_rates: tuple[float, ...] = Field(min_length=1)
    max_steps: int
    seed: int = 0
    source: dict[str, str] = Field({}, alias="from")


class Task(Part):
    """What every task has; `encoding` and `training` are settings of `xqg.RetrieverSettings`.

    `seen` languages are trained on, `unseen` ones only tested; `test` and `validation` are
    questions a language.  Only the backbones in `conditions` are trained, all if None.
    """

    name: str
    seen: tuple[str, ...] = Field(min_length=1)
    unseen: tuple[str, ...]
    test: int = Field(200, ge=1)
    validation: int = Field(50, ge=1)
    seed: int = 0
    conditions: tuple[str, ...] | None = None
    encoding: dict[str, Any]
    training: dict[str, Any]
    all_candidates: tuple[int, ...] = ()

    @model_validator(mode="after")
    def _trains(self) -> Self:
        _try(
            xqg.RetrieverSettings, model="", data=("",), output="", **self.encoding, **self.training
        )
        return self

    @property
    def languages(self) -> tuple[str, ...]:
        """All languages that are tested."""
        return self.seen + self.unseen


class Translations(Task):
    """XOR-TyDi: a question has to find its English translation.

    `train` pairs and `unlabelled` questions (for centring) a language; wrong `neighbours` of a
    question; `all_candidates` are the seeds whose cells are also scored among all English
    questions: if there are any, so are the untuned backbones.
    """

    kind: Literal["translations"]
    train: int = 1000
    unlabelled: int = 200
    neighbours: dict[Literal["backbone", "lexical"], int] = {"backbone": 5, "lexical": 5}

    @property
    def files(self) -> list[str]:
        """The files that it reads, for each language the foreign and the English side."""
        folder = "xor-tydi/question-translations"
        return [f"{folder}/{l}-en.{side}.txt" for l in self.languages for side in (l, "en")]


class Xquad(Task):
    """XQuAD: a question has to find the English passage that it was asked about.

    `validation_share` of the training half's articles is held out for the search.  The weights of
    own-language fusion are fixed, without and with centring.
    """

    kind: Literal["xquad"]
    validation_share: float = 0.25
    beta: float = 0.3
    beta_centered: float = 0.2

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
        _try(xqg.TuningSettings, **tuning)
        return own | {"tuning": tuning}


class Perturbation(Part):
    """A way in which test questions are spoilt (docs/perturb.md)."""

    kind: Literal["typos", "script", "code-switch"]
    rate: float = Field(gt=0, le=1)


class Tables(Part):
    """How results are summarised: none of it changes a cell.

    All methods are compared with `reference`; `controls` maps a method to one of its own.
    """

    reference: str = "full"
    controls: dict[str, str] = {}
    bootstrap: int = 2000
    draws: int = 10_000
    level: float = 0.05
    seed: int = 42


class Matrix(Part):
    """A study, as its file says; in the file, tasks, conditions and methods are keyed by name."""

    name: str
    seeds: tuple[int, ...] = Field(min_length=1)
    tasks: tuple[Annotated[Translations | Xquad, Field(discriminator="kind")], ...]
    conditions: tuple[Condition, ...] = (Condition(name="as-is"),)
    methods: tuple[Method, ...] = Field(min_length=1)
    search: Search
    perturbations: dict[str, Perturbation] = {}
    tables: Tables = Tables()
    keep: bool = False
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
            ("search: from", source.values(), [p for p in self.places if p not in source]),
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


def _try(settings: Any, **values: Any) -> None:
    try:
        settings(**values)
    except (TypeError, xqg.UserError) as error:
        raise ValueError(str(error)) from None


def read_matrix(name: str | Path) -> Matrix:
    """Read a matrix file, or the one of that name here; raises `UserError` for what is wrong."""
    path = Path(name) if Path(name).is_file() else HERE / f"{name}.yaml"
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
