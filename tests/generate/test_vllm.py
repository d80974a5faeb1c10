"""Generation with vLLM, against a stand-in for its Python interface: what is asked of it, and what becomes of it."""

import importlib.util
import json
import os
import sys
from dataclasses import replace

import generators
import pytest
from conftest import message, run_xqg

from xqg_pyserini.data import Passage, read_generated
from xqg_pyserini.generate.base import load_generator

# texts follow from the seed and the number of the sample; every seventh begins with the end of a line
STAND_IN = """
from types import SimpleNamespace


class SamplingParams:
    def __init__(self, n, temperature, top_k, max_tokens, seed, stop):
        self.n, self.seed, self.stop = n, seed, stop
        self.said = [temperature, top_k, max_tokens]


class LLM:
    made, asked = [], []

    def __init__(self, **options):
        LLM.made.append(options)
        if "refused" in options["model"]:
            raise ValueError("no such architecture\\nand more lines")

    def generate(self, prompts, parameters, use_tqdm):
        LLM.asked.append((prompts, parameters))
        return [SimpleNamespace(outputs=self._of(each, p)[::-1]) for each, p in zip(prompts, parameters)]

    def _of(self, prompt, p):
        assert all(isinstance(token, int) for token in prompt["prompt_token_ids"])
        texts = []
        for i in range(p.n):
            text = ("\\n" if (p.seed + i) % 7 == 0 else "") + f" a {p.seed} {i} \\nnext line"
            texts.append(text if p.stop is None else text.split(p.stop[0])[0])
        return [SimpleNamespace(index=i, text=text) for i, text in enumerate(texts)]
"""
PASSAGES = [Passage(f"p{i}", "", f"text of passage {i}") for i in range(6)]


@pytest.fixture
def library(tmp_path, monkeypatch):
    """A folder on the path that looks like an installed vLLM for the CPU."""
    (tmp_path / "site" / "vllm").mkdir(parents=True)
    (tmp_path / "site" / "vllm-0.0.1.dist-info").mkdir()
    (tmp_path / "site" / "vllm-0.0.1.dist-info" / "METADATA").write_text("Name: vllm\nVersion: 0.0.1\n")
    (tmp_path / "site" / "vllm" / "__init__.py").write_text(STAND_IN)
    platforms = "from types import SimpleNamespace\ncurrent_platform = SimpleNamespace(device_type='cpu')\n"
    (tmp_path / "site" / "vllm" / "platforms.py").write_text(platforms)
    monkeypatch.syspath_prepend(tmp_path / "site")
    for name in ("vllm", "vllm.platforms"):
        monkeypatch.delitem(sys.modules, name, raising=False)
    yield tmp_path / "site"
    for name in ("vllm", "vllm.platforms"):
        sys.modules.pop(name, None)


def settings(folder, name="gpt2", **options):
    return generators.complete(generators.make(name, folder), backend="vllm", **{"num_queries": 3} | options)


def test_every_sample_is_one_line_and_stands_where_it_belongs(library, tmp_path):
    import vllm

    of = settings(tmp_path, temperature=0.5, top_k=0, max_new_tokens=9, seed=7)
    rows = load_generator(of, "cpu", batch_size=32).generate(PASSAGES)
    (options,) = vllm.LLM.made
    assert (options["dtype"], options["max_num_seqs"], options["trust_remote_code"]) == ("float32", 32, False)
    assert options["max_model_len"] == of.longest_input + 9
    (prompts, first), (_, second) = vllm.LLM.asked  # the second time those of which a line was blank
    assert len(prompts) == len(first) == 6 * 2 > len(second)
    assert all(p.said == [0.5, -1, 9] and p.n == 3 for p in first)
    assert [p.stop for p in (first[0], second[0])] == [["\n"], None]
    seeds = {texts[0].split()[1]: [text.split() for text in texts] for row in rows for texts in row.values()}
    assert len(seeds) == 12  # each passage and language its own
    assert all(texts == [["a", seed, str(i)] for i in range(3)] for seed, texts in seeds.items())


def test_a_query_depends_on_its_passage_and_language_alone(library, tmp_path):
    generator = load_generator(settings(tmp_path), "cpu")
    assert generator.generate(PASSAGES)[4:] == generator.generate(PASSAGES[4:])
    other = load_generator(replace(generator.settings, seed=1), "cpu")
    assert other.generate(PASSAGES[:1]) != generator.generate(PASSAGES[:1])


def test_greedy_queries_are_drawn_once(library, tmp_path):
    import vllm

    rows = load_generator(settings(tmp_path, top_k=1), "cpu").generate(PASSAGES[:1])
    assert vllm.LLM.asked[0][1][0].n == 1
    assert all(len(texts) == 3 and len(set(texts)) == 1 for texts in rows[0].values())


def test_the_command_writes_shards_and_says_what_a_query_depends_on(library, tmp_path):
    model = generators.make("gpt2", tmp_path)
    lines = (generators.DEMO / "corpus.jsonl").read_text("utf-8").splitlines(keepends=True)
    (tmp_path / "corpus.jsonl").write_text("".join(lines[:5]), "utf-8")
    job = ["--corpus", tmp_path / "corpus.jsonl", "--model", model, "--languages", "fi", "--num-queries", 2]
    job += ["--device", "cpu", "--backend", "vllm", "--output", tmp_path / "out"]
    done = run_xqg("generate", *job, env={"PYTHONPATH": f"{library}{os.pathsep}{os.environ.get('PYTHONPATH', '')}"})
    assert done.returncode == 0, done.stderr
    assert sum(len(record.queries["fi"]) for _, record in read_generated(tmp_path / "out")) == 10
    meta = json.loads((tmp_path / "out" / "meta.json").read_text("utf-8"))
    assert meta["each_query_depends_on"] == ["seed", "passage", "language", "index", "rounding"]
    assert meta["versions"]["vllm"] == "0.0.1" and meta["batch_size"] is None


def test_what_it_cannot_run_is_refused(library, tmp_path, monkeypatch):
    def refused(of, device="cpu"):
        return message(load_generator, of, device)

    assert refused(settings(tmp_path, "mt5")).startswith("vLLM runs causal models, and ")
    refused_by_it = generators.make("gpt2", tmp_path / "refused")
    text = refused(generators.complete(refused_by_it, backend="vllm"))
    assert text.startswith("vLLM cannot load ") and text.endswith("no such architecture")
    import vllm.platforms

    monkeypatch.setattr(vllm.platforms.current_platform, "device_type", "cuda")
    assert refused(settings(tmp_path)).startswith("this vLLM computes on cuda, not on cpu")


def test_without_it_the_error_says_what_to_install(tmp_path):
    if importlib.util.find_spec("vllm") is not None:
        pytest.skip("vLLM is installed")
    assert message(load_generator, settings(tmp_path), "cpu") == (
        "the package vllm is not installed: run pip install 'xqg_pyserini[vllm]'"
    )


def test_the_command_says_so_too(tmp_path):
    if importlib.util.find_spec("vllm") is not None:
        pytest.skip("vLLM is installed")
    job = ["--corpus", generators.DEMO / "corpus.jsonl", "--model", generators.make("gpt2", tmp_path)]
    done = run_xqg("generate", *job, "--languages", "fi", "--backend", "vllm", "--output", tmp_path / "out")
    text = "xqg generate: error: the package vllm is not installed: run pip install 'xqg_pyserini[vllm]'\n"
    assert (done.returncode, done.stderr) == (2, text)
