"""`python -m xqg_pyserini` is `xqg`."""

import sys
from collections.abc import Sequence


def main(argv: Sequence[str] | None = None) -> int:
    """Run `xqg`; return its exit code."""
    try:  # from the first moment on: loading the command line takes a tenth of a second
        from xqg_pyserini.cli.main import main as run

        return run(argv)
    except KeyboardInterrupt:
        print("xqg: error: interrupted", file=sys.stderr)
        return 130


if __name__ == "__main__":
    sys.exit(main())
