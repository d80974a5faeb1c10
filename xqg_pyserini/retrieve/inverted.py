"""Indexes of inverted lists for corpora too large to be searched whole: `ivfpq` and `ivfsq8`.

A sample teaches the lists (spherical k-means) and the codes: of `ivfpq` a byte for every four dimensions or so (product
quantisation; Jégou, Douze and Schmid, Product quantization for nearest neighbor search, PAMI 33(1), 2011), of `ivfsq8`
a byte a dimension.  Both code what is left of a vector when its list's centroid is taken away.  A search looks into as
many lists as the file says: Faiss, and so Pyserini, reads that number from it.

All is computed by one thread, from seeds: the same vectors give the same bytes, on one kind of machine.
"""

import math
from collections.abc import Iterable
from typing import Any, NamedTuple

import numpy as np

from xqg_pyserini.errors import UserError, warn

KINDS = ("ivfpq", "ivfsq8")
SEED = 1234
LEAST = 39  # passages a list (and a code) that k-means is content with, by Faiss's own measure
SAMPLED = 40  # passages a list that are sampled
CODES = 256  # of a byte
MOST_PROBES = 256
ID_BYTES = 8  # of a passage's row, which stands in its list


class Plan(NamedTuple):
    """What an index of inverted lists is made with; recorded in `xqg.json`."""

    lists: int
    probes: int  # lists that a search looks into
    code_bytes: int  # a passage
    sample: int  # passages that it is learnt from
    seed: int = SEED


def planned(kind: str, n: int, d: int) -> Plan:
    """Return how n passages of d dimensions are indexed: about 4·√n lists, a power of 2, of which a 16th are probed.

    Raises:
        UserError: for too few passages to learn codes from.
    """
    if kind == "ivfpq" and n < CODES:
        raise UserError(f"{n} passages are too few for ivfpq, which takes {CODES}; use another type", "kind")
    lists = 1 << int(math.log2(max(1.0, min(4 * math.sqrt(n), n / LEAST))))
    code_bytes = max(m for m in range(1, max(1, d // 4) + 1) if d % m == 0) if kind == "ivfpq" else d
    sample = min(n, SAMPLED * max(lists, CODES))
    return Plan(lists, min(MOST_PROBES, max(1, lists // 16)), code_bytes, sample)


def learnt(kind: str, plan: Plan, d: int, n: int, blocks: Iterable[tuple[int, np.ndarray]]) -> Any:
    """Return a Faiss index without passages, its lists and codes learnt from a sample of what the blocks hold.

    Holds the sample, (plan.sample, d) float32.
    """
    import faiss

    if plan.lists < math.sqrt(n):
        warn(f"{n} passages are few for {kind}: {plan.lists} lists; searching them all (flat, sq8) may be as fast")
    quantizer = faiss.IndexFlatIP(d)
    if kind == "ivfpq":
        index = faiss.IndexIVFPQ(quantizer, d, plan.lists, plan.code_bytes, 8, faiss.METRIC_INNER_PRODUCT)
        index.pq.cp.seed, index.pq.cp.min_points_per_centroid = plan.seed, 1
    else:
        code = faiss.ScalarQuantizer.QT_8bit
        index = faiss.IndexIVFScalarQuantizer(quantizer, d, plan.lists, code, faiss.METRIC_INNER_PRODUCT)
    index.cp.seed, index.cp.min_points_per_centroid, index.cp.spherical = plan.seed, 1, True
    index.nprobe = plan.probes
    index.train(_sampled(plan, d, n, blocks))
    return index


def _sampled(plan: Plan, d: int, n: int, blocks: Iterable[tuple[int, np.ndarray]]) -> np.ndarray:
    wanted = np.sort(np.random.default_rng(plan.seed).choice(n, plan.sample, replace=False, shuffle=False))
    sample = np.empty((plan.sample, d), dtype=np.float32)
    for start, block in blocks:
        low, high = np.searchsorted(wanted, [start, start + len(block)])
        sample[low:high] = block[wanted[low:high] - start]
    return sample
