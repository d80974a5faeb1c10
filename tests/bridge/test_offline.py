"""Pyserini's lists: fetched where they can be, else as they were kept, else empty, and said."""

import io
import json
import urllib.error
import urllib.request

import pytest

from xqg_pyserini.bridge.offline import LISTS, serve_offline
from xqg_pyserini.errors import XqgWarning

TOPICS = f"{LISTS}eval/0b4a/topics/topics.json"


@pytest.fixture
def network(monkeypatch, tmp_path):
    """A network that can be cut; what was asked for is in `asked`."""
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))

    class Network:
        def __init__(self):
            self.up, self.asked = True, []

        def __call__(self, url, *arguments, timeout=None):
            self.asked.append((url, timeout))
            if not self.up:
                raise urllib.error.URLError("no route")
            return io.BytesIO(json.dumps({"of": url}).encode())

    made = Network()
    monkeypatch.setattr(urllib.request, "urlopen", made)
    serve_offline()
    return made


def read(url):
    with urllib.request.urlopen(url) as response:
        return json.load(response)


def test_a_list_that_came_once_stands_in_for_one_that_does_not_come(network, recwarn):
    assert read(TOPICS) == {"of": TOPICS}
    network.up = False
    assert read(TOPICS) == {"of": TOPICS}
    assert not [w for w in recwarn if issubclass(w.category, XqgWarning)]
    assert network.asked == [(TOPICS, 10.0)] * 2  # a network that hangs is not waited for long


def test_without_one_the_list_is_empty_and_that_is_said(network):
    network.up = False
    with pytest.warns(XqgWarning, match="are not available offline"):
        assert read(f"{LISTS}prebuilt-indexes/3675/faiss/lists.json") == {}
    # said once, and a network that did not answer is not asked again
    assert read(f"{LISTS}prebuilt-indexes/3675/lucene/beir-flat.json") == []
    assert len(network.asked) == 1
    taken_out = read(f"{LISTS}prebuilt-indexes/3675/lucene/msmarco-v1-passage-impact.json")
    assert "msmarco-v1-passage.unicoil" in {entry["name"] for entry in taken_out}


def test_other_addresses_fail_as_they_did(network):
    network.up = False
    with pytest.raises(urllib.error.URLError):
        read("https://example.org/x.json")


def test_serving_twice_is_serving_once(network):
    first = urllib.request.urlopen
    serve_offline()
    assert urllib.request.urlopen is first
