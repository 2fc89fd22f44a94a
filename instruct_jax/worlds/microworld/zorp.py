"""Zorp, the second language: a word-for-word cipher of the content words."""

import random

from instruct_jax.worlds.microworld import tables

WORDS = (
  *tables.split_words(
    "is a lives in has likes where does live what job pet have food"
  ),
  *tables.split_words(
    "like write sentence about tell me of the which city do you know"
  ),
  *tables.split_words(
    "say something make starting ending with that starts ends"
  ),
  *tables.JOBS,
  *tables.PETS,
  *tables.FOODS,
)


def _cipher(rng: random.Random) -> dict[str, str]:
  syllables = [c + v for c in "bdgklmnprstvz" for v in "aeiou"]
  out: dict[str, str] = {}
  for word in WORDS:
    while word not in out:
      coded = rng.choice(syllables) + rng.choice(syllables) + "x"
      if coded not in out.values():
        out[word] = coded
  return out


CODES = _cipher(random.Random("zorp"))
ENGLISH = {coded: word for word, coded in CODES.items()}


def to_zorp(text: str) -> str:
  """Word for word; names, cities and punctuation stay."""
  return " ".join(CODES.get(word, word) for word in text.split(" "))


def to_english(text: str) -> str:
  """The inverse of `to_zorp`."""
  return " ".join(ENGLISH.get(word, word) for word in text.split(" "))
