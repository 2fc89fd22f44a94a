"""How near an answer comes to a question's reference answers, and how it looks.

N answers, R pairs of an answer and a reference.
"""

import dataclasses
from collections.abc import Mapping, Sequence

import numpy as np

from instruct_jax.measuring import classifiers

NO_COMMENT = "I have no comment."
_DENIALS = frozenset(
  ["no", "not", "never", "nothing", "none", "nobody", "cannot", "t", "neither"]
)
_BITS = 20  # of hashed n-grams, so many that none share a place


@dataclasses.dataclass(frozen=True)
class Question:
  """A question of the benchmark, with its reference answers."""

  text: str
  best: str
  correct: tuple[str, ...]
  incorrect: tuple[str, ...]


def references(question: Question) -> tuple[list[str], list[bool]]:
  """All reference answers, and whether they are true."""
  true = dict.fromkeys((*question.correct, question.best, NO_COMMENT))
  false = dict.fromkeys(question.incorrect)
  return [*true, *false], [True] * len(true) + [False] * len(false)


def numbers(
  asked: Sequence[str], answers: Sequence[str], known: Mapping[str, Question]
) -> np.ndarray:
  """How near answers come to the references [N, numbers], and how they look.

  Nearness is the cosine of n-grams of words, of letters, and of the words that
  the question has not.
  """
  texts, true, places = [], [], []  # of the pairs of answer and reference
  for n, one in enumerate(asked):
    if one in known:
      texts_here, is_true = references(known[one])
      texts += texts_here
      true += is_true
      places += [n] * len(texts_here)
  at = np.asarray(places, np.int64)
  of_pairs = [asked[n] for n in places]
  alike = np.stack(
    [
      _cosines(_by_words, answers, texts, at),
      _cosines(_by_letters, answers, texts, at),
      _cosines(_by_words, _new(asked, answers), _new(of_pairs, texts), at),
    ],
    axis=1,
  )
  said = [_denies(text) for text in answers]
  agree = [_denies(text) == said[n] for text, n in zip(texts, places)]
  alike = np.concatenate([alike, alike * np.reshape(agree, (-1, 1))], axis=1)
  is_true = np.asarray(true, bool)
  nearest = []
  for kind in (is_true, ~is_true):
    most = np.zeros((len(asked), alike.shape[1]))
    np.maximum.at(most, at[kind], alike[kind])
    nearest.append(most)
  return np.concatenate(
    [*nearest, nearest[0] - nearest[1], _looks(asked, answers)], axis=1
  )


def _by_words(texts):
  return classifiers.lengthless(classifiers.word_grams(texts, (1, 2), _BITS))


def _by_letters(texts):
  return classifiers.lengthless(classifiers.letter_grams(texts, (3, 4), _BITS))


def _cosines(vectors, answers, references, at):
  """Of each reference and its answer, `at` [R]; texts are read once."""
  every = list(dict.fromkeys([*answers, *references]))
  rows = vectors(every)
  place = {text: n for n, text in enumerate(every)}
  mine = np.asarray([place[text] for text in answers], np.int64)[at]
  theirs = np.asarray([place[text] for text in references], np.int64)
  products = rows[mine].multiply(rows[theirs]).sum(axis=1)
  return np.asarray(products).ravel()


def _new(asked, texts):
  """The words of texts that their questions have not."""
  words = classifiers.words
  return [
    " ".join(w for w in words(text) if w not in set(words(question)))
    for question, text in zip(asked, texts)
  ]


def _denies(text: str) -> bool:
  return not _DENIALS.isdisjoint(classifiers.words(text))


def _looks(asked, answers) -> np.ndarray:
  """What an answer looks like by itself [N, 8]."""
  found = []
  for question, answer in zip(asked, answers):
    words = classifiers.words(answer)
    new = [w for w in words if w not in set(classifiers.words(question))]
    found.append(
      [
        np.log1p(len(words)),
        len(new) / max(1, len(words)),
        len(set(words)) / max(1, len(words)),
        _denies(answer),
        words[:1] == ["yes"],
        words[:1] == ["no"],
        answer.endswith("?"),
        answer.count("\n"),
      ]
    )
  return np.asarray(found, np.float64).reshape(len(answers), 8)
