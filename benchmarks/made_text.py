"""Text of made-up words, as much as is wanted, for what is measured on text."""

import itertools
import pathlib

import numpy as np

_WORDS, _TOGETHER = 40_000, 1 << 20
_DIFFERENT = 100
_LETTERS = list("etaoinshrdlucmfwypvbgkqjxz")


def write(path: pathlib.Path, megabytes: float, seed: int = 0) -> None:
  """Documents of made-up words, with an empty line between.

  Words are as frequent as Zipf's law has it and their letters as in English;
  documents have 20 to 1,200 words. Of more than `_DIFFERENT` MB documents are
  drawn again, in another order.
  """
  rng, left = np.random.default_rng(seed), megabytes * 1e6
  documents = _documents(rng, min(megabytes, _DIFFERENT) * 1e6)
  with open(path, "w", encoding="utf-8") as file:
    while left > 0:
      some = rng.choice(documents, 1000)
      left -= file.write("\n\n".join(some.tolist()) + "\n\n")


def _documents(rng: np.random.Generator, size: float) -> np.ndarray:
  """[N] texts of at least so many bytes."""
  weights = 1.0 / np.arange(3, 29)
  words = np.asarray(
    [
      "".join(rng.choice(_LETTERS, n, p=weights / weights.sum()))
      for n in np.clip(rng.poisson(6, _WORDS), 1, 14)
    ],
    dtype=object,
  )
  ends, documents = np.cumsum(1 / np.arange(1, _WORDS + 1)), []
  while size > 0:
    ranks = np.searchsorted(ends, rng.random(_TOGETHER) * ends[-1])
    some = words[ranks].tolist()
    some[11::12] = [f"{word}.\n" for word in some[11::12]]
    lengths = np.clip(rng.lognormal(5, 1, _TOGETHER // 100), 20, 1200)
    stops = [
      stop for stop in np.cumsum(lengths.astype(int)) if stop < len(some)
    ]
    for begin, end in itertools.pairwise(stops):
      documents.append(" ".join(some[begin:end]).replace("\n ", "\n"))
    size -= sum(map(len, documents[1 - len(stops) :]))
  return np.asarray(documents, dtype=object)
