"""Published percentages that are no whole number of hits: by hand."""

import json

import pytest
from conftest import run_xqg, write_jsonl

import xqg_pyserini as xqg

HEADER = "name\tmetric\tar\tfi\taverage\n"


def table(tmp_path, *rows):
    path = tmp_path / "published.tsv"
    path.write_text(HEADER + "questions\t\t3\t8\t\n" + "".join(f"{row}\n" for row in rows), "utf-8")
    return path


def found(tmp_path, *rows):
    checked = xqg.check_published(table(tmp_path, *rows))
    return {(f.name, f.column): (f.possible, f.nearest) for f in checked.figures}


def test_a_share_is_a_whole_number_of_hits(tmp_path):
    of = found(tmp_path, "a\tR@2kt\t33.3\t12.5\t22.9", "b\tR@2kt\t33.4\t12.4\t-", "c\tR@5kt\t66.7\t100\t83.3")
    assert all(of[at][0] for at in (("a", "ar"), ("a", "fi"), ("c", "ar"), ("c", "fi")))
    assert of["b", "ar"] == (False, ("33.3", "66.7"))
    assert of["b", "fi"] == (False, ("0.0", "12.5"))
    assert ("b", "average") not in of


def test_halves_round_either_way(tmp_path):
    of = found(tmp_path, "up\tR@2kt\t33\t13\t-", "down\tR@2kt\t33\t12\t-", "no\tR@2kt\t34\t14\t-")
    assert of["up", "fi"][0] and of["down", "fi"][0]  # 12.5
    assert not of["no", "fi"][0] and not of["no", "ar"][0]


def test_an_average_is_that_of_what_the_languages_can_be(tmp_path):
    # (33.333… + 12.5) / 2 = 22.9166…
    rows = ["right\tR@2kt\t33.3\t12.5\t22.9", "wrong\tR@2kt\t33.3\t12.5\t23.0", "gap\tR@2kt\t\t12.5\t12.5"]
    of = found(tmp_path, *rows)
    assert of["right", "average"][0]
    assert of["wrong", "average"] == (False, ("22.9", "22.9"))
    assert ("gap", "average") not in of  # a language's figure is not there


def test_other_measures_are_noted(tmp_path):
    checked = xqg.check_published(table(tmp_path, "a\tndcg@10\t33.3\t12.5\t", "a\tSuccess@1\t33.4\t12.5\t"))
    assert checked.notes == ["not checked: line 3, ndcg@10 is no share of questions"]
    assert [f.column for f in checked.impossible] == ["ar"]


def test_what_is_scored_is_counted_in_the_questions(tmp_path):
    questions = [{"id": f"{l}{i}", "question": "?", "lang": l, "answers": ["x"]} for l, n in COUNTS for i in range(n)]
    questions.append({"id": "none", "question": "?", "lang": "ar", "answers": ["yes"]})  # not scored
    write_jsonl(tmp_path / "questions.jsonl", questions)
    path = tmp_path / "published.csv"
    path.write_text("name,metric,ara,fi\nours,R@2kt,33.3,12.5\nodd,R@2kt,25.0,12.5\n", "utf-8")
    done = run_xqg("evaluate", "--questions", tmp_path / "questions.jsonl", "--check-published", path)
    assert done.returncode == 0, done.stderr
    assert done.stdout.startswith("4 figures: 3 can be, 1 cannot\n")
    assert done.stdout.splitlines()[-1].split() == ["odd", "R@2kt", "ara", "25.0", "3", "0.0", "33.3"]
    shown = run_xqg("evaluate", "--questions", tmp_path / "questions.jsonl", "--check-published", path, "--json")
    assert json.loads(shown.stdout)["figures"][2]["possible"] is False


COUNTS = (("ar", 3), ("fi", 8))


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("", "empty"),
        ("name\tar\n", "line 1: no header"),
        ("name\tmetric\tar\tar\n", "line 1: no header"),
        ("name\tmetric\tnot a code\n", "line 1: "),
        (HEADER + "a\tR@2kt\t33.3\t12.5\n", "line 2: 4 cells, the header has 5"),
        (HEADER + "a\tR@2kt\t33.3\t12.5\t\n", "line 2: no questions in ar are known"),
        (HEADER + "questions\t\t3\tmany\t\n", "line 2: 'many' questions"),
        (HEADER + "questions\t\t3\t8\t\na\tR@2kt\t103.3\t12.5\t\n", "line 3: '103.3' in ar"),
        (HEADER + "questions\t\t3\t8\t\na\tcharm\t33.3\t12.5\t\n", "charm"),
        (HEADER + "questions\t\t3\t8\t\n", "no percentage to check"),
    ],
)
def test_what_cannot_be_read_is_refused(tmp_path, text, message):
    path = tmp_path / "published.tsv"
    path.write_text(text, "utf-8")
    with pytest.raises(xqg.UserError, match=r"published\.tsv") as error:
        xqg.check_published(path)
    assert message in str(error.value)
