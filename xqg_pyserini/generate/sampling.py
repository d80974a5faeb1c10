"""Random choices that depend on what is chosen for, never on what stands beside it in a batch.

A query is a function of (seed, passage, language, index): each of its tokens is the most probable one after noise that
is computed from these and from nothing else.  Pure functions of arrays.
"""

import hashlib
from collections.abc import Sequence

import numpy as np

_STEP = np.uint64(0x9E3779B97F4A7C15)  # the golden ratio, odd: SplitMix64's increment


def sample_keys(seed: int, docid: str, language: str, number: int) -> np.ndarray:
    """Return the keys (number,) uint64 of a passage's queries in a language, one a query."""
    stem = f"{seed}\0{docid}\0{language}\0".encode()
    digests = (hashlib.blake2b(stem + b"%d" % i, digest_size=8).digest() for i in range(number))
    return np.frombuffer(b"".join(digests), dtype="<u8").astype(np.uint64)


def _mix(x: np.ndarray) -> np.ndarray:
    """Scramble 64-bit integers: the output function of SplitMix64 (Steele et al., 2014)."""
    x = (x ^ (x >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
    x = (x ^ (x >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
    return x ^ (x >> np.uint64(31))


def gumbel_noise(keys: np.ndarray, step: int, tokens: np.ndarray) -> np.ndarray:
    """Return standard Gumbel noise (r, k) float64 for k candidate tokens of r queries.

    Args:
        keys: (r,) uint64, see `sample_keys`.
        step: the place of the token in its query, from 0.
        tokens: (r, k) the candidates' ids.
    """
    at_step = _mix(keys + np.uint64(int(_STEP) * (step + 1) & 0xFFFFFFFFFFFFFFFF))
    bits = _mix(at_step[:, None] + _STEP * (tokens.astype(np.uint64) + np.uint64(1)))
    uniform = ((bits >> np.uint64(11)).astype(np.float64) + 0.5) * 2.0**-53  # in (0, 1)
    return -np.log(-np.log(uniform))


def choose_tokens(
    logits: np.ndarray, tokens: np.ndarray, keys: np.ndarray, step: int, temperature: float
) -> np.ndarray:
    """Draw the next token of r queries from their k candidates; returns (r,) token ids.

    With Gumbel noise g, argmax(logits / T + g) is distributed as softmax(logits / T) over the candidates (the
    Gumbel-max trick: Gumbel, 1954; Maddison et al., 2014, arXiv 1411.0030).

    Args:
        logits: (r, k) of the candidates, which are the top k of all tokens.
        tokens: (r, k) their ids.
        keys: (r,) uint64, see `sample_keys`.
        step: the place of the token in its query, from 0.
        temperature: T, above 0.
    """
    noisy = logits.astype(np.float64) / temperature + gumbel_noise(keys, step, tokens)
    best = noisy.argmax(axis=1)
    return tokens[np.arange(len(tokens)), best]


def stream_seed(seed: int, names: Sequence[object]) -> int:
    """Return a 32-bit seed for a sampler of its own, from the job's seed and some names."""
    stem = "\0".join(map(str, (seed, *names))).encode()
    return int.from_bytes(hashlib.blake2b(stem, digest_size=4).digest(), "little")
