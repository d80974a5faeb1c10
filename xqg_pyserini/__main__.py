"""`python -m xqg_pyserini` is `xqg`."""

import sys

from xqg_pyserini.cli.main import main

if __name__ == "__main__":
    sys.exit(main())
