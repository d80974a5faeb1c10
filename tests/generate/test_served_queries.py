"""Generation by a server: what is asked of it, and what becomes of its answers, right and wrong."""

import json

import pytest
from conftest import message, refusal, write_jsonl
from generators import complete
from loopback_server import serving, written

from xqg_pyserini.data import Passage, read_generated
from xqg_pyserini.generate.base import load_generator
from xqg_pyserini.generate.job import GenerationJob, JobSettings, generate_queries
from xqg_pyserini.generate.sampling import stream_seed
from xqg_pyserini.generate.settings import GeneratorSettings
from xqg_pyserini.models import server as requests_of

PASSAGES = [Passage(f"p{i}", "", f"text of passage {i}") for i in range(4)]


@pytest.fixture
def server(monkeypatch):
    monkeypatch.setattr(requests_of, "FIRST_WAIT", 0.001)
    with serving() as server:
        yield server


def generator_of(server, batch_size=8, **options):
    return load_generator(complete(f"openai:m@{server.url}", **options), "auto", batch_size)


def expected(generator, passage, language, number, first=0):
    """The server's texts of one request."""
    seed = stream_seed(42, [passage.id, language, first]) >> 1
    prompt = generator.settings.template.fill(passage, language)
    return tuple(written(prompt, seed + i) for i in range(number))


@pytest.mark.parametrize("chat", [None, False])
def test_a_request_asks_for_the_queries_of_a_passage_in_a_language(server, chat):
    server.order = -1
    generator = generator_of(server, chat=chat, num_queries=3, top_p=0.9, temperature=0.5)
    rows = generator.generate(PASSAGES)
    for passage, row in zip(PASSAGES, rows, strict=True):
        assert row == {l: expected(generator, passage, l, 3) for l in ("ar", "fi")}
    asked = [body for body in server.bodies if body["seed"] == stream_seed(42, ["p2", "fi", 0]) >> 1]
    prompt = generator.settings.template.fill(PASSAGES[2], "fi")
    said = {"prompt": prompt, "stop": ["\n"]} if chat is False else {"messages": [{"role": "user", "content": prompt}]}
    sampling = {"n": 3, "temperature": 0.5, "top_k": 10, "top_p": 0.9, "max_tokens": 64}
    assert asked == [{"model": "m", "seed": asked[0]["seed"], **sampling, **said}]
    assert ("few examples" if chat is None else "Question in Finnish:") in prompt or chat is None
    path = "/v1/completions" if chat is False else "/v1/chat/completions"
    assert [path] * 8 == [each[0] for each in server.asked]


def test_what_is_asked_depends_on_no_neighbours_and_so_many_are_on_their_way(server):
    server.slow = 0.05
    whole = generator_of(server, num_queries=4, batch_size=8).generate(PASSAGES)
    assert server.most == 2
    alone = generator_of(server, num_queries=4, batch_size=1)
    assert [alone.generate([passage])[0] for passage in PASSAGES[:2]] == whole[:2]


def test_a_server_that_writes_fewer_is_asked_on(server):
    server.choices = 2
    generator = generator_of(server, num_queries=5, languages=("fi",))
    (row,) = generator.generate(PASSAGES[:1])
    parts = [expected(generator, PASSAGES[0], "fi", number, first) for first, number in ((0, 2), (2, 2), (4, 1))]
    assert row["fi"] == sum(parts, ())
    assert [body["n"] for body in server.bodies] == [5, 3, 1]


def test_a_server_that_writes_one_alone_is_asked_for_one(server):
    generator = generator_of(server, num_queries=2, languages=("fi",))

    def one_alone(path, body):
        if body["n"] > 1:
            return 400, {"error": {"message": "Only one completion choice is allowed"}}
        return type(server).answer(server, path, body)

    server.answer = one_alone
    rows = generator.generate(PASSAGES[:2])
    for passage, row in zip(PASSAGES, rows, strict=False):
        assert row["fi"] == expected(generator, passage, "fi", 1) + expected(generator, passage, "fi", 1, first=1)
    assert [body["n"] for body in server.bodies].count(1) == 4


def test_greedy_queries_are_asked_for_once_and_all_words_without_a_number(server):
    (row,) = generator_of(server, top_k=1, num_queries=3, languages=("fi",)).generate(PASSAGES[:1])
    assert len(set(row["fi"])) == 1 and len(row["fi"]) == 3
    assert server.bodies[0]["n"] == 1
    generator_of(server, top_k=0, languages=("fi",)).generate(PASSAGES[:1])
    assert "top_k" not in server.bodies[1] and server.bodies[1]["top_p"] == 1


def test_a_blank_completion_is_drawn_again_past_the_line_end(server):
    def blank(right):
        right["choices"][1]["text"] = "  "
        return json.dumps(right).encode()

    generator = generator_of(server, chat=False, num_queries=2, languages=("fi",))
    server.faults = [blank]
    (row,) = generator.generate(PASSAGES[:1])
    assert row["fi"] == expected(generator, PASSAGES[0], "fi", 2)
    first, second = server.bodies
    assert first.pop("stop") == ["\n"] and first == second


def test_what_a_model_thinks_is_no_query(server):
    def thinking(text):
        return lambda _: json.dumps({"choices": [{"index": 0, "message": {"content": text}}]}).encode()

    generator = generator_of(server, num_queries=1, languages=("fi",))
    server.faults = [thinking("\n<think>\nhm\n</think>\n\n Kuka? \nand why"), thinking("<think>\nhm, the passage")]
    assert generator.generate(PASSAGES[:1]) == [{"fi": ("Kuka?",)}]
    what = "thinks for more than 64 tokens before it writes; have its server leave the thinking out, or choose more"
    expected = f"openai:m@{server.url} {what}"
    assert refusal(generator.generate, PASSAGES[:1]) == (expected, ("max_new_tokens",))


@pytest.mark.parametrize(
    ("answer", "what"),
    [
        ({"choices": []}, "0 texts with the indices []; expected 2, or some of these"),
        ({"choices": [{"index": i, "text": "a"} for i in range(3)]}, "3 texts with the indices [0, 1, 2]; expected 2"),
        ({"choices": [{"index": 1, "text": "a"}] * 2}, "2 texts with the indices [1, 1]; expected 2, or some of these"),
        ({"choices": [{"index": 0}]}, "a choice without text; expected a text or a message with some"),
        ({"choices": [{"index": 0, "message": {"content": None}}]}, "Expected `str`, got `null` - at `$.choices[0].m"),
        ({"choices": [{"index": 0, "text": 7}]}, "Expected `str | null`, got `int` - at `$.choices[0].text`"),
        ({"error": "?"}, 'Object missing required field `choices`; it begins \'{"error":'),
    ],
)
def test_nonsense_is_asked_again_and_ends_in_one_line(server, answer, what):
    generator = generator_of(server, num_queries=2, languages=("fi",))
    server.always = lambda _: json.dumps(answer).encode()
    said = message(generator.generate, PASSAGES[:1])
    assert said.startswith(f"openai:m@{server.url} answers nonsense: {what}")
    assert len(server.asked) == 4
    server.always, server.faults = None, [server.always]
    assert generator.generate(PASSAGES[:1])[0]["fi"] == expected(generator, PASSAGES[0], "fi", 2)


def test_a_passage_that_is_too_long_is_named(server):
    generator = generator_of(server, languages=("fi",))
    server.faults = [(400, {"error": {"message": "maximum context length is 4096 tokens"}})]
    said = message(generator.generate, PASSAGES[:1])
    length = len(server.bodies[0]["messages"][0]["content"])
    what = f"answers 400: maximum context length is 4096 tokens (passage 'p0', {length} characters)"
    assert said == f"openai:m@{server.url} {what}"


def test_a_server_that_knows_no_top_k_is_given_none(server):
    generator = generator_of(server, languages=("fi",))
    server.faults = [(422, {"detail": "Unexpected fields in the request: {'top_k'}"})]
    what = "answers 422: Unexpected fields in the request: {'top_k'}; a top_k of 0 is not sent"
    assert refusal(generator.generate, PASSAGES[:1]) == (f"openai:m@{server.url} {what}", ("top_k",))


@pytest.mark.parametrize(
    ("options", "what", "about"),
    [
        ({"backend": "vllm"}, "the server of m decides the backend; leave it out", "backend"),
        ({"precision": "bf16"}, "the server of m decides the precision; leave it out", "precision"),
        ({"max_input_tokens": 99}, "the server of m decides the max_input_tokens; leave it out", "max_input_tokens"),
    ],
)
def test_what_is_the_servers_is_refused(options, what, about):
    assert refusal(complete, "openai:m@http://h/v1", **options) == (what, (about,))


def test_a_share_of_the_words_is_for_served_models():
    said, about = refusal(complete, "some/model", top_p=0.5)
    assert said == "top_p is for served models (openai:MODEL@URL); top_k is for all" and about == ("top_p",)
    assert message(GeneratorSettings, "openai:m@http://h", ("fi",), top_p=1.5).startswith("top_p is 1.5; expected")
    assert "expected openai:MODEL@URL" in message(complete, "openai:m")


def test_a_job_records_the_server_and_goes_on_where_the_model_is_now(server, tmp_path):
    corpus = write_jsonl(tmp_path / "c.jsonl", [{"id": p.id, "text": p.text} for p in PASSAGES])
    settings, shards = GeneratorSettings(f"openai:m@{server.url}/", ("fi",)), JobSettings(num_shards=2)
    generate_queries(corpus, settings, tmp_path / "q", shards)
    meta = json.loads((tmp_path / "q" / "meta.json").read_text())
    assert (meta["model"], meta["backend"], meta["weights"]) == (f"openai:m@{server.url}", "openai", {"served": "m"})
    assert meta["each_query_depends_on"] == ["seed", "passage", "language", "index", "server"]
    assert (meta["precision"], meta["versions"], meta["top_p"]) == (None, {}, 1.0)
    (tmp_path / "q" / "queries-00001-of-00002.jsonl.gz").unlink()
    with serving() as moved:
        moved_settings = GeneratorSettings(f"openai:m@{moved.url}", ("fi",))
        assert generate_queries(corpus, moved_settings, tmp_path / "q", shards).written == 1
        assert len(moved.asked) == 2
        others = {'weights.served is "m" there and "n" here': GeneratorSettings(f"openai:n@{moved.url}", ("fi",))}
        others["top_p is 1.0 there and 0.5 here"] = GeneratorSettings(moved_settings.model, ("fi",), top_p=0.5)
        for what, other in others.items():
            assert what in message(GenerationJob, corpus, other, tmp_path / "q", shards)
    assert len([record for _, record in read_generated(tmp_path / "q")]) == 4
    what = f"openai:m@{server.url} computes where its server does, and is asked from here; leave device and cluster out"
    assert message(GenerationJob, corpus, settings, tmp_path / "r", JobSettings(devices=("cpu",))) == what
