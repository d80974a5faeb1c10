"""What tests of sweeps share."""

import pytest

TOLERANCE = 1e-5


def assert_same_lists(ours, theirs, tolerance=TOLERANCE):
    """Equal but for the order of hits within the tolerance, and for membership at the cut."""
    assert list(ours) == list(theirs)
    for qid, second in theirs.items():
        first = ours[qid]
        assert len(first) == len(second)
        scores = list(first.values())
        assert scores == sorted(scores, reverse=True)
        assert scores == pytest.approx(list(second.values()), abs=tolerance)
        for docid in first.keys() & second.keys():
            assert first[docid] == pytest.approx(second[docid], abs=tolerance), (qid, docid)
        for docid in first.keys() ^ second.keys():
            assert (first | second)[docid] == pytest.approx(scores[-1], abs=tolerance), (qid, docid)
