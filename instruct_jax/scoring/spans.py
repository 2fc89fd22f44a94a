"""Exact match and F1 of short answers, as the sets' official scripts have them.

A question has several alternatives of an answer; the best counts. SQuAD 2.0
(Rajpurkar et al. 2018, evaluate-v2.0.py) compares words; '' is its answer where
there is none. DROP (Dua et al. 2019, drop_eval.py) also reads numbers, and a
wrong number is no match whatever stands around it. QuAC (Choi et al. 2018,
scorer.py) holds a model against all but one of several annotators at a time, as
each of them is held against the others.
"""

import collections
import re
import string
from collections.abc import Callable, Sequence

import numpy as np
from scipy import optimize

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
  """DROP's scores of an answer of one span, as its alternatives are.

  F1 is rounded to two decimals, as the official script does; alternatives of
  nothing are left out.
  """
  return drop_spans([sample], [[one] for one in references])


def drop_spans(
  said: Sequence[str], alternatives: Sequence[Sequence[str]]
) -> Scores:
  """The same of an answer of spans, whose alternatives are spans, too.

  Each span that was said goes with one that is right, so that their F1 is the
  greatest; what is left over on either side is 0. An exact match has the same
  spans in any order.
  """
  found = (0.0, 0.0)
  for spans in alternatives:
    if spans and spans[0].strip():
      exact, f1 = _drop_one(said, spans)
      found = max(found[0], exact), max(found[1], f1)
  return found


def _drop_one(said, known):
  mine, theirs = (list(map(drop_normalised, x)) for x in (said, known))
  exact = float(set(mine) == set(theirs) and len(mine) == len(theirs))
  table = np.asarray(
    [[_drop_f1(set(x.split()), set(y.split())) for x in mine] for y in theirs]
  )
  total = table[optimize.linear_sum_assignment(-table)].sum()
  return exact, round(float(total) / max(len(mine), len(theirs)), 2)


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
  return 2 * precision * recall / (precision + recall)


def _is_number(word: str) -> bool:
  try:
    float(word)
  except ValueError:
    return False
  return True


CANNOT = "CANNOTANSWER"  # how QuAC writes that a passage has no answer


def quac(sample: str, references: Sequence[str]) -> float:
  """QuAC's F1 of an answer, which is CANNOT where there is none.

  The mean over the references of the best of all others; that of the one where
  there is one. `references` are `quac_agreed`.
  """
  scores = [_quac_f1(sample, one) for one in references]
  return _leaving_out(lambda n, others: max(scores[k] for k in others), scores)


def quac_human(references: Sequence[str]) -> float:
  """How well each reference does against the others; 1 for a single one."""
  if len(references) == 1:
    return 1.0
  return _leaving_out(
    lambda n, others: max(
      _quac_f1(references[n], references[k]) for k in others
    ),
    references,
  )


def quac_agreed(references: Sequence[str]) -> list[str]:
  """The answers where more than half have one; else that there is none."""
  answers = [one for one in references if one != CANNOT]
  return answers if 2 * len(answers) > len(references) else [CANNOT]


def _leaving_out(score, values):
  """The mean over each value of `score(its place, the others' places)`."""
  places = range(len(values))
  if len(values) == 1:
    return score(0, [0])
  each = [score(n, [k for k in places if k != n]) for n in places]
  return sum(each) / len(each)


def _quac_f1(said: str, known: str) -> float:
  if CANNOT in (said, known):
    return float(said == known)
  mine, theirs = (squad_normalised(x).split() for x in (said, known))
  return _f1(mine, theirs) if mine and theirs else 0.0


Score = Callable[[str, Sequence[str]], Scores]
