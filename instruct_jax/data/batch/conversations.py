"""Rows of conversations: answers that one row can hold together, in tokens.

Every answer has the prompt that a policy would be asked with: what its template
makes of all that was said before. An answer joins the row of the one before it
where its prompt goes on from that row token by token, so that each token that
counts is seen behind the very tokens that it will be sampled behind; else it
has a row of its own. Templates that write an earlier turn otherwise than the
last one (without what was thought, say, or without the end of a text) are
therefore right too, and cost more rows.
"""

from collections.abc import Iterable, Sequence
from typing import NamedTuple

from instruct_jax.tokenizers import answers


class Row(NamedTuple):
  """Tokens of a row, as long as they are."""

  first: int  # the place of its first answer
  prompt: list[int]
  response: list[int]  # answers, and what stands between them
  is_target: list[bool] | None  # of the response; None: all


def rows_of(
  prompts: Sequence[list[int]],
  said: Sequence[answers.Answer],
  groups: Iterable[range],
  *,
  prompt_length: int,
  response_length: int,
) -> tuple[list[Row], list[int]]:
  """The rows of answers in groups, a conversation each, and which are in one.

  A row begins with an answer whose prompt fits, and holds those that fit whole
  behind it. What fits in no other way is cut at the end of a row; the rest is
  left out.
  """
  rows: list[Row] = []
  held: list[int] = []
  for group in groups:
    row = None
    for n in group:
      fits, answer = len(prompts[n]) <= prompt_length, said[n]
      between = _between(row, prompts[n])
      room = response_length - len(row.response) if row else 0
      if row and between is not None:
        needed = len(between) + (len(answer.ids) if fits else 1)
        if needed <= room:
          row = rows[-1] = _joined(row, between, answer)
          held.append(n)
          continue
      if fits:
        row = Row(n, prompts[n], answer.ids, answer.is_target)
        rows.append(row)
        held.append(n)
  return rows, held


def targets_of(row: Row) -> list[bool]:
  """Which tokens of a row's response a loss counts."""
  if row.is_target is None:
    return [True] * len(row.response)
  return row.is_target


def _between(row: Row | None, prompt: list[int]) -> list[int] | None:
  """What a prompt has behind a row; None where it does not go on from it."""
  if row is None:
    return None
  start, stop = len(row.prompt), len(row.prompt) + len(row.response)
  if prompt[:start] == row.prompt and prompt[start:stop] == row.response:
    return prompt[stop:]
  return None


def _joined(row: Row, between: list[int], answer: answers.Answer) -> Row:
  before = targets_of(row)
  more = answer.is_target or [True] * len(answer.ids)
  return row._replace(
    response=[*row.response, *between, *answer.ids],
    is_target=[*before, *([False] * len(between)), *more],
  )
