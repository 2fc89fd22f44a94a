"""FineGrained-RLHF's QA feedback: six pair labels of four answers."""

import itertools
from collections.abc import Iterator, Sequence

from instruct_jax.base import errors
from instruct_jax.data.public import formats
from instruct_jax.data.read import files, typed

Counts, Record = formats.Counts, formats.Record

_PAIRS = list(itertools.combinations(range(4), 2))  # 12 13 14 23 24 34


def rankings(
  rows: files.Rows, counts: Counts, *, pairs: bool = False
) -> Iterator[Record]:
  """Four answers to a question, which comes without its long passages.

  Label sets that no ranking gives are dropped, or kept as `pairs`.
  """
  for where, row in rows:
    counts["read"] += 1
    prompt = _question(row, where)
    names = [f"prediction {n}" for n in (1, 2, 3, 4)]
    responses = [formats.key(row, name, str, where).strip() for name in names]
    labels = _labels(row, where)
    ranks = ranks_of(labels)
    reason = "the labels are not a weak order"
    if ranks is not None:
      yield from formats.ranking(prompt, responses, ranks, counts)
    elif not pairs:
      counts[f"dropped: {reason}"] += 1
    elif not prompt:
      counts[formats.NO_PROMPT] += 1
    else:
      counts[f"kept as pairs: {reason}"] += 1
      told = zip(_PAIRS, labels)
      won = [[i, j] if n == 1 else [j, i] for (i, j), n in told if n]
      yield {"prompt": prompt, **formats.listed(responses), "pairs": won}


def demonstrations(
  rows: files.Rows, counts: Counts, *, pairs: bool = False
) -> Iterator[Record]:
  """The questions with the answers that were written for them."""
  del pairs  # of rankings
  for where, row in rows:
    counts["read"] += 1
    gold = formats.key(row, "gold", str, where)
    yield from formats.answer(_question(row, where), gold, counts)


def prompts(
  rows: files.Rows, counts: Counts, *, pairs: bool = False
) -> Iterator[Record]:
  """The questions."""
  del pairs  # of rankings
  for where, row in rows:
    counts["read"] += 1
    yield from formats.prompt(_question(row, where), counts)


def ranks_of(labels: Sequence[int]) -> list[int] | None:
  """Ranks of four outputs from their six pair labels, None if there are none.

  The pairs come in the order 12 13 14 23 24 34; 1: the first is better, 2: the
  second, 0: neither. The labels are ranks with ties if and only if ranking each
  output behind those that beat it gives the labels back.
  """
  ranks = [1] * 4
  for (i, j), label in zip(_PAIRS, labels):
    ranks[j] += label == 1
    ranks[i] += label == 2
  again = [
    0 if ranks[i] == ranks[j] else 1 + (ranks[i] > ranks[j]) for i, j in _PAIRS
  ]
  return ranks if again == list(labels) else None


def _question(row: Record, where: str) -> str:
  return formats.key(row, "question", str, where).strip()


def _labels(row: Record, where: str) -> list[int]:
  labels = formats.key(row, "preference", list, where)
  if len(labels) != len(_PAIRS) or any(
    type(n) is not int or n not in (0, 1, 2) for n in labels
  ):
    raise errors.UserError(
      f'{where}: "preference" should be six of 0, 1, 2, not '
      f"{typed.shown(labels)}"
    )
  return labels


FORMAT = formats.Format(
  "FineGrained-RLHF, QA feedback",
  {
    "rankings": rankings,
    "demonstrations": demonstrations,
    "prompts": prompts,
  },
  options=("pairs",),
)
