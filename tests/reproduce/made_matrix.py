"""A matrix of two tiny conditions: each writes a run, which a script in trec_eval's place scores."""

import hashlib
from pathlib import Path

SCORER = """
import sys
for line in open(sys.argv[1]):
    print("recip_rank", "all", line.strip(), sep="\\t")
"""
MATRIX = """
name: tiny
description: two runs of one number each
tolerance: {ok: 0.05, close: 1}
inputs:
  - {path: scorer/eval.trec_eval, get: the drawer, sha256: %s}
  - {path: number.txt, get: the other drawer, sha256: %s}
variables:
  plus: "0"
conditions:
  - name: first
    description: the number as it is
    commands:
      - python -c 'import sys; open(sys.argv[2], "w").write("x"); open("count", "a").write("m")' --output made
      - python -c 'import sys; open(sys.argv[3], "w").write(str(float(open(sys.argv[1]).read()) + {plus})); open("count", "a").write("1")' $DATA/number.txt --output one.txt made
      - python $DATA/scorer/eval.trec_eval one.txt
    expected:
      - {run: one.txt, metric: recip_rank, values: {average: 33.3}, source: by hand}
  - name: second
    description: twice the number
    commands:
      - python -c 'import sys; open(sys.argv[2], "w").write("x"); open("count", "a").write("m")' --output made
      - python -c 'import sys; open(sys.argv[3], "w").write(str(2 * float(open(sys.argv[1]).read()))); open("count", "a").write("2")' $DATA/number.txt --output two.txt
      - python $DATA/scorer/eval.trec_eval two.txt
    expected:
      - {run: two.txt, metric: recip_rank, values: {average: 66.0}, source: by hand}
  - name: far
    description: what nobody has
    needs: [a hub]
    commands:
      - python -c 'raise OSError("no network here")'
    expected:
      - {run: far.txt, metric: recip_rank, values: {average: 1}, source: elsewhere}
"""  # noqa: E501
MATRIX = MATRIX.replace(" --output one.txt made", " --output one.txt")


def make(folder: Path, text: str = MATRIX) -> Path:
    """Write the matrix and its data; return the matrix."""
    data = folder / "data"
    (data / "scorer").mkdir(parents=True)
    (data / "scorer" / "eval.trec_eval").write_text(SCORER)
    (data / "number.txt").write_text("33.3")
    sums = [hashlib.sha256(content.encode()).hexdigest() for content in (SCORER, "33.3")]
    path = folder / "tiny.yaml"
    path.write_text(text % tuple(sums) if "%s" in text else text)
    return path
