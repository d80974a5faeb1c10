"""Jobs that are killed go on where they were, and leave nothing half-done."""

import os

import numpy as np
import pytest
from conftest import message
from made_stores import files

from xqg_pyserini.errors import UserError, XqgWarning
from xqg_pyserini.files import write_json
from xqg_pyserini.stores import create_matrix, reopen_matrix, resumable


def steps(path, total=5, stop_at=None, error=KeyboardInterrupt, overwrite=False, **settings):
    """A job of some steps, each saved, which adds a line a step; returns where it began."""
    with resumable(path, {"stage": "test", **settings}, overwrite, []) as job:
        began = job.done
        log = job.path / "log"
        kept = log.read_text().splitlines()[:began] if began else []
        for step in range(began, total):
            if step == stop_at:
                raise error("stopped")
            kept.append(f"step {step}")
            log.write_text("\n".join(kept))
            job.state["last"] = step
            job.save(step + 1)
    return began


@pytest.mark.parametrize("error", [KeyboardInterrupt, MemoryError, OSError, SystemExit])
def test_a_job_goes_on_where_it_was_stopped(tmp_path, error):
    path = tmp_path / "new" / "out"
    for stop in (1, 2, 2, 4):
        with pytest.raises(error):
            steps(path, stop_at=stop, error=error)
        assert os.listdir(tmp_path / "new") == [".out.partial"]
    assert steps(path) == 4
    assert os.listdir(tmp_path / "new") == ["out"]
    steps(tmp_path / "whole")
    assert files(path) == files(tmp_path / "whole")
    assert list(files(path)) == ["log"]


def test_a_job_with_other_settings_starts_afresh(tmp_path):
    with pytest.raises(KeyboardInterrupt):
        steps(tmp_path / "out", stop_at=3, how=[1, "a"])
    write_json(tmp_path / ".out.partial" / "decoy", 1)
    with pytest.raises(KeyboardInterrupt), pytest.warns(XqgWarning) as said:
        steps(tmp_path / "out", stop_at=1, how=[1, "b"])
    differ = 'how is [1, "a"] there and [1, "b"] here'
    given_up = f"{tmp_path / 'out'}: what was begun there is given up, since another job began it ({differ})"
    assert [str(warning.message) for warning in said] == [given_up]
    assert steps(tmp_path / "out", how=[1, "b"]) == 1
    assert list(files(tmp_path / "out")) == ["log"]
    assert steps(tmp_path / "out", how=[1, "b"], overwrite=True) == 0  # what is done is done


def test_tuples_in_a_description_are_no_other_settings(tmp_path):
    with pytest.raises(KeyboardInterrupt):
        steps(tmp_path / "out", stop_at=3, how=("auto", 1))
    assert steps(tmp_path / "out", how=("auto", 1)) == 3


def test_a_user_error_leaves_nothing_and_neither_does_a_job_that_did_not_begin(tmp_path):
    for stop, error in [(3, UserError), (0, UserError), (0, KeyboardInterrupt)]:
        with pytest.raises(error):
            steps(tmp_path / "out", stop_at=stop, error=error)
        assert os.listdir(tmp_path) == []


@pytest.mark.parametrize("damage", [b"", b"{", b"[]", b"{}", b"\xff"])
def test_a_job_whose_progress_cannot_be_read_starts_afresh(tmp_path, damage):
    with pytest.raises(KeyboardInterrupt):
        steps(tmp_path / "out", stop_at=3)
    (tmp_path / ".out.partial" / "progress.json").write_bytes(damage)
    assert steps(tmp_path / "out") == 0
    assert (tmp_path / "out" / "log").read_text().count("step") == 5


def test_the_old_folder_stands_until_the_job_is_done(tmp_path):
    steps(tmp_path / "out", total=2)
    old = files(tmp_path / "out")
    assert "already holds something" in message(steps, tmp_path / "out")
    with pytest.raises(KeyboardInterrupt):
        steps(tmp_path / "out", stop_at=3, overwrite=True)
    assert files(tmp_path / "out") == old
    assert steps(tmp_path / "out", overwrite=True) == 3
    assert files(tmp_path / "out")["log"].count(b"step") == 5
    assert os.listdir(tmp_path) == ["out"]


def test_a_matrix_is_zero_and_takes_its_disk_space_at_once(tmp_path):
    matrix = create_matrix(tmp_path / "m.npy", (1000, 100), "float32")
    assert matrix.shape == (1000, 100) and not matrix.any()
    assert (tmp_path / "m.npy").stat().st_blocks * 512 >= 400_000
    matrix[7] = 3
    matrix.flush()
    assert reopen_matrix(tmp_path / "m.npy")[7].tolist() == [3] * 100
    assert np.load(tmp_path / "m.npy").sum() == 300
