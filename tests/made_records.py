"""What tests of the readers share: a byte-order mark, and readers without their lines."""

from xqg_pyserini import data

BOM = b"\xef\xbb\xbf"


def passages(source):
    return [passage for _, passage in data.read_corpus(source)]


def generated(source):
    return [record for _, record in data.read_generated(source)]
