"""Made-up judgements and rankings of many kinds, and trec_eval's figures for them.

    python tests/evaluation/made_judgements.py

writes `trec_eval_figures.json` beside this file, with pytrec_eval-terrier, which is trec_eval itself.
"""

import json
import random
from pathlib import Path

SEED, TOPICS = 15, 48
FIGURES = Path(__file__).with_name("trec_eval_figures.json")
# our name → trec_eval's, the hits that it is given (None: all), and what is done to relevance first
MEASURES = {
    "map": ("map", None), "map_cut_5": ("map_cut_5", None), "ndcg": ("ndcg", None),
    "ndcg_cut_3": ("ndcg_cut_3", None), "ndcg_cut_10": ("ndcg_cut_10", None), "P_1": ("P_1", None),
    "P_5": ("P_5", None), "P_20": ("P_20", None), "recall_5": ("recall_5", None), "recall_20": ("recall_20", None),
    "success_1": ("success_1", None), "success_5": ("success_5", None), "recip_rank": ("recip_rank", None),
    "Rprec": ("Rprec", None), "bpref": ("bpref", None), "set_P": ("set_P", None),
    "set_recall": ("set_recall", None), "set_F": ("set_F", None), "RR@3": ("recip_rank", 3),
    "ndcg_burges@10": ("ndcg_cut_10", None), "ndcg_burges": ("ndcg", None),
}  # fmt: skip
OF_LEVELS = [name for name in MEASURES if not name.startswith("ndcg")]
# what the relevance of a topic's passages may be; the pool is of 1 to 20 of 30 passages
KINDS = (
    (0, 1), (0, 0, 0, 1), (0, 1, 2, 3), (0, 0, 0, 2, 4), (-1, 0, 1), (-2, -1, 0, 0, 1, 2, 3), (1,), (1, 3),
    (0,), (-1,), (-1, 0), (2, -1), (0, 10), (1, 0, 0, 0, 0, 0),
)  # fmt: skip


def made(seed, topics=TOPICS):
    """Return qrels and a run: {topic: {docid: relevance}}, {topic: {docid: score}}, scores all different."""
    drawn = random.Random(seed).random  # the one draw that is the same in every version of Python
    qrels, run = {}, {}
    for i in range(topics):
        kind = KINDS[i % len(KINDS)]
        shuffled = sorted((drawn(), f"d{n:02}") for n in range(30))
        judged = [docid for _, docid in shuffled[: 1 + int(20 * drawn())]]
        qrels[f"t{i:02}"] = {docid: kind[int(len(kind) * drawn())] for docid in judged}
        order = sorted((drawn() + (docid not in judged) / 4, docid) for _, docid in shuffled)
        hits = [docid for _, docid in order[: 1 + int(30 * drawn())]]
        run[f"t{i:02}"] = {docid: float(100 - rank) for rank, docid in enumerate(hits)}
    return qrels, run


def trec_eval(qrels, run, name, level=1):
    """Return what trec_eval says of each topic, in their order, for one of `MEASURES`."""
    import pytrec_eval

    measure, depth = MEASURES[name]
    if name.startswith("ndcg_burges"):
        qrels = {t: {d: 2 ** max(r, 0) - 1 for d, r in judged.items()} for t, judged in qrels.items()}
    run = {t: dict(list(hits.items())[:depth]) for t, hits in run.items()}
    evaluator = pytrec_eval.RelevanceEvaluator(qrels, {measure}, relevance_level=level)
    values = evaluator.evaluate(run)
    return [values[topic][measure] for topic in qrels]


def figures(seed, topics=TOPICS):
    """Return {name: values}, `-l2` behind the names where relevance starts at 2."""
    qrels, run = made(seed, topics)
    first = {name: trec_eval(qrels, run, name) for name in MEASURES}
    return first | {f"{name}-l2": trec_eval(qrels, run, name, 2) for name in OF_LEVELS}


def main():
    """Write the figures, six decimals of each."""
    rows = [
        f"{json.dumps(name)}: {json.dumps([round(v, 6) for v in values], separators=(',', ':'))}"
        for name, values in figures(SEED).items()
    ]
    FIGURES.write_text("{\n" + ",\n".join(rows) + "\n}\n")


if __name__ == "__main__":
    main()
