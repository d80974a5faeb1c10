"""Generators: prompts, the model's own distribution, and queries that depend on nothing else."""

import math
from itertools import islice
from types import SimpleNamespace

import generators
import numpy as np
import pytest
import torch
from conftest import message

from xqg_pyserini.data import Passage, read_corpus
from xqg_pyserini.generate.base import QueryGenerator, load_generator
from xqg_pyserini.generate.hugging_face import best_tokens, language_token
from xqg_pyserini.generate.prompts import PromptTemplate, read_template, shipped_template
from xqg_pyserini.generate.sampling import choose_tokens, gumbel_noise, sample_keys, stream_seed

MASK = 0xFFFFFFFFFFFFFFFF


@pytest.fixture(scope="module")
def models(tmp_path_factory):
    """A folder of tiny models, each made when it is first asked for."""
    folder, made = tmp_path_factory.mktemp("models"), {}

    def model(name):
        if name not in made:
            made[name] = generators.make(name, folder)
        return str(made[name])

    return model


@pytest.fixture(scope="module")
def passages():
    return [p for _, p in islice(read_corpus(generators.DEMO / "corpus.jsonl"), 12)]


def generator(model, batch_size=64, **options):
    options = {"languages": generators.LANGUAGES, "num_queries": 3, "max_new_tokens": 10} | options
    if model.endswith(("gpt2", "chat", "byt5")):  # a small vocabulary takes many tokens
        options = {"max_input_tokens": 1000} | options
    return load_generator(generators.complete(model, **options), "cpu", batch_size)


# --- noise ----------------------------------------------------------------------------------------


def mix(x):
    x = (x ^ (x >> 30)) * 0xBF58476D1CE4E5B9 & MASK
    x = (x ^ (x >> 27)) * 0x94D049BB133111EB & MASK
    return x ^ (x >> 31)


def test_noise_is_splitmix_s_of_key_step_and_token():
    keys, step, tokens = np.array([7, MASK], dtype=np.uint64), 3, np.array([[0, 5], [9, 250111]])
    noise = gumbel_noise(keys, step, tokens)
    golden = 0x9E3779B97F4A7C15
    for i, key in enumerate((7, MASK)):
        for j, token in enumerate(tokens[i].tolist()):
            at_step = mix((key + golden * (step + 1)) & MASK)
            uniform = ((mix((at_step + golden * (token + 1)) & MASK) >> 11) + 0.5) / 2**53
            assert noise[i, j] == pytest.approx(-math.log(-math.log(uniform)), rel=1e-12)


def test_keys_differ_by_each_thing_that_they_are_of():
    every = [
        sample_keys(seed, docid, language, 5)
        for seed in (0, 1)
        for docid in ("1", "11", "d")
        for language in ("ar", "fi")
    ]
    assert len(set(np.concatenate(every).tolist())) == 2 * 3 * 2 * 5
    assert sample_keys(1, "1", "ar", 5)[:2].tolist() == sample_keys(1, "1", "ar", 2).tolist()
    assert stream_seed(1, ["shard", 2]) != stream_seed(1, ["shard", 12]) != stream_seed(11, [2])
    assert 0 <= stream_seed(1, ["shard", 2]) < 2**32


def chi_square(counts, probabilities):
    expected = np.asarray(probabilities) * sum(counts)
    return float((((np.asarray(counts) - expected) ** 2) / expected).sum())


@pytest.mark.parametrize("temperature", [1.0, 2.0])
def test_tokens_are_drawn_by_the_softmax_of_their_logits(temperature):
    logits, tokens = np.array([2.0, 1.0, 0.0, -1.0]), np.array([40, 7, 0, 12])
    keys = sample_keys(5, "passage", "fi", 20000)
    drawn = choose_tokens(np.tile(logits, (20000, 1)), np.tile(tokens, (20000, 1)), keys, 2, temperature)
    p = np.exp(logits / temperature)
    counts = [int((drawn == t).sum()) for t in tokens]
    assert sum(counts) == 20000
    assert chi_square(counts, p / p.sum()) < 16.3  # 3 degrees of freedom, p = 0.001
    uniform = np.full(4, 0.25)
    assert chi_square(counts, uniform) > 1000  # the test can fail


# --- prompts --------------------------------------------------------------------------------------

NILE = Passage("d1", "Nile", "The {river} flows {title} north.")


def test_the_published_prompt():
    prompt = shipped_template("question")
    assert prompt.fill(NILE, "ar") == (
        "Generate a Arabic question for this passage: Nile The {river} flows {title} north."
    )
    untitled = NILE._replace(title="")
    assert prompt.fill(untitled, "te") == (
        "Generate a Telugu question for this passage: The {river} flows {title} north."
    )
    assert prompt.fill(NILE, "fi", "Cut.") == ("Generate a Finnish question for this passage: Nile Cut.")


def test_a_prompt_of_the_user_s(tmp_path):
    file = tmp_path / "prompt.txt"
    file.write_text('\ufeff{"in": "{code}"}\n{passage}\n?\n\n', encoding="utf-8")
    assert read_template(file).fill(NILE, "ja") == f'{{"in": "ja"}}\n{NILE.text}\n?'


@pytest.mark.parametrize(
    ("text", "why"),
    [
        ("Ask in {language}.", "holds {passage} 0 times; expected once, where the passage's text"),
        ("{passage} {passage} {language}", "holds {passage} 2 times"),
        ("About {passage}", "lacks {language} (the language's English name; or {code})"),
        ("{passage} in { language }", "{ language }; write {language}"),
        ("{Passage} in {language}", "{Passage}; write {passage}"),
        ("{passage} in {langauge}", "unknown field {langauge}; expected {language}, {code}"),
    ],
)
def test_a_prompt_without_its_fields_is_refused(text, why, tmp_path):
    file = tmp_path / "prompt.txt"
    file.write_text(text, encoding="utf-8")
    assert message(read_template, file).startswith(f"{file}: {why}")


def test_a_prompt_file_that_is_not_there_or_no_text(tmp_path):
    assert message(read_template, tmp_path / "none").startswith(f"{tmp_path / 'none'}: No such")
    (tmp_path / "latin").write_bytes(b"{passage} \xe9 {language}")
    assert message(read_template, tmp_path / "latin").endswith("not UTF-8; convert it")


def spied(model, monkeypatch):
    """What reaches the model first: the prompts' tokens, without padding."""
    seen = []
    real = type(model)._begin

    def begin(self, batch):
        ids, mask = self._padded(batch, left=self.settings.backend == "causal")
        seen.extend(row[m.bool()].tolist() for row, m in zip(ids, mask, strict=True))
        return real(self, batch)

    monkeypatch.setattr(type(model), "_begin", begin)
    return seen


@pytest.mark.parametrize("name", ["mt5", "byt5", "gpt2", "chat"])
def test_prompts_reach_the_model_as_documented(name, models, passages, monkeypatch):
    made = generator(models(name), batch_size=6)
    seen = spied(made, monkeypatch)
    made.generate(passages[:3])
    template = {"gpt2": "few-shot", "chat": "chat"}.get(name, "question")
    expected = []
    for passage in passages[:3]:
        for language in generators.LANGUAGES:
            text = shipped_template(template).fill(passage, language)
            if name == "chat":
                text = f"[user] {text}\n[assistant] "
            tokens = made.tokenizer(text, add_special_tokens=name != "chat")["input_ids"]
            expected.append(tokens)
    assert sorted(seen) == sorted(expected)
    if name == "mt5":
        assert all(tokens[-1] == made.tokenizer.eos_token_id for tokens in seen)


def test_of_a_long_prompt_the_passage_is_cut_and_nothing_else(models, passages, monkeypatch):
    file = PromptTemplate("Read: {passage} Now ask in {language} about {title}:")
    made = generator(models("mt5"), prompt=file, max_input_tokens=40)
    seen = spied(made, monkeypatch)
    made.generate([passages[0], Passage("short", "Cats", "A cat sleeps.")])
    assert made.cut == 1
    texts = [made.tokenizer.decode(tokens, skip_special_tokens=True) for tokens in seen]
    assert 34 < max(map(len, seen)) <= 40  # no more is cut than must be
    (cut,) = [text for text in texts if "Arabic" in text and "Cats" not in text]
    assert cut.startswith(f"Read: {passages[0].text[:30]}")
    assert cut.endswith(f"Now ask in Arabic about {passages[0].title}:")
    assert "Read: A cat sleeps. Now ask in Finnish about Cats:" in texts


def test_a_prompt_that_leaves_no_space_for_the_passage_is_refused(models, passages):
    made = generator(models("mt5"), max_input_tokens=8)
    text = message(made.generate, passages[:1])
    assert text.startswith("max_input_tokens 8 leaves no space for passage 'moons-io'")


# --- the model's own distribution -----------------------------------------------------------------


def forced(made, prompt_tokens, start, written):
    """Logits (t, vocabulary) of each written token, by one plain forward pass without a cache."""
    with torch.no_grad():
        if made.settings.kind == "causal":
            ids = torch.tensor([prompt_tokens + written])
            return made.model(input_ids=ids).logits[0, len(prompt_tokens) - 1 : -1]
        output = made.model(
            input_ids=torch.tensor([prompt_tokens]), decoder_input_ids=torch.tensor([start + written[:-1]])
        )
        return output.logits[0, len(start) - 1 :]


def decoded(made, passages):
    """All prompts and the tokens of their queries, by the generator's own loop."""
    out = []
    for batch in made._batches(made._prompts(passages)):
        keys = np.concatenate([made._keys(prompt) for prompt in batch])
        with torch.inference_mode():
            rows = made._decode(batch, keys)
        n = made.settings.num_queries
        out += [(p, rows[i * n : (i + 1) * n]) for i, p in enumerate(batch)]
    return out


@pytest.mark.parametrize("name", ["mt5", "byt5", "nllb", "gpt2", "chat"])
def test_every_token_is_the_noisy_best_of_the_model_s_top_k(name, models, passages):
    """Caches, padding, copies of the cache and rows that leave the batch change nothing."""
    made = generator(models(name), batch_size=12, top_k=4, max_new_tokens=12, num_queries=4)
    for prompt, queries in decoded(made, passages[:5]):
        start = [] if name in ("gpt2", "chat") else made._starts[prompt.language]
        for i, written in enumerate(queries):
            logits = forced(made, prompt.tokens, start, written)
            key = made._keys(prompt)[i : i + 1]
            for step, token in enumerate(written):
                best, ids = torch.topk(logits[step], 4)
                noisy = best.double().numpy() + gumbel_noise(key, step, ids[None].numpy())[0]
                assert token == ids[int(noisy.argmax())], (prompt.text, i, step)
            ended = written[-1] in made._ends or "\n" in made.tokenizer.decode(written).lstrip()
            assert ended or len(written) == 12
            assert not set(written[:-1]) & made._ends


def test_queries_of_different_lengths_were_among_those_tested(models, passages):
    made = generator(models("mt5"), batch_size=12, top_k=4, max_new_tokens=12, num_queries=4)
    lengths = {len(w) for _, queries in decoded(made, passages[:5]) for w in queries}
    assert len(lengths) > 2  # so that rows did leave the batch


@pytest.mark.parametrize(("words", "k"), [(4096, 5), (4096, 1), (4096, 9), (4100, 5), (4096, 0)])
def test_the_best_tokens_of_many(words, k):
    """Large vocabularies are looked at in blocks, unless they do not divide, or k is a large part."""
    logits = torch.randn(4, words, generator=torch.Generator().manual_seed(1))
    logits[1, 130:140] += 20  # all in one block
    logits[2, ::512] += 20  # each in a block of its own
    logits[3, -1] = 30
    values, ids = best_tokens(logits, k)
    assert ids.dtype == torch.int64 and torch.equal(values, logits.gather(1, ids))
    expected = torch.topk(logits, k or words)
    assert [sorted(row) for row in ids.tolist()] == [sorted(row) for row in expected.indices.tolist()]
    logits[0, 77] = torch.nan
    assert best_tokens(logits, k)[0].isnan().any(1).tolist() == [True, False, False, False]


def test_first_tokens_are_distributed_as_the_model_says(models):
    made = generator(
        models("mt5"), languages=["fi"], num_queries=4000, max_new_tokens=1, top_k=5,
        batch_size=4000,
    )  # fmt: skip
    ((prompt, queries),) = decoded(made, [NILE])
    drawn = [written[0] for written in queries]
    best, ids = torch.topk(forced(made, prompt.tokens, [0], [0])[0], 5)
    p = torch.softmax(best.double(), 0).numpy()
    counts = [drawn.count(int(i)) for i in ids]
    assert sum(counts) == 4000  # nothing but the top 5
    assert chi_square(counts, p) < 18.5  # 4 degrees of freedom, p = 0.001
    assert chi_square(counts, np.full(5, 0.2)) > 100  # the test can fail


def test_all_tokens_can_be_drawn_without_top_k(models):
    few, many = (generator(models("mt5"), languages=["fi"], num_queries=300, max_new_tokens=1, top_k=k) for k in (3, 0))
    drawn = [{q[0] for _, rows in decoded(g, [NILE]) for q in rows} for g in (few, many)]
    assert len(drawn[0]) == 3 < len(drawn[1])


@pytest.mark.parametrize("name", ["mt5", "nllb", "gpt2"])
def test_greedy_is_what_transformers_generates(name, models, passages):
    made = generator(models(name), top_k=1, num_queries=1)
    for prompt, ((*written,),) in decoded(made, passages[:4]):
        extra = {}
        if name == "nllb":
            extra = {"forced_bos_token_id": made._starts[prompt.language][1]}
        start = len(prompt.tokens) if name == "gpt2" else len(made._starts[prompt.language])
        output = made.model.generate(
            torch.tensor([prompt.tokens]), do_sample=False, num_beams=1,
            attention_mask=torch.ones(1, len(prompt.tokens), dtype=torch.long),
            max_new_tokens=10 + (name == "nllb"), pad_token_id=0, **extra,
        )  # fmt: skip
        expected = output[0, start:].tolist()
        assert expected[: len(written)] == written


# --- queries depend on nothing else ---------------------------------------------------------------


@pytest.mark.parametrize("name", ["mt5", "nllb", "gpt2", "chat"])
def test_batches_and_neighbours_change_nothing(name, models, passages):
    whole = generator(models(name), batch_size=64).generate(passages)
    assert generator(models(name), batch_size=1).generate(passages) == whole
    apart = generator(models(name), batch_size=24)
    parts = [apart.generate([passage])[0] for passage in reversed(passages)]
    assert parts[::-1] == whole
    alone = generator(models(name), languages=["fi"]).generate(passages)
    assert [row["fi"] for row in alone] == [row["fi"] for row in whole]
    fewer = generator(models(name), num_queries=2).generate(passages)
    assert fewer == [{l: queries[:2] for l, queries in row.items()} for row in whole]
    assert generator(models(name), seed=1).generate(passages) != whole
    texts = {q for row in whole for queries in row.values() for q in queries}
    assert len(texts) > 12  # not all alike


def test_progress_counts_every_query(models, passages):
    told = []
    generator(models("mt5"), batch_size=6).generate(passages, told.append)
    assert sum(told) == 12 * 2 * 3 and len(told) == 12


def test_a_query_is_one_line(models, passages):
    class Fixed(QueryGenerator):
        def _load(self):
            pass

        def _sample(self, batch):
            return [[" a\n b\t", "", f"{p.language} {p.docid}"] for p in batch]

    settings = generators.complete(models("mt5"), ["fi", "ar"], num_queries=3)
    made = Fixed(settings, "cpu", 64, None)
    rows = made.generate(passages[:2])
    assert rows[1] == {
        "fi": ("a b", "", f"fi {passages[1].id}"), "ar": ("a b", "", f"ar {passages[1].id}"),
    }  # fmt: skip
    assert list(rows[0]) == ["fi", "ar"]  # in the order asked for


def test_a_causal_model_writes_one_line_that_is_not_blank(models):
    made = generator(models("gpt2"))
    newline, word, end = made.tokenizer("\n")["input_ids"], made.tokenizer("moon")["input_ids"], 0
    assert made._finished([newline, newline + word, word + newline, word, [end]]).tolist() == [
        False, False, True, False, True,
    ]  # fmt: skip


# --- languages ------------------------------------------------------------------------------------


def test_a_model_with_language_tokens_begins_with_that_of_the_language(models, passages):
    made = generator(models("nllb"))
    codes = {"ar": "arb_Arab", "fi": "fin_Latn"}
    for language, code in codes.items():
        assert made._starts[language] == [2, made.tokenizer.convert_tokens_to_ids(code)]
    text = message(generator, models("nllb"), languages=["ar", "ko"])
    assert text.startswith("the model has no language token for 'ko' (it has eng_Latn)")


@pytest.mark.parametrize(
    ("tokens", "language", "expected"),
    [
        (["__en__", "__ar__"], "ar", 1),
        (["__en__", "__haw__", "__ha__", "__has__"], "hau", 2),
        (["en_XX", "fi_FI", "ar_AR"], "ar", 2),
        (["eng_Latn", "kor_Hang"], "ko", 1),
        (["eng_Latn", "zho_Hans", "yue_Hant", "zho_Hant", "Latn"], "zh-Hant", 3),
        (["eng_Latn", "por_Latn"], "pt-BR", 1),
        (["<s>", "</s>"], "ar", None),
    ],
)
def test_language_tokens_of_every_style(tokens, language, expected):
    stub = SimpleNamespace(added_tokens_decoder=dict(enumerate(tokens)))
    assert language_token(stub, language) == expected


def test_a_trained_model_answers_in_the_language_asked_for(models, tmp_path):
    """Toy pairs: the first word of the passage, after the question word of the language."""
    from transformers import AutoModelForSeq2SeqLM, AutoTokenizer

    folder = generators.make_mt5(tmp_path / "toy", width=64)
    tokenizer = AutoTokenizer.from_pretrained(folder)
    model = AutoModelForSeq2SeqLM.from_pretrained(folder)
    asks = {"ar": "ما", "fi": "mikä", "ru": "что"}
    words = ["river", "moon", "cat", "bread", "tea", "bridge", "school", "island"]
    passages = [Passage(w, "", f"{w} is here") for w in words]
    prompt = shipped_template("question")
    pairs = [(prompt.fill(p, l), f"{ask}") for p in passages for l, ask in asks.items()]
    inputs = tokenizer([a for a, _ in pairs], padding=True, return_tensors="pt")
    labels = tokenizer([b for _, b in pairs], padding=True, return_tensors="pt").input_ids
    labels[labels == tokenizer.pad_token_id] = -100
    torch.manual_seed(0)
    optimizer = torch.optim.AdamW(model.parameters(), lr=5e-3)
    model.train()
    for _ in range(150):
        loss = model(**inputs, labels=labels).loss
        loss.backward()
        torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        optimizer.step()
        optimizer.zero_grad()
        if loss.item() < 0.01:
            break
    model.save_pretrained(folder)
    made = generator(str(folder), languages=list(asks), top_k=1, num_queries=1)
    for row in made.generate(passages):
        assert {language: queries[0] for language, queries in row.items()} == asks


# --- what is refused ------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("options", "why"),
    [
        ({"languages": ["xx"]}, "unknown language code 'xx': expected BCP 47 or ISO 639, e.g. fi hau pt-BR"),
        ({"languages": ["Finnish"]}, "unknown language code 'Finnish' (do you mean fi?)"),
        ({"languages": ["fi", "fi"]}, "language 'fi' is given twice"),
        ({"languages": []}, "no language to generate in: give some"),
        ({"num_queries": 0}, "num_queries is 0; expected a whole number, 1 or more"),
        ({"top_k": -1}, "top_k is -1; expected a whole number, 0 or more"),
        ({"temperature": 0}, "temperature is 0; expected a number, above 0"),
        ({"temperature": float("nan")}, "temperature is nan; expected a number, above 0"),
        ({"max_new_tokens": 0}, "max_new_tokens is 0; expected a whole number, 1 or more"),
        ({"seed": -3}, "seed is -3; expected a whole number, 0 or more"),
        ({"precision": "fp16"}, "mt5 overflows in float16 (its activations exceed 65504); choose"),
        ({"precision": "int8"}, "the precision int8 takes the backend ctranslate2"),
        ({"chat": True}, "a chat template is for causal models"),
        ({"backend": "vllm"}, "vLLM runs causal models, and "),
        ({"backend": "causal"}, "backend is 'causal'; expected transformers, ctranslate2, vllm"),
    ],
)
def test_settings_that_are_off(options, why, models):
    assert message(generator, models("mt5"), **options).startswith(why)


def test_a_model_that_writes_nothing_is_refused(models):
    text = message(generator, models("bert"))
    assert text.endswith(
        "is no generator (BertModel): expected an encoder-decoder such as mT5, or a causal language model"
    )


def test_more_tokens_than_the_model_has_positions_are_refused(models):
    text = message(generator, models("gpt2"), max_input_tokens=1000, max_new_tokens=25)
    assert text.endswith("has 1024 positions; max_input_tokens 1000 and max_new_tokens 25 take 1025: choose less")
    text = message(generator, models("nllb"), max_input_tokens=513)
    assert text.endswith("513 and max_new_tokens 10 take 513: choose less")
    # two tokens are given to begin with: end of text, and the language's
    text = message(generator, models("nllb"), max_new_tokens=511)
    assert text.endswith("512 and max_new_tokens 511 take 513: choose less")
    generator(models("nllb"), max_new_tokens=510)


def test_a_cache_that_cannot_be_copied_is_refused():
    from xqg_pyserini.generate.hugging_face import _cache_of

    class Recurrent:
        batch_select_indices = None

    for cache, kind in ((None, "NoneType"), (SimpleNamespace(layers=[Recurrent()]), "Recurrent")):
        text = message(_cache_of, SimpleNamespace(past_key_values=cache))
        assert text.startswith(f"the model keeps a {kind} of what it has read")
    assert message(_cache_of, SimpleNamespace()).startswith("the model keeps a NoneType")


def test_more_queries_than_go_together_are_written_in_parts(models, passages):
    whole = generator(models("mt5"), num_queries=7).generate(passages[:2])
    assert generator(models("mt5"), num_queries=7, batch_size=3).generate(passages[:2]) == whole


def test_a_title_that_fills_the_prompt_is_left_out(models, monkeypatch):
    made = generator(models("mt5"), max_input_tokens=60)
    seen = spied(made, monkeypatch)
    made.generate([Passage("long", "word " * 100, "The Nile flows north.")])
    texts = [made.tokenizer.decode(tokens, skip_special_tokens=True) for tokens in seen]
    assert sorted(texts) == [
        f"Generate a {name} question for this passage: The Nile flows north." for name in ("Arabic", "Finnish")
    ]


def test_a_folder_without_all_weights_is_refused(models, tmp_path):
    from safetensors.torch import load_file, save_file

    folder = tmp_path / "part"
    folder.mkdir()
    for file in (generators.Path(models("mt5"))).iterdir():
        (folder / file.name).write_bytes(file.read_bytes())
    weights = load_file(folder / "model.safetensors")
    del weights["decoder.final_layer_norm.weight"]
    save_file(weights, folder / "model.safetensors", {"format": "pt"})
    text = message(generator, str(folder))
    assert text.endswith("lacks 1 weights, the first is decoder.final_layer_norm.weight")


def test_no_such_model_and_no_chat_template(models, tmp_path):
    text = message(generator, str(tmp_path / "none"))
    assert text.startswith(f"cannot load the model {str(tmp_path / 'none')!r}: ")
    text = message(generator, models("gpt2"), chat=True)
    assert text.endswith("has no chat template")


def test_logits_that_are_no_numbers_are_refused(models, passages):
    made = generator(models("mt5"))
    made.model.lm_head.weight.data[:] = float("nan")
    text = message(made.generate, passages[:1])
    assert text.endswith("gives NaN or infinity in fp32; try fp32")
