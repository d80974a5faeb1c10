"""Tiny made-up parallel data in the form of XOR-TyDi's translations and XQuAD, and a backbone."""

import json
from pathlib import Path

from conftest import ROOT
from generators import make_bert
from peft_unseen.texts import Questions, fold

STUDY = ROOT / "studies" / "peft_unseen"
SMOKE = STUDY / "peft-smoke.yaml"

KINDS = ("river", "city", "king", "book", "tree", "song", "planet", "bridge")
ASKED = ("Where is", "Who made", "How old is", "What is")
LETTERS = {"ar": "ابتثجحخدذرزسشصضطظعغفقكلمنهوي", "bn": "কখগঘচছজঝটঠডঢণতথদধনপফবভমযরলশস"}
LETTERS |= {"fi": "aeioukpthnlrsmvjydbgfcwxqz", "el": "αβγδεζηθικλμνξοπρστυφχψωάέ"}


def foreign(text: str, language: str) -> str:
    """Each letter of an English text as one of another alphabet: a language that can be learnt."""
    letters = LETTERS[language]
    place = "abcdefghijklmnopqrstuvwxyz".find
    return "".join(letters[place(c)] if c.isascii() and c.isalpha() else c for c in text.lower())


def write_translations(folder: Path, languages=("ar", "fi", "bn"), number: int = 48) -> None:
    """Questions of every language are their own, but for a few that two languages share.

    Some stand twice with another spelling, some have one question with two translations.
    """
    target = folder / "xor-tydi" / "question-translations"
    target.mkdir(parents=True)
    for at, language in enumerate(languages):
        english = []
        for i in range(number):
            n = i if i < 3 else at * number + i
            english.append(f"{ASKED[n % 4]} the {KINDS[n // 4 % 8]} number {n}?")
        questions = [foreign(text, language) for text in english]
        english += [english[5].upper().replace("?", " ?!"), "What do they call this one?", ""]
        questions += [foreign("another one", language), questions[6], "x"]
        (target / f"{language}-en.{language}.txt").write_text("\n".join(questions) + "\n", "utf-8")
        (target / f"{language}-en.en.txt").write_text("\n".join(english) + "\n", "utf-8")


def write_xquad(folder: Path, languages=("ar", "el"), articles: int = 10) -> None:
    """Ten articles of two passages with four questions; one question is asked of two articles."""
    target = folder / "xquad"
    target.mkdir(parents=True)
    for language in ("en", *languages):
        data = []
        for a in range(articles):
            paragraphs = []
            for p in range(2):
                n = 2 * a + p
                context = f"The {KINDS[n % 8]} number {n} was made by person {n} in {1500 + n}."
                asked = [f"{ASKED[q]} the {KINDS[n % 8]} number {n}?" for q in range(4)]
                asked[3] = "What is it?" if p else asked[3]
                qas = [
                    {
                        "id": f"{n}-{q}",
                        "question": text if language == "en" else foreign(text, language),
                        "answers": [{"text": str(1500 + n), "answer_start": 0}],
                    }
                    for q, text in enumerate(asked)
                ]
                paragraphs.append({"context": context, "qas": qas})
            data.append({"title": f"Article_{a}", "paragraphs": paragraphs})
        path = target / f"xquad.{language}.json"
        path.write_text(json.dumps({"data": data}, ensure_ascii=False), "utf-8")


def write_afriqa(folder: Path, each: int = 12) -> None:
    """Questions of three languages in AfriQA's splits; articles have two passages, and languages share some of them.

    In each file one passage is empty, and one question is asked of two articles.
    """
    target = folder / "afriqa" / "gold_passages"
    target.mkdir(parents=True)
    for at, (code, language, splits) in enumerate((("hau", "fi", 3), ("kin", "el", 3), ("swa", "bn", 1))):
        for s, split in enumerate(("test", "dev", "train")[:splits]):
            lines = []
            for i in range(each):
                n = s * each + i if i < 3 else 100 * at + s * each + i  # the first three are in all languages
                title, context = f"Article {n // 2}", f"The {KINDS[n % 8]} number {n} was made in {1500 + n}."
                asked = "Who was it?" if i in (4, 8) else f"{ASKED[n % 4]} the {KINDS[n % 8]} number {n}?"
                entry = {"id": str(i), "title": title, "context": "" if i == 5 else context}
                entry |= {"question_lang": foreign(asked, language), "question_translated": asked}
                lines.append(json.dumps(entry | {"answer_pivot": {"text": [str(1500 + n)]}}, ensure_ascii=False))
            path = target / f"gold_span_passages.afriqa.{code}.en.{split}.json"
            path.write_text("\n".join(lines) + "\n", "utf-8")


def make_backbone(folder: Path) -> Path:
    """A BERT of two layers with random weights."""
    import torch
    from transformers import AutoTokenizer, BertConfig, BertModel

    make_bert(folder)
    torch.manual_seed(5)
    config = BertConfig(
        vocab_size=len(AutoTokenizer.from_pretrained(folder)), hidden_size=32, num_hidden_layers=2,
        num_attention_heads=2, intermediate_size=64, initializer_range=0.2,
    )  # fmt: skip
    BertModel(config).save_pretrained(folder)
    return folder


def drawn_from(questions: Questions) -> list[list[str]]:
    """What centres and stand-ins are drawn from, where it is not the training pairs."""
    return [] if questions.learnt else [*questions.others.values()]


def overlaps(folder: Path) -> list[str]:
    """Folded texts that are on two sides of a prepared task: questions, passages, translations.

    What the test side searches for or draws centres and stand-ins from counts; wrong candidates do
    as well, except the pool of all English questions, which has everything.
    """
    lines = (folder / "train.jsonl").read_text("utf-8").splitlines()
    trained = set()
    for record in map(json.loads, lines):
        of = record["positive_passages"]
        passages = [f"{passage.get('title') or ''} {passage['text']}" for passage in of]
        trained |= {fold(text) for text in (record["query"], *passages)}
    sides = {name: Questions.read(folder / f"{name}.json") for name in ("test", "validation")}
    tested, validated = (
        {fold(t) for part in (q.variants["clean"], q.candidates, *drawn_from(q)) for t in part} for q in sides.values()
    )
    validation = sides["validation"]
    asked = {fold(text) for text in validation.variants["clean"]}
    asked |= {fold(validation.candidates[i]) for i in validation.relevant}
    stand_ins = {fold(text) for part in sides["test"].others.values() for text in part}
    twins = stand_ins & {fold(text) for text in sides["test"].variants["clean"]}
    return sorted(trained & (tested | validated) | tested & asked | twins)
