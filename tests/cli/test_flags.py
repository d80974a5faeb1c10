"""Flags that are made of a settings dataclass, and the dataclass that is made of what was typed."""

from dataclasses import dataclass, fields

import pytest

from xqg_pyserini.cli import flags
from xqg_pyserini.settings import option


@dataclass(frozen=True)
class Baking:
    flour: str = option(help="of which grain", metavar="GRAIN")
    eggs: int = option(2, "how many")
    sugar: float = option(0.5, "a share, not more than 50 %")
    shapes: tuple[str, ...] = option(("round", "long"), "of the loaves", "round", "long", "plait")
    minutes: tuple[int, ...] = option((), "one number an oven", metavar="M")
    cold: bool = option(False, "rise in the cold")
    steam: bool = option(True, "let in steam")
    salt: bool | None = option(None, "salted (default: as the flour needs)", flag="with_salt")
    oven: str | None = option(None, "")
    baker: str = "no option"


@dataclass(frozen=True)
class Shaping:
    shapes: tuple[str, ...] = option((), "of the loaves")


def parser(**how) -> flags.Parser:
    made = flags.Parser(prog="bake")
    flags.add_settings(made, Baking, **how)
    return made


def baking(*words: str) -> Baking:
    return flags.settings_of(parser().parse_args(["--flour", "rye", *words]), Baking)


def test_without_flags_the_settings_are_the_dataclass_s_own():
    assert baking() == Baking("rye")
    args = parser().parse_args(["--flour", "rye"])
    values = {f.name: value for f in fields(Baking) if (value := vars(args).get(f.name))}
    assert values == {"flour": "rye"}  # argparse has no default of its own


@pytest.mark.parametrize(
    ("line", "expected"),
    [
        ("--eggs 0", {"eggs": 0}),
        ("--sugar 1e-1", {"sugar": 0.1}),
        ("--shapes plait", {"shapes": ("plait",)}),
        ("--shapes long plait --shapes round", {"shapes": ("round",)}),
        ("--minutes 30 40", {"minutes": (30, 40)}),
        ("--cold", {"cold": True}),
        ("--steam", {}),
        ("--no-steam", {"steam": False}),
        ("--with-salt", {"salt": True}),
        ("--no-with-salt", {"salt": False}),
        ("--oven stone", {"oven": "stone"}),
    ],
)
def test_what_is_typed_becomes_the_field(line, expected):
    assert baking(*line.split()) == Baking("rye", **expected)


@pytest.mark.parametrize(
    ("line", "message"),
    [
        ("", "the following arguments are required: --flour"),
        ("--flour rye --eggs x", "argument --eggs: invalid int value: 'x'"),
        ("--flour rye --shapes flat", "argument --shapes: invalid choice: 'flat'"),
        ("--flour rye --no-cold", "unrecognized arguments: --no-cold"),
        ("--flour rye --baker me", "unrecognized arguments: --baker me"),
    ],
)
def test_what_no_field_takes_is_one_line(line, message, capsys):
    with pytest.raises(SystemExit) as stop:
        parser().parse_args(line.split())
    assert stop.value.code == 2
    text = capsys.readouterr().err
    assert text.startswith(f"bake: error: {message}")
    assert text.endswith(" (see bake --help)\n")
    assert text.count("\n") == 1


def test_help_shows_the_dataclass_s_defaults():
    text = " ".join(parser().format_help().split())
    for part in (
        "--flour GRAIN of which grain",
        "--eggs N how many (default 2)",
        "a share, not more than 50 % (default 0.5)",
        "of the loaves (default round long)",
        "--minutes M [M ...] one number an oven",
        "--cold rise in the cold",
        "--steam, --no-steam let in steam",
        "salted (default: as the flour needs)",
        "--oven OVEN",
    ):
        assert part in text, part


def test_some_settings_only_all_but_some_and_none_required():
    names = {action.dest for action in parser(only=("eggs", "salt"))._actions}
    assert names == {"help", "eggs", "with_salt"}
    names = {action.dest for action in parser(skip=("eggs", "flour"))._actions}
    assert not names & {"eggs", "flour"}
    assert flags.typed(parser(optional=True).parse_args([]), flags.options(Baking)) == {}


def test_values_of_a_flag_that_is_typed_twice_add_up_where_asked_for():
    made = parser(extend=True, optional=True)
    for _ in range(2):  # a default that is a list must not grow
        args = made.parse_args(["--shapes", "long", "plait", "--shapes", "round"])
        assert flags.settings_of(args, Shaping) == Shaping(("long", "plait", "round"))


def test_a_switch_that_a_file_may_have_on_can_be_typed_off():
    made = flags.Parser(prog="bake")
    for each in flags.options(Baking):
        flags.add_setting(made, each._replace(required=False), negatable=True)
    args = made.parse_args(["--no-cold"])
    assert flags.typed(args, flags.options(Baking)) == {"cold": False}


def test_a_setting_may_have_a_flag_by_another_name():
    made = flags.Parser(prog="bake")
    for each in flags.options(Shaping):
        flags.add_setting(made, each, "forms")
    assert flags.settings_of(made.parse_args(["--forms", "long"]), Shaping) == Shaping(("long",))
    assert made.flag("shapes") == "--forms"


@pytest.mark.parametrize(("text", "value"), [("7", range(7, 8)), ("0-31", range(32)), ("3-3", range(3, 4))])
def test_numbers_and_ranges(text, value):
    assert flags.numbers(text) == value


@pytest.mark.parametrize("text", ["", "x", "-1", "3-1", "1-", "0-99999999", "1.5"])
def test_no_numbers(text):
    with pytest.raises(Exception, match="expected a number from 0, or a range as 0-31"):
        flags.numbers(text)


def test_flags_are_added_when_they_are_needed_and_once():
    calls = []
    lazy = flags.Parser(prog="lazy", fill=lambda made: calls.append(made.add_argument("--late")))
    assert calls == []
    assert lazy.parse_args(["--late", "x"]).late == "x"
    assert lazy.parse_args(["--late", "y"]).late == "y"
    assert len(calls) == 1
