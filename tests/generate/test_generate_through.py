"""Generation straight into sums is both commands one after the other, byte for byte."""

import os
import signal
import subprocess
import sys
import time

from made_jobs import THROUGH, contents, place, refused, run_xqg, stores, words, xqg  # noqa: F401 - fixtures


def test_straight_through_is_both_commands_byte_for_byte(stores, xqg):
    out = xqg(*words("through"), *THROUGH, "through-sums", cwd=stores)
    assert "queries added up" in out
    assert contents(stores / "through") == contents(stores / "whole")
    assert contents(stores / "through-sums") == contents(stores / "sums")
    assert not list(stores.glob(".*"))


def test_straight_through_goes_on_where_it_was_killed(stores):
    command = [sys.executable, "-c", SMALL_CHUNKS, *map(str, words("thr"))]
    command += [*map(str, THROUGH), "thr-sums"]
    for wanted in (1, 3):  # as many shards are whole when it is killed
        process = subprocess.Popen(command, cwd=stores, stdout=subprocess.DEVNULL)
        while process.poll() is None and len(list((stores / "thr").glob("queries*"))) < wanted:
            time.sleep(0.005)
        process.kill()
        assert process.wait() == -signal.SIGKILL
        assert not (stores / "thr-sums").exists()
    times = {p.name: p.stat().st_mtime_ns for p in (stores / "thr").glob("queries*")}
    subprocess.run(command, cwd=stores, check=True)
    assert {n: (stores / "thr" / n).stat().st_mtime_ns for n in times} == times
    assert contents(stores / "thr") == contents(stores / "whole")
    through, expected = contents(stores / "thr-sums"), contents(stores / "sums")
    assert through.keys() == expected.keys()
    assert through["counts.npy"] == expected["counts.npy"]


# chunks of four records and a checkpoint after each, so that a kill comes between
SMALL_CHUNKS = """
import sys
from xqg_pyserini.retrieve import accumulate
from xqg_pyserini.stores import jobs as store
from xqg_pyserini.cli.main import main
accumulate.CHUNK, store.CHECKPOINT_SECONDS = 4, 0
sys.exit(main(sys.argv[1:]))
"""


def test_straight_through_takes_a_store_of_the_same_passages(stores, refused, tmp_path):
    lines = (stores / "corpus.jsonl").read_text("utf-8").splitlines(keepends=True)
    other = tmp_path / "corpus.jsonl"
    other.write_text(lines[0] + lines[1].replace('"id": "', '"id": "not-'), encoding="utf-8")
    command = words(tmp_path / "out", "--passages", "passages", "--accumulate", tmp_path / "sums")
    command[command.index("corpus.jsonl")] = other
    text = refused(*command, cwd=stores)
    assert f"{other}, line 2: passage 'not-" in text and "is not in passages; encode" in text
    assert sorted(os.listdir(tmp_path)) == ["corpus.jsonl"]


def test_both_outputs_in_one_folder_are_refused(stores, refused, tmp_path):
    for sums in (tmp_path / "out", tmp_path / "out" / "sums"):
        command = words(tmp_path / "out", "--passages", "passages", "--accumulate", sums)
        assert "are in one another; give each a folder" in refused(*command, cwd=stores)
    assert not list(tmp_path.iterdir())
