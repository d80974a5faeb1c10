"""What a generation job refuses, and what it leaves where it ends in an error."""

import json
import os
import shutil
import subprocess
import sys

import pytest
from conftest import message, write_jsonl
from made_jobs import contents, place, refused, run_xqg, shards, small, words  # noqa: F401 - fixtures

from xqg_pyserini.data import CorpusFile
from xqg_pyserini.generate import workers
from xqg_pyserini.generate.job import GenerationJob
from xqg_pyserini.generate.settings import JobSettings


@pytest.mark.parametrize(
    ("more", "why"),
    [
        (("--num-shards", 4, "--shard", 4), "shard 4 of 4 shards; expected 0 to 3"),
        (("--num-shards", 4, "--shard", "2-9"), "shard 4 of 4 shards; expected 0 to 3"),
        (("--shard", 0), "some shards are chosen: of how many?"),
        (("--num-shards", 21), "21 shards of 20 passages; expected 20 at most"),
        (("--num-shards", 0), "num_shards is 0; expected a whole number, 1 or more"),
        (("--batch-size", 0), "batch_size is 0; expected a whole number, 1 or more"),
        (("--device", "gpu"), "device 'gpu': expected auto, cpu, cuda, cuda:0, …"),
        (("--device", "cuda"), "device 'cuda': this torch sees no CUDA device"),
        (("--prompt", "none.txt"), "none.txt: No such file or directory (expected a prompt file)"),
        (("--min-length", 3), "--min-length belongs to the rule length"),
        (("--accumulate", "x"), "--accumulate STORE and --passages STORE go together: give both"),
        (("--precision", "fp16"), "mt5 overflows in float16"),
        (("--languages", "ar", "xx"), "unknown language code 'xx'"),
    ],
)
def test_what_is_off_is_said_in_one_line_and_leaves_nothing(more, why, place, refused):
    import torch

    if "cuda" in more and torch.cuda.is_available():
        pytest.skip("this machine has a CUDA device")
    before = sorted(os.listdir(place))
    assert why in refused(*words("refused"), *more, cwd=place)
    assert sorted(os.listdir(place)) == before


def test_malformed_shard_numbers_are_refused_by_the_parser(place, run_xqg):
    for text in ("a", "3-1", "-1-2", "1-", "0-99999999999"):
        done = run_xqg(*words("refused"), "--num-shards", 4, f"--shard={text}", cwd=place)
        assert done.returncode == 2
        assert "expected a number from 0, or a range as 0-31" in done.stderr


@pytest.mark.parametrize("flag", ["corpus", "model", "languages", "output"])
def test_what_is_missing_is_named(flag, place, refused):
    command = words("missing")
    at = command.index(f"--{flag}")
    del command[at : at + (3 if flag == "languages" else 2)]
    assert f"give --{flag} (or --check DIR" in refused(*command, cwd=place)


@pytest.mark.parametrize(
    ("more", "why"),
    [
        (("--top-k", 5), "top_k is 10 there and 5 here"),
        (("--seed", 1), "seed is 42 there and 1 here"),
        (("--languages", "ar", "fi", "ja"), 'languages is ["ar", "fi"] there and ["ar", "fi", "ja'),
        (("--num-queries", 3), "num_queries is 2 there and 3 here"),
        (("--precision", "bf16"), 'precision is "fp32" there and "bf16" here'),
        (("--filter", "script"), 'filter is null there and {"rules": ["script"], "min_length": 4'),
        (("--num-shards", 5), "num_shards is 4 there and 5 here"),
    ],
)
def test_a_job_with_other_settings_is_refused_naming_the_difference(more, why, place, refused):
    before = contents(place / "whole")
    text = refused(*words("whole"), "--num-shards", 4, *more, cwd=place)
    assert f"whole/meta.json: {why}" in text
    assert "; give another output, or overwrite this one to begin anew" in text
    assert contents(place / "whole") == before


def test_a_job_with_other_weights_corpus_or_prompt_is_refused(place, tmp_path):
    shutil.copytree(place / "whole", tmp_path / "out")
    shutil.copytree(place / "mt5", tmp_path / "mt5")
    weights = tmp_path / "mt5" / "model.safetensors"
    data = bytearray(weights.read_bytes())
    data[-1] ^= 1
    weights.write_bytes(data)
    settings = small(tmp_path)
    corpus = place / "corpus.jsonl"
    job = JobSettings(num_shards=4, devices="cpu")
    text = message(GenerationJob, corpus, settings, tmp_path / "out", job)
    assert "weights.fingerprint is " in text
    lines = corpus.read_text("utf-8").splitlines(keepends=True)
    (tmp_path / "corpus.jsonl").write_text("".join(lines[::-1]), encoding="utf-8")
    text = message(GenerationJob, tmp_path / "corpus.jsonl", small(place), tmp_path / "out", job)
    assert "sources[0].sha256 is " in text
    text = message(GenerationJob, CorpusFile(corpus, text_field="text"), small(place), tmp_path / "out", job)
    assert 'sources[0].fields is null there and {"text_field": "text"} here' in text
    (tmp_path / "out" / "meta.json").write_text("{", encoding="utf-8")
    text = message(GenerationJob, corpus, small(place), tmp_path / "out", job)
    assert text.endswith("; overwriting begins anew") and "meta.json: broken JSON (" in text


def test_a_folder_of_something_else_is_refused(place, refused, tmp_path):
    (tmp_path / "mine").mkdir()
    (tmp_path / "mine" / "thesis.tex").write_text("years", encoding="utf-8")
    assert "already holds something" in refused(*words(tmp_path / "mine"), cwd=place)
    assert (tmp_path / "mine" / "thesis.tex").exists()


def test_twice_one_id_is_named_by_its_lines(place, refused, tmp_path):
    write_jsonl(tmp_path / "c.jsonl", [{"id": "a", "contents": "x"}, {"id": "a", "contents": "y"}])
    command = words(tmp_path / "out")
    command[command.index("corpus.jsonl")] = tmp_path / "c.jsonl"
    text = refused(*command, cwd=place)
    assert "c.jsonl, line 2: passage id 'a' again (first in" in text
    assert not (tmp_path / "out").exists()


FULL = """
import errno, sys
from xqg_pyserini.generate import workers
from xqg_pyserini.cli.main import main
real, left = workers.json.dumps, [12]
def dumps(*args, **kw):
    left[0] -= 1
    if not left[0]:
        raise OSError(errno.ENOSPC, "No space left on device")
    return real(*args, **kw)
class Json:
    dumps = staticmethod(dumps)
workers.json = Json
sys.exit(main(sys.argv[1:]))
"""


def test_a_full_disk_keeps_the_finished_shards(place, run_xqg):
    command = [sys.executable, "-c", FULL, *map(str, words("full", "--num-shards", 4))]
    done = subprocess.run(command, cwd=place, capture_output=True, text=True)
    assert done.returncode == 2
    lines = done.stderr.splitlines()
    assert len(lines) == 1 and "No space left on device" in lines[0]
    assert "queries-00002-of-00004" in lines[0]
    whole = contents(place / "whole")
    kept = ("queries-00000-of-00004.jsonl.gz", "queries-00001-of-00004.jsonl.gz")
    found = contents(place / "full")
    meta, recorded = (json.loads(files["meta.json"]) for files in (found, whole))
    assert meta == {**recorded, "files": recorded["files"][:2]}
    assert {**found, "meta.json": b""} == {name: whole[name] for name in kept} | {"meta.json": b""}
    assert run_xqg(*words("full"), "--num-shards", 4, cwd=place).returncode == 0
    assert contents(place / "full") == whole


def test_a_worker_s_error_ends_the_job_in_one_line(place, refused, tmp_path):
    lines = (place / "corpus.jsonl").read_text("utf-8").splitlines(keepends=True)
    (tmp_path / "c.jsonl").write_text("".join(lines[:4]), encoding="utf-8")
    command = words(tmp_path / "out", "--num-shards", 4, "--device", "cpu", "cpu")
    command += ["--max-input-tokens", 8]
    command[command.index("corpus.jsonl")] = tmp_path / "c.jsonl"
    # alone: a fork of another process leaves its queues' semaphores to be complained about
    done = subprocess.run(
        [sys.executable, "-m", "xqg_pyserini", *map(str, command)],
        cwd=place, capture_output=True, text=True,
    )  # fmt: skip
    assert (done.returncode, done.stdout) == (2, "")
    (line,) = done.stderr.splitlines()
    assert "max_input_tokens 8 leaves no space for passage" in line
    assert sorted(os.listdir(tmp_path)) == ["c.jsonl"]


def test_shards_of_another_process_are_left_to_it(place, tmp_path):
    settings = small(place)
    how = JobSettings(num_shards=2, devices="cpu")
    job = GenerationJob(place / "corpus.jsonl", settings, tmp_path / "out", how)
    task = workers.Task(str(place / "corpus.jsonl"), settings, tmp_path / "out", job.plan, [0], 64, None, None)
    (tmp_path / "out").mkdir()
    with workers.writing(job.shard_path(0), zipped=True):
        text = message(list, workers.write_shards(task, ["cpu"], lambda n: None))
    assert text.startswith(f"{job.shard_path(0)}: another process is writing it")
