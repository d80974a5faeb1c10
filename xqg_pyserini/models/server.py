"""Servers that speak the OpenAI protocol (vLLM, text-embeddings-inference, llama.cpp, Ollama, OpenAI): one request.

This module knows addresses, keys, which failures pass and how long to wait for that.  It knows nothing of vectors and
texts: `served` asks for the former, `generate.served` for the latter.
"""

import contextlib
import ipaddress
import os
import random
import re
import socket
import threading
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from typing import Any, NamedTuple, TypeVar
from urllib.parse import urljoin, urlsplit

import msgspec

from xqg_pyserini.errors import UserError, warn

OPENAI = "openai"  # the backend, and what names of served models begin with
FORM = "openai:MODEL@URL, as openai:BAAI/bge-m3@http://localhost:8000/v1"
KEY_VARIABLE, PLAIN_VARIABLE = "OPENAI_API_KEY", "XQG_KEY_OVER_HTTP"
NO_KEY = "unused"  # in place of one, for Pyserini, which is not imported without

PASSING = (408, 409, 429)  # and 5xx: the same request may succeed later
TRIES, FEW = 8, 3  # times that it is sent again: where the server fails, and where it is late or answers nonsense
FIRST_WAIT, LONGEST_WAIT = 0.5, 30.0  # seconds, doubled from try to try, of which a random half is left out
PATIENCE = 600.0  # seconds that a server may ask to wait
CONNECT_SECONDS, ANSWER_SECONDS = 10.0, 600.0
SAID = 200  # characters of a server's own message
# how servers call a request too large that do not answer it with 413, and llama.cpp with 500
_TOO_LARGE = re.compile(r"batch|too (?:large|long|many|big)|maxim|exceed|at most", re.IGNORECASE)
_FOR_GOOD = "too large to process"

T = TypeVar("T")
Item = TypeVar("Item")


class Address(NamedTuple):
    """Which model a server has, and where: what `/embeddings` and the like are put behind."""

    model: str
    url: str

    @property
    def name(self) -> str:
        """Return the form that a user types, and that is recorded."""
        return f"{OPENAI}:{self.model}@{self.url}"


def is_served(name: str) -> bool:
    """Tell whether a name means a model of a server."""
    return name.startswith(f"{OPENAI}:")


def address_of(name: str) -> Address:
    """Return what a name of the form `openai:MODEL@URL` says.

    A model's name may hold @ and : too.  Raises `UserError` for another form, and for a URL with a user's name, a
    password or a query, which would be recorded.
    """
    model, at, rest = re.sub(r"\s", " ", name).partition("@http")
    model, url = model.removeprefix(f"{OPENAI}:"), f"http{rest}".rstrip("/")
    try:
        parts = urlsplit(url)
        fits = bool(at and model.strip() == model != "" and parts.hostname and parts.port != 0)
    except ValueError:  # a port that is no number, half of an IPv6 address
        fits = False
    if not fits or parts.scheme not in ("http", "https") or not url.isprintable() or " " in url:
        raise UserError(f"openai:…: expected {FORM}")  # it may hold a password, wherever
    if parts.username is not None or parts.password is not None or parts.query or parts.fragment:
        what = "the URL holds more than host, port and path, which would be recorded"
        raise UserError(f"openai:…: {what}; put the key into the variable {KEY_VARIABLE} (expected {FORM})")
    return Address(model, url)


class Refused(UserError):
    """The server will not do what was asked: `status` is the HTTP status, `said` its own words."""

    def __init__(self, message: str, status: int = 0, said: str = "") -> None:  # pickled, it is made of its message
        super().__init__(message)
        self.status, self.said = status, said

    @property
    def too_large(self) -> bool:
        """Tell whether less of the same might be answered."""
        return self.status == 413 or (self.status in (400, 422, 500) and bool(_TOO_LARGE.search(self.said)))


class Nonsense(Exception):
    """An answer is not what the protocol says; its text says what it is, and what was expected; `body` is all of it."""

    def __init__(self, message: str, body: bytes = b"") -> None:
        super().__init__(message)
        self.body = body


class _Failed(Exception):
    """A request failed in a way that may pass: how often it is worth another, and after how many seconds."""

    def __init__(self, message: str, tries: int, after: float | None = None) -> None:
        super().__init__(message)
        self.tries, self.after = tries, after


class _Ended(Exception):
    """Others failed, or nobody waits any more."""


class Server:
    """Asks one model of a server, with at most `at_once` requests on their way.

    Attributes: `address`.
    """

    def __init__(self, address: Address, at_once: int) -> None:
        import requests
        from requests.adapters import HTTPAdapter

        self.address, self._at_once, self._over = address, at_once, threading.Event()
        self._reached = False  # it has answered, if only with an error
        self._key, self._keyless = _key_for(address)
        self._session = requests.Session()
        # HTTP_PROXY and its like hold for other machines alone: a key in clear goes no further than this one
        self._session.trust_env = not _loopback(address)
        self._session.auth = self._signed  # without one, ~/.netrc would be looked into
        for scheme in ("http://", "https://"):
            self._session.mount(scheme, HTTPAdapter(pool_maxsize=at_once))

    def _signed(self, request: Any) -> Any:
        if self._key is not None:
            request.headers["Authorization"] = f"Bearer {self._key}"
        return request

    def each(self, call: Callable[[Item], T], items: Sequence[Item]) -> Iterator[tuple[int, T]]:
        """Yield what `call` returns for each item, with the item's number, as they come.

        The calls run in threads that do not outlive the process, so that an interruption ends it at once.
        """
        from multiprocessing.pool import ThreadPool

        self._over = over = threading.Event()
        if len(items) < 2:
            yield from enumerate(map(call, items))
            return

        def work(numbered: tuple[int, Item]) -> tuple[int, T]:
            if over.is_set():
                raise _Ended
            return numbered[0], call(numbered[1])

        with ThreadPool(min(self._at_once, len(items))) as pool:
            try:
                yield from pool.imap_unordered(work, enumerate(items))
            finally:
                over.set()

    def ask(self, path: str, body: dict[str, Any], read: Callable[[bytes], T]) -> T:
        """Send a request until it is answered, and return what `read` makes of the answer.

        Args:
            path: behind the URL, as "embeddings".
            body: what is sent as JSON; the model is added.
            read: takes the answer's bytes; raises `Nonsense` for one that is none.

        Raises:
            Refused: for a status that will not pass.
            UserError: for a server that is still not reached, or fails, after the tries that there are.
        """
        over, tries = self._over, Counter[int]()
        while True:
            try:
                return read(self._post(path, {"model": self.address.model, **body}))
            except Nonsense as error:
                begins = f"; it begins {self._safe(_text(error.body))[:60]!r}" if error.body else ""
                failed = _Failed(f"answers nonsense: {_short(str(error) + begins)}", FEW)
            except _Failed as error:
                failed = error
            tries[failed.tries] += 1
            wait = min(LONGEST_WAIT, FIRST_WAIT * 2 ** (tries[failed.tries] - 1))
            wait *= random.uniform(0.5, 1)  # of requests that failed together; no result depends on it
            after = failed.after or 0
            if tries[failed.tries] > failed.tries or after > PATIENCE:
                why = f"it asks to wait {after:.0f} s" if after > PATIENCE else f"asked {tries.total()} times"
                raise UserError(f"{self.address.name} {failed} ({why}; a job that is run again goes on)")
            if over.wait(after + wait):
                raise _Ended

    def _post(self, path: str, body: dict[str, Any]) -> bytes:
        from ssl import SSLCertVerificationError

        from requests import exceptions

        url, timeout = f"{self.address.url}/{path}", (CONNECT_SECONDS, ANSWER_SECONDS)
        try:
            answer = self._session.post(url, json=body, timeout=timeout, allow_redirects=False)
        except exceptions.ConnectTimeout:
            raise _Failed(f"is not reached within {CONNECT_SECONDS:.0f} s", FEW) from None
        except exceptions.Timeout:
            raise _Failed(f"does not answer within {ANSWER_SECONDS:g} s", FEW) from None
        except exceptions.RequestException as error:  # not reached, or cut off in the middle
            cause = _cause(error)
            what = _short(getattr(cause, "strerror", None) or str(cause) or repr(cause))
            what = f"{'breaks off' if isinstance(error, exceptions.ChunkedEncodingError) else 'is not reached'}: {what}"
            if isinstance(error, exceptions.InvalidURL) or isinstance(cause, SSLCertVerificationError):
                raise UserError(f"{self.address.name} {what}") from None
            absent = not self._reached and isinstance(cause, ConnectionRefusedError | socket.gaierror)
            raise _Failed(what, FEW if absent else TRIES) from None
        self._reached = True
        if answer.status_code == 200:
            return bytes(answer.content)
        said = _short(self._safe(_message(answer.content)))
        what = f"answers {answer.status_code}{f': {said}' if said else ''}"
        if answer.status_code in PASSING or (answer.status_code >= 500 and _FOR_GOOD not in said):
            raise _Failed(what, TRIES, _seconds(answer.headers.get("Retry-After")))
        raise Refused(f"{self.address.name} {what}{self._remedy(answer)}", answer.status_code, said)

    def _safe(self, text: str) -> str:
        """Return what a server says without the key, which it may say back."""
        return text if self._key is None else text.replace(self._key, "…")

    def _remedy(self, answer: Any) -> str:
        if 300 <= answer.status_code < 400:
            to = urlsplit(urljoin(answer.url, answer.headers.get("Location", "")))
            place = _short(self._safe(f"{to.scheme}://{to.netloc.rpartition('@')[2]}{to.path}"))
            return f" (it sends on to {place}, where nothing is sent: name that)"
        if answer.status_code in (401, 403):
            return f" ({self._keyless or f'the key is that of the variable {KEY_VARIABLE}'})"
        return f" (expected {FORM})" if answer.status_code == 404 else ""


# ---------------------------------------------------------------- keys


def _loopback(address: Address) -> bool:
    host = urlsplit(address.url).hostname or ""
    with contextlib.suppress(ValueError):
        return ipaddress.ip_address(host).is_loopback
    return host == "localhost" or host.endswith(".localhost")


def _key_for(address: Address) -> tuple[str | None, str]:
    """Return the key to send, or None and why there is none."""
    key = os.environ.get(KEY_VARIABLE, "").strip()
    if key in ("", NO_KEY):
        return None, f"no key was sent: the variable {KEY_VARIABLE} is not set"
    if not key.isascii() or not key.isprintable() or " " in key:
        raise UserError(f"the variable {KEY_VARIABLE} holds no key: expected printable ASCII characters without blanks")
    secret = address.url.startswith("https:") or _loopback(address)
    if secret or os.environ.get(PLAIN_VARIABLE) == "1":
        return key, ""
    why = f"the key in {KEY_VARIABLE} is not sent over plain http to another machine"
    why += f"; use https, or set {PLAIN_VARIABLE}=1 where the network is yours"
    warn(f"{address.name}: {why}")
    return None, why


# ---------------------------------------------------------------- what answers say


class _Inner(msgspec.Struct):
    message: str = ""


class _Error(msgspec.Struct):
    """The forms in which servers say what is wrong: OpenAI's and vLLM's, TEI's, FastAPI's."""

    error: _Inner | str = ""
    message: str = ""
    detail: Any = ""


def _short(text: str) -> str:
    """Return a text of others as a part of one line."""
    text = "".join(c if c.isprintable() else " " for c in " ".join(text.split()))
    return text if len(text) <= SAID else f"{text[:SAID]}…"


def _message(body: bytes) -> str:
    """Return what a server says of an error: its message, or whatever it sent."""
    with contextlib.suppress(msgspec.MsgspecError, UnicodeDecodeError):
        said = msgspec.json.decode(body, type=_Error)
        error = said.error.message if isinstance(said.error, _Inner) else said.error
        return error or said.message or str(said.detail or "") or _text(body)
    return _text(body)


def _text(body: bytes) -> str:
    return body.decode("utf-8", "replace")


def decoded(body: bytes, kind: type[T]) -> T:
    """Return an answer as a struct; raises `Nonsense` where it is no JSON of that form."""
    try:
        return msgspec.json.decode(body, type=kind)
    except (msgspec.MsgspecError, UnicodeDecodeError) as error:
        raise Nonsense(str(error), body) from None


def _seconds(header: str | None) -> float | None:
    """Return the seconds that a Retry-After asks for, as a number or a date."""
    from urllib3.exceptions import InvalidHeader
    from urllib3.util import Retry

    with contextlib.suppress(InvalidHeader, OverflowError):
        return None if header is None else float(Retry().parse_retry_after(header))
    return None


def _cause(error: BaseException) -> BaseException:
    """Return what is at the bottom of an error, which libraries wrap in others."""
    while (inner := error.__cause__ or error.__context__) is not None:
        error = inner
    return error
