"""What this package raises and warns with. Knows nothing else.

A `UserError` is one line: what is wrong, where, what was expected, what to do.
The command line prints it and exits with 2.
"""

import warnings


class UserError(Exception):
    """Something that the user gave, or that this machine lacks, stands in the way."""


class XqgWarning(UserWarning):
    """Worth knowing, not fatal: the command line prints it after a success."""


def warn(message: str) -> None:
    """Issue an `XqgWarning`."""
    warnings.warn(message, XqgWarning, stacklevel=2)


def missing_package(package: str, extra: str) -> UserError:
    """Return the error for an optional package that is not installed."""
    return UserError(
        f"the package {package} is not installed: run pip install 'xqg_pyserini[{extra}]'"
    )
