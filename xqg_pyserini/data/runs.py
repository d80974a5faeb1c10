"""TREC runs and qrels, read strictly: what cannot be taken is named by file and line."""

from pathlib import Path

from xqg_pyserini.data.records import Hit, Run
from xqg_pyserini.errors import UserError
from xqg_pyserini.files import Line, read_lines, writing


def read_run(source: str | Path) -> Run:
    """Read a TREC run: hits by rank for each question, questions in the order they appear.

    Lines may stand in any order and ranks may start anywhere.  Raises `UserError` for a line
    without six columns, a docid or rank that comes twice, a score that is not a finite number or
    that rises with the rank.
    """
    path = Path(source)
    if not path.is_file():
        raise UserError(f"{path}: no such run file")
    rows: dict[str, list[tuple[int, Hit, int]]] = {}
    for line in read_lines(path):
        cells = line.text.split()
        if len(cells) != 6:
            raise line.error(f"{len(cells)} columns; expected six: qid Q0 docid rank score tag")
        qid, _, docid, rank, score, _ = cells
        try:
            entry = int(rank), Hit(docid, float(score)), line.number
        except ValueError:
            raise line.error(f"rank {rank!r} or score {score!r} is not a number") from None
        if not abs(entry[1].score) < float("inf"):
            raise line.error(f"score {score!r} is not a finite number")
        rows.setdefault(qid, []).append(entry)
    if not rows:
        raise UserError(f"{path}: no hit in it; expected a TREC run")
    return {qid: _ranked(path, qid, hits) for qid, hits in rows.items()}


def _ranked(path: Path, qid: str, rows: list[tuple[int, Hit, int]]) -> list[Hit]:
    rows.sort(key=lambda row: row[0])
    seen: set[str] = set()
    for i, (rank, hit, number) in enumerate(rows):
        line = Line(path, number, "")
        if i and rank == rows[i - 1][0]:
            raise line.error(f"rank {rank} of question {qid!r} comes twice")
        if i and hit.score > rows[i - 1][1].score:
            raise line.error(f"the score of question {qid!r} rises at rank {rank}")
        if hit.docid in seen:
            raise line.error(f"passage {hit.docid!r} comes twice for question {qid!r}")
        seen.add(hit.docid)
    return [hit for _, hit, _ in rows]


def write_run(path: str | Path, run: Run, tag: str) -> None:
    """Write a TREC run: ranks from 1, scores with six decimals, all in one rename."""
    with writing(path) as file:
        for qid, hits in run.items():
            for rank, hit in enumerate(hits, 1):
                file.write(f"{qid} Q0 {hit.docid} {rank} {hit.score:.6f} {tag}\n")


def read_qrels(source: str | Path) -> dict[str, dict[str, int]]:
    """Read TREC qrels (`qid 0 docid relevance`): 0 and below is judged and not relevant."""
    qrels: dict[str, dict[str, int]] = {}
    for line in read_lines(Path(source)):
        cells = line.text.split()
        if len(cells) != 4:
            raise line.error(f"{len(cells)} columns; expected four: qid 0 docid relevance")
        try:
            relevance = int(cells[3])
        except ValueError:
            raise line.error(f"relevance {cells[3]!r} is not a whole number") from None
        if cells[2] in qrels.setdefault(cells[0], {}):
            raise line.error(f"passage {cells[2]!r} is judged twice for question {cells[0]!r}")
        qrels[cells[0]][cells[2]] = max(0, relevance)
    if not qrels:
        raise UserError(f"{source}: no judgement in it; expected TREC qrels")
    return qrels
