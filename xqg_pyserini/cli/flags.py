"""Flags: the parser, flags that are made of settings dataclasses, how values are read."""

import argparse
import importlib.resources
import json
import sys
import warnings
from collections.abc import Callable, Collection, Iterable
from typing import Any, NoReturn, TypeVar

from xqg_pyserini.errors import UserError
from xqg_pyserini.settings import Option, options

Flags = argparse.ArgumentParser | argparse._ArgumentGroup
S = TypeVar("S")


def help_text(name: str) -> str | None:
    """Return what stands below a command's help: resources/help/NAME.txt, where there is one."""
    file = importlib.resources.files("xqg_pyserini.resources") / "help" / f"{name}.txt"
    return file.read_text("utf-8").removesuffix("\n") if file.is_file() else None


def _formatter(prog: str) -> argparse.HelpFormatter:
    return argparse.RawDescriptionHelpFormatter(prog, max_help_position=28)


class Parser(argparse.ArgumentParser):
    """Argparse with errors of one line, and flags that are added when they are needed.

    What it parses has `parser`: of parsers in parsers, the innermost one.
    """

    def __init__(self, *, fill: Callable[["Parser"], None] | None = None, **options: Any) -> None:
        super().__init__(formatter_class=_formatter, **options)
        self._fill = fill
        self.set_defaults(parser=self)

    def filled(self) -> "Parser":
        """Return this parser with all of its flags."""
        fill, self._fill = self._fill, None
        if fill is not None:
            fill(self)
        return self

    def parse_known_args(self, *arguments: Any, **options: Any) -> Any:
        """Parse as argparse does, with all flags."""
        self.filled()
        return super().parse_known_args(*arguments, **options)

    def error(self, message: str) -> NoReturn:
        """Say what is wrong in one line, and where help is."""
        self.exit(2, f"{self.prog}: error: {message} (see {self.prog} --help)\n")

    def flag(self, setting: str) -> str | None:
        """Return the flag that sets a setting; None where this command has none."""
        by_name = {vars(a).get("setting"): a for a in self._actions}
        by_name |= {action.dest: action for action in self._actions}
        action = by_name.get(setting)
        return action.option_strings[0] if action and action.option_strings else None


# ---------------------------------------------------------------- flags of settings


def add_settings(
    flags: Flags,
    cls: type,
    *,
    only: Collection[str] = (),
    skip: Collection[str] = (),
    optional: bool = False,
    extend: bool = False,
) -> None:
    """Add a flag for each setting of a dataclass, or for `only` these, or for all but `skip`.

    A flag that is not typed leaves None.  What is on or off gets a --no- form, unless it is off by default.  With
    `optional` no flag is required; with `extend` the values of a flag that is typed twice add up.
    """
    for option in options(cls):
        if option.name not in skip and (not only or option.name in only):
            add_setting(flags, option._replace(required=option.required and not optional), extend=extend)


def add_setting(
    flags: Flags, option: Option, flag: str | None = None, *, extend: bool = False, negatable: bool = False
) -> None:
    """Add the flag of a setting, by another name than its own if `flag` is given.

    With `negatable`, what is off by default gets a --no- form too; `extend`: see `add_settings`.
    """
    keywords: dict[str, Any] = {"dest": dest_of(option), "help": _help(option)}
    if option.kind is bool:
        plain = option.default is False and not negatable
        keywords |= {"action": "store_true" if plain else argparse.BooleanOptionalAction, "default": None}
    else:
        keywords |= {"type": option.kind, "required": option.required}
        if option.choices:
            keywords["choices"] = option.choices
        else:
            keywords["metavar"] = option.metavar or {int: "N", float: "X"}.get(option.kind)
        if option.many:
            keywords |= {"nargs": "+", "action": "extend" if extend else "store"}
    action = flags.add_argument(f"--{flag or option.flag}", **keywords)
    vars(action)["setting"] = option.name  # what an error calls it; see `Parser.flag`


def dest_of(option: Option) -> str:
    """Return the name under which a parser keeps what was typed for a setting."""
    return option.flag.replace("-", "_")


def _help(option: Option) -> str:
    text, default = option.help.replace("%", "%%"), option.default
    if default is None or default == () or isinstance(default, bool) or "default" in text:
        return text
    shown = " ".join(map(str, default)) if isinstance(default, tuple) else f"{default}"
    return f"{text} (default {shown.removesuffix('.0')})".lstrip()


def typed(args: argparse.Namespace, settings: Iterable[Option]) -> dict[str, Any]:
    """Return those of the settings that were typed, by the names of their fields."""
    values: dict[str, Any] = {}
    for option in settings:
        value = vars(args).get(dest_of(option))
        if value is not None:
            values[option.name] = tuple(value) if option.many else value
    return values


def settings_of(args: argparse.Namespace, cls: type[S]) -> S:
    """Return the dataclass with what was typed, and its own defaults for the rest."""
    return cls(**typed(args, options(cls)))


def add_json(flags: Flags) -> None:
    flags.add_argument("--json", action="store_true", help="print the result as JSON")


def add_overwrite(flags: Flags) -> None:
    flags.add_argument("--overwrite", action="store_true", help="replace what --output already holds")


def add_repair(flags: Flags) -> None:
    what = "write --output again if it is of this command and damaged, and say what is; whole, it stays"
    flags.add_argument("--repair", action="store_true", help=what)


def show_warnings(args: argparse.Namespace, caught: Iterable[warnings.WarningMessage]) -> None:
    """Print what was warned of, each once: files may be read twice."""
    for message in dict.fromkeys(str(warning.message) for warning in caught):
        print(f"{args.parser.prog}: warning: {message}", file=sys.stderr)


# ---------------------------------------------------------------- values


def positive(text: str) -> int:
    """Read a whole number, 1 or more."""
    number = int(text)
    if number < 1:
        raise argparse.ArgumentTypeError(f"{number}: expected 1 or more")
    return number


def numbers(text: str) -> range:
    """Read a number, or a range such as 0-31."""
    first, dash, last = text.partition("-")
    try:
        span = range(int(first), int(last if dash else first) + 1)
    except ValueError:
        span = range(0)
    if not span or span.stop > 10**7:
        raise argparse.ArgumentTypeError(f"{text}: expected a number from 0, or a range as 0-31")
    return span


def points(text: str) -> float:
    """Read a number of percentage points, 0.001 to 100."""
    number = float(text)
    if not 0.001 <= number <= 100:  # less takes more questions than can be counted
        raise argparse.ArgumentTypeError(f"{text}: expected a number from 0.001 to 100")
    return number


# ---------------------------------------------------------------- what bodies share


def need(otherwise: str, **given: Any) -> None:
    """Raise the error of the first flag that is missing."""
    for name, value in given.items():
        if value is None:
            raise UserError(f"give --{name.replace('_', '-')} {otherwise}")


def refuse(why: str, **given: Any) -> None:
    """Raise the error of the first flag that was given though it does nothing here."""
    for name, value in given.items():
        if value not in (None, False):
            raise UserError(f"--{name.replace('_', '-')} {why}")


def show(args: argparse.Namespace, value: Any, text: str) -> None:
    """Print a result: as JSON with --json, else as text."""
    print(json.dumps(value, ensure_ascii=False, indent=2, allow_nan=False) if args.json else text)
