"""What this package raises and warns with.

A `UserError` is one line: what is wrong, where, what was expected, what to do.  It names settings
as Python does; the command line adds the flags and exits with 2.
"""

import warnings
from collections.abc import Sequence


class UserError(Exception):
    """What the user gave cannot be used, or this machine lacks what the task needs.

    Attributes: `about`, the names of the settings that the message is about or that would help,
    as functions and dataclasses have them (`batch_size`); the command line shows their flags.
    """

    def __init__(self, message: str, about: str | Sequence[str] = ()) -> None:
        super().__init__(message)
        self.about = (about,) if isinstance(about, str) else tuple(about)


class BusyOutput(UserError):
    """Another process is writing the output."""


class XqgWarning(UserWarning):
    """Worth knowing, not fatal: the command line prints it after a success."""


def warn(message: str) -> None:
    """Issue an `XqgWarning`."""
    warnings.warn(message, XqgWarning, stacklevel=2)


def missing_package(package: str, extra: str) -> UserError:
    """Return the error for an optional package that is not installed."""
    return UserError(f"the package {package} is not installed: run pip install 'xqg_pyserini[{extra}]'")
