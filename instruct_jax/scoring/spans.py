"""Exact match and F1 of short answers, as the sets' official scripts have them.

A question has several alternatives of an answer; the best counts. SQuAD 2.0
(Rajpurkar et al. 2018, evaluate-v2.0.py) compares words; '' is its answer where
there is none. DROP (Dua et al. 2019, drop_eval.py) also reads numbers, and a
wrong number is no match whatever stands around it.
"""

import collections
import re
import string
from collections.abc import Callable, Sequence

Scores = tuple[float, float]  # exact match, F1: fractions

_ARTICLES = re.compile(r"\b(a|an|the)\b")
_PUNCTUATION = str.maketrans("", "", string.punctuation)


def squad(sample: str, references: Sequence[str]) -> Scores:
  """SQuAD 2.0's scores of an answer; '' is that there is none.

  Alternatives that normalise to nothing count only where all do.
  """
  said = squad_normalised(sample)
  known = [words for x in references if (words := squad_normalised(x))] or [""]
  exact = max(float(said == words) for words in known)
  return exact, max(_f1(said.split(), words.split()) for words in known)


def squad_normalised(text: str) -> str:
  """Lower case, without punctuation and articles, single spaces."""
  bare = text.lower().translate(_PUNCTUATION)
  return " ".join(_ARTICLES.sub(" ", bare).split())


def _f1(said: list[str], known: list[str]) -> float:
  """F1 of two bags of words; an empty one equals an empty one alone."""
  if not said or not known:
    return float(said == known)
  common = sum(
    (collections.Counter(said) & collections.Counter(known)).values()
  )
  return 2 * common / (len(said) + len(known))


def drop(sample: str, references: Sequence[str]) -> Scores:
  """DROP's scores of an answer of one span.

  F1 is rounded to two decimals, as the official script does; alternatives of
  nothing are left out.
  """
  said = drop_normalised(sample)
  known = [drop_normalised(x) for x in references if x.strip()]
  if not known:
    return 0.0, 0.0
  exact = max(float(said == words) for words in known)
  return exact, max(_drop_f1(set(said.split()), set(x.split())) for x in known)


def drop_normalised(text: str) -> str:
  """Each word (a hyphen parts them too) in lower case, a number or bare."""
  words = (_drop_word(word) for word in re.split(" |-", text))
  return " ".join(word for word in words if word)


def _drop_word(word: str) -> str:
  word = word.lower()
  bare = word if _is_number(word) else word.translate(_PUNCTUATION)
  if _is_number(bare):
    bare = str(float(bare))
  return " ".join(_ARTICLES.sub(" ", bare).split())


def _drop_f1(said: set[str], known: set[str]) -> float:
  """F1 of two sets of words; 0 where the numbers differ."""
  numbers = {word for word in known if _is_number(word)}
  if numbers and not numbers & said:
    return 0.0
  common = len(said & known)
  precision = common / len(said) if said else 1.0
  recall = common / len(known) if known else 1.0
  if not precision + recall:
    return 0.0
  return round(2 * precision * recall / (precision + recall), 2)


def _is_number(word: str) -> bool:
  try:
    float(word)
  except ValueError:
    return False
  return True


Score = Callable[[str, Sequence[str]], Scores]
