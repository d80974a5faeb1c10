"""HTTP around a collection: a page, and an API in the shape of Pyserini's REST server (2.3, `/v1/{index}/search`).

What libraries compute, they compute in one thread, one question after another: not all of them stand more.  It is a
daemon, so that a search under way does not keep a process that is asked to end.
"""

import asyncio
import importlib.resources
import ipaddress
import json
import queue
import re
import socket
import sys
import threading
from collections.abc import Awaitable, Callable
from contextlib import suppress
from typing import Any

import uvicorn
from starlette.applications import Starlette
from starlette.datastructures import MutableHeaders
from starlette.exceptions import HTTPException
from starlette.requests import Request
from starlette.responses import JSONResponse, Response
from starlette.routing import Route
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from xqg_pyserini import __version__
from xqg_pyserini.data import Passage, language_fault
from xqg_pyserini.errors import UserError
from xqg_pyserini.serve.collection import Asked, Collection, Missing, Unclear
from xqg_pyserini.serve.listening import ServeSettings

HITS, MOST_HITS, MOST_DOCIDS, LONGEST = 10, 1000, 100, 10_000
_HOST = re.compile(r"(?:\[([^\[\]]+)\]|([^:\[\]]+))(?::\d*)?")  # an address or a name, and a port
HEADERS = {
    "content-security-policy": (
        "default-src 'none'; script-src 'self'; style-src 'self'; connect-src 'self'; img-src data:; "
        "base-uri 'none'; form-action 'self'; frame-ancestors 'none'"
    ),
    "x-content-type-options": "nosniff",
    "referrer-policy": "no-referrer",
    "cache-control": "no-store",
}
PAGE = {  # address → its type, and the resources that it is made of
    "/": ("text/html", ("serve/page.html",)),
    "/page.css": ("text/css", ("report/page.css", "serve/page.css")),
    "/page.js": ("text/javascript", ("report/parts.js", "serve/page.js")),
}


def serve(collection: Collection, listening: socket.socket, settings: ServeSettings) -> None:
    """Answer until the process is asked to end (SIGINT, SIGTERM), and a second for what is under way at most."""
    config = uvicorn.Config(
        application(collection, settings), log_config=None, access_log=False, server_header=False, lifespan="off",
        ws="none", timeout_graceful_shutdown=1,
    )  # fmt: skip
    with suppress(KeyboardInterrupt):  # which uvicorn raises again when it has ended
        uvicorn.Server(config).run([listening])


def application(collection: Collection, settings: ServeSettings) -> ASGIApp:
    """Return the ASGI application."""
    api = _Api(collection)
    routes = [Route(path, _resource(kind, names)) for path, (kind, names) in PAGE.items()]
    routes += [
        Route("/v1", api.describe),
        Route("/v1/{index}/search", api.search),
        Route("/v1/{index}/queries", api.queries),
        Route("/v1/{index}/doc/{docid:path}", api.document),
    ]
    answers: dict[Any, Any] = {HTTPException: _refusal, UserError: _fault, Exception: _bug}
    return _Guard(Starlette(routes=routes, exception_handlers=answers), {settings.host, *settings.allow_host})


# ---------------------------------------------------------------- answers


class _Api:
    """What is answered under /v1."""

    def __init__(self, collection: Collection) -> None:
        self._collection, self._worker = collection, _Worker()

    async def describe(self, request: Request) -> Response:
        """Answer what there is to ask for."""
        about = {"api": "v1", "name": "xqg_pyserini", "version": __version__}
        return JSONResponse(about | self._collection.describe())

    async def search(self, request: Request) -> Response:
        """Answer as Pyserini does, with the question's language, notes, and how long the search took."""
        index, asked, hits = self._index(request), await self._asked(request), _number(request, "hits", HITS, MOST_HITS)
        show = _shown(request)
        for name in ("k1", "b"):
            if name in request.query_params:
                raise HTTPException(400, f"Parameter '{name}' is BM25's; {index} is an index of vectors")
        found = await self._worker.do(lambda: self._collection.search(index, asked, hits))
        for candidate in found["candidates"]:
            candidate["doc"] = candidate["doc"] and show(candidate["doc"])
        return JSONResponse({"api": "v1", "index": index, "query": asked.as_json(), **found})

    async def queries(self, request: Request) -> Response:
        """Answer with the generated queries of some passages, nearest to the question first."""
        index, asked, docids = self._index(request), await self._asked(request), request.query_params.getlist("docid")
        if not 1 <= len(docids) <= MOST_DOCIDS:
            raise HTTPException(400, f"Parameter 'docid' is given {len(docids)} times; expected 1 to {MOST_DOCIDS}")
        passages = await self._worker.do(lambda: self._collection.pulled(index, asked, docids))
        return JSONResponse({"api": "v1", "index": index, "query": asked.as_json(), "passages": passages})

    async def document(self, request: Request) -> Response:
        """Answer with a passage, as Pyserini does."""
        index, docid, show = self._index(request), request.path_params["docid"], _shown(request)
        passage = await self._worker.do(lambda: self._collection.document(docid))
        return JSONResponse({"api": "v1", "index": index, "docid": docid, "doc": show(passage)})

    def _index(self, request: Request) -> str:
        index = request.path_params["index"]
        if index not in self._collection.ways:
            raise HTTPException(400, f"Index not available: {index}; there are {', '.join(self._collection.ways)}")
        return index

    async def _asked(self, request: Request) -> Asked:
        text, language = request.query_params.get("query", ""), request.query_params.get("language") or None
        if not text.strip():
            raise HTTPException(400, "Parameter 'query' is required")
        if len(text) > LONGEST:
            raise HTTPException(400, f"Parameter 'query' has {len(text)} characters; expected at most {LONGEST}")
        if language is not None and (fault := language_fault(language)):
            raise HTTPException(400, f"Parameter 'language': {fault}")
        return await self._worker.do(lambda: self._collection.asked(text.strip(), language))


def _number(request: Request, name: str, default: int | None, most: int) -> Any:
    value = request.query_params.get(name)
    if not value:
        return default
    if not (value.isascii() and value.isdecimal() and len(value) < 10 and 1 <= int(value) <= most):
        raise HTTPException(400, f"Parameter '{name}' must be a whole number from 1 to {most}, not {value[:40]!r}")
    return int(value)


def _shown(request: Request) -> Callable[[Passage], Any]:
    """Return how passages are answered: parsed or not, cut or not."""
    parse = request.query_params.get("parse") or "true"
    longest = _number(request, "max_doc_length", None, 10**9)
    if parse.lower() not in ("true", "false"):
        raise HTTPException(400, "Parameter 'parse' must be 'true' or 'false'")
    if parse.lower() == "false":
        if longest is not None:
            raise HTTPException(400, "Parameter 'max_doc_length' requires parse=true")
        return _raw

    def show(passage: Passage) -> Any:
        text = passage.text[:longest]
        return {"title": passage.title, "text": text} if passage.title else text

    return show


def _raw(passage: Passage) -> str:
    """Return a passage as a line of a corpus."""
    title = {"title": passage.title} if passage.title else {}
    return json.dumps({"id": passage.id, **title, "text": passage.text}, ensure_ascii=False)


def _refusal(request: Request, error: HTTPException) -> Response:
    said = {404: "Expected route /v1/{index}/search, /v1/{index}/doc/{docid} or /v1", 405: "Only GET is supported"}
    status = error.status_code
    return JSONResponse({"error": said.get(status, error.detail)}, status, headers=error.headers)


def _fault(request: Request, error: UserError) -> Response:
    """Answer what a library says: of an id, of a question without language, or of files that are not as they were."""
    status = 404 if isinstance(error, Missing) else 400 if isinstance(error, Unclear) else 500
    return JSONResponse({"error": str(error)}, status)


def _bug(request: Request, error: Exception) -> Response:
    print(f"xqg serve: error: {type(error).__name__}: {error} ({request.url.path})", file=sys.stderr, flush=True)
    return JSONResponse({"error": f"unexpected {type(error).__name__} (a bug)"}, 500)


def _resource(kind: str, names: tuple[str, ...]) -> Callable[[Request], Awaitable[Response]]:
    folder = importlib.resources.files("xqg_pyserini.resources")
    text = "".join(folder.joinpath(name).read_text("utf-8") for name in names)

    async def answer(request: Request) -> Response:
        return Response(text, media_type=f"{kind}; charset=utf-8")

    return answer


# ---------------------------------------------------------------- around them


class _Guard:
    """Refuses what was asked for by another's name, and lets the page do nothing but ask this server.

    A site that a browser has open can have its own name point here (DNS rebinding); it cannot be an address in numbers.
    """

    def __init__(self, app: ASGIApp, names: set[str]) -> None:
        self._app, self._names = app, {name.lower() for name in names} | {"localhost"}

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        async def answered(message: Message) -> None:
            if message["type"] == "http.response.start":
                MutableHeaders(scope=message).update(HEADERS)
            await send(message)

        app = self._app
        if scope["type"] == "http" and not self._allows(dict(scope["headers"]).get(b"host", b"").decode("latin-1")):
            what = "asked for by a name that is not this server's; xqg serve --allow-host NAME lets it in"
            app = JSONResponse({"error": what}, 400)
        await app(scope, receive, answered)

    def _allows(self, host: str) -> bool:
        parts = _HOST.fullmatch(host)
        name = (parts[1] or parts[2]).lower() if parts else ""
        try:
            ipaddress.ip_address(name)
        except ValueError:
            return name in self._names
        return True


class _Worker:
    """One thread that does what it is given, in order."""

    def __init__(self) -> None:
        self._jobs: queue.SimpleQueue[Any] = queue.SimpleQueue()
        threading.Thread(target=self._work, name="searching", daemon=True).start()

    async def do(self, job: Callable[[], Any]) -> Any:
        """Return what a job returns, or raise what it raises."""
        future = asyncio.get_running_loop().create_future()
        self._jobs.put((job, future))
        return await future

    def _work(self) -> None:
        while True:
            job, future = self._jobs.get()
            if future.cancelled():
                continue
            try:
                settle, outcome = future.set_result, job()
            except BaseException as error:
                settle, outcome = future.set_exception, error
            try:
                future.get_loop().call_soon_threadsafe(_settle, future, settle, outcome)
            except RuntimeError:  # the server has ended
                return


def _settle(future: "asyncio.Future[Any]", settle: Callable[[Any], None], outcome: Any) -> None:
    if not future.done():
        settle(outcome)
