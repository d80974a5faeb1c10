"""Pyserini's lists of prebuilt indexes, topics and qrels, where there is no network.

From version 2.4 on Pyserini fetches them when it is imported.  Here an answer that came once is
kept, and stands in for one that does not come; without one the list is empty.
"""

import hashlib
import io
import json
import os
import urllib.request
from pathlib import Path
from typing import Any

from xqg_pyserini.errors import warn
from xqg_pyserini.files import writing

LISTS = "https://raw.githubusercontent.com/castorini/"
TIMEOUT = 10.0  # seconds
# entries that Pyserini 2.4.0 takes out of its lists while it is imported
LOOKED_UP = ("msmarco-v1-passage.unicoil", "msmarco-v2-passage.unicoil-0shot")


def serve_offline() -> None:
    """Make `urllib.request.urlopen` answer for Pyserini's lists when the network does not.

    Safe to call again; all other addresses are opened as before.  A network that did not answer
    once is not asked again.
    """
    opened = urllib.request.urlopen
    if getattr(opened, "serves_offline", False):
        return
    down = False

    def urlopen(url: Any, *arguments: Any, **options: Any) -> Any:
        nonlocal down
        address = url if isinstance(url, str) else getattr(url, "full_url", "")
        if not address.startswith(LISTS):
            return opened(url, *arguments, **options)
        if not arguments:
            options.setdefault("timeout", TIMEOUT)
        kept = _cache() / hashlib.sha256(address.encode()).hexdigest()
        if not down:
            try:
                with opened(url, *arguments, **options) as response:
                    answer = response.read()
            except OSError:  # URLError is one
                down = True
                if not kept.is_file():
                    warn("Pyserini's lists of prebuilt indexes, topics and qrels are not available offline")
            else:
                _keep(kept, answer.decode("utf-8"))
                return io.BytesIO(answer)
        return io.BytesIO(kept.read_bytes() if kept.is_file() else _nothing(address))

    urlopen.serves_offline = True  # type: ignore[attr-defined]
    urllib.request.urlopen = urlopen


def _nothing(address: str) -> bytes:
    """Return a list without entries, but for those that Pyserini takes out while it is imported."""
    if "/lucene/" not in address:
        return b"{}"
    entry = {"description": "not available offline", "filename": "", "urls": [], "md5": ""}
    names = LOOKED_UP if "impact" in address else ()
    return json.dumps([{"name": name, **entry, "size": 0} for name in names]).encode()


def _cache() -> Path:
    base = os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache"
    return Path(base) / "xqg_pyserini" / "lists"


def _keep(path: Path, text: str) -> None:
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        with writing(path) as file:
            file.write(text)
    except OSError:  # a cache that cannot be written only costs the next offline run its lists
        pass
