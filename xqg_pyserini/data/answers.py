"""Answer strings: which are looked for, and which questions a text answers."""

from collections.abc import Callable, Iterable, Mapping


def span_answers(answers: Iterable[str]) -> list[str]:
    """Return the answers R@kt looks for; a question left with none is not counted.

    Drops exactly ``"yes"`` and ``"no"``, as the official scorer does, and blank answers, which
    that one would find anywhere.

    >>> span_answers(["yes", "Yes", " ", "1912"])
    ['Yes', '1912']
    """
    return [answer for answer in answers if answer not in ("yes", "no") and answer.strip()]


def answer_finder(answers: Mapping[str, list[str]]) -> Callable[[str], set[str]]:
    """Return a function from a text to the ids of the questions whose answer (question id → strings) it holds."""
    if not answers:
        return lambda text: set()
    import ahocorasick

    asking: dict[str, list[str]] = {}
    for qid, strings in answers.items():
        for answer in strings:
            asking.setdefault(answer, []).append(qid)
    automaton = ahocorasick.Automaton()
    for answer, qids in asking.items():
        automaton.add_word(answer, qids)
    automaton.make_automaton()
    return lambda text: {qid for _, qids in automaton.iter(text) for qid in qids}
