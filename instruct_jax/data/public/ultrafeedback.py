"""UltraFeedback: scored completions, or a chosen and a rejected one."""

from collections.abc import Iterator
from typing import Any

from instruct_jax.base import errors
from instruct_jax.data.public import dialogues, formats
from instruct_jax.data.read import files

Counts, Record = formats.Counts, formats.Record

_SCORES = ("overall_score", "fine-grained_score", "score", "rating")


def rankings(rows: files.Rows, counts: Counts) -> Iterator[Record]:
  """Completions by their scores; or chosen and rejected conversations."""
  for where, row in rows:
    counts["read"] += 1
    if isinstance(row.get("chosen"), list):
      yield from _binarized(row, where, counts)
      continue
    prompt = _prompt(row, where)
    scored = list(_scored(row, where, counts))
    if len(scored) < 2:
      counts["dropped: fewer than two scored completions"] += 1
      continue
    responses, scores, models = zip(*scored)
    ranks = formats.dense([-score for score in scores])
    for record in formats.ranking(prompt, responses, ranks, counts):
      yield record | formats.of_models(models)


def prompts(rows: files.Rows, counts: Counts) -> Iterator[Record]:
  """Instructions, with or without completions that have scores."""
  for where, row in rows:
    counts["read"] += 1
    if isinstance(row.get("chosen"), list):
      yield from _binarized(row, where, counts)
    else:
      yield from formats.prompt(_prompt(row, where), counts)


def _prompt(row: Record, where: str) -> str:
  name = "instruction" if "instruction" in row else "prompt"
  return formats.key(row, name, str, where).strip()


def _scored(
  row: Record, where: str, counts: Counts
) -> Iterator[tuple[str, float, Any]]:
  """(response, score, model) of the completions with both, by one score.

  Scores that a judge did not give are spelled 'N/A' in the public files.
  """
  completions = formats.key(row, "completions", list, where)
  texts = [
    formats.key(one, "response", str, f"{where}, completion {n}").strip()
    for n, one in enumerate(completions, 1)
  ]
  has = (k for k in _SCORES if any(k in one for one in completions))
  name = next(has, None)
  if name is None:
    if not completions:
      return
    raise errors.UserError(
      f"{where}: no score; a completion should have one of {', '.join(_SCORES)}"
    )
  for n, (text, one) in enumerate(zip(texts, completions), 1):
    score = one.get(name)
    if score is None or isinstance(score, str):
      counts["dropped: completions without a score"] += 1
    elif not text:
      counts["dropped: completions without a text"] += 1
    else:
      value = formats.key(one, name, float, f"{where}, completion {n}")
      yield text, value, one.get("model")


def _binarized(row: Record, where: str, counts: Counts) -> Iterator[Record]:
  chosen, rejected = (
    dialogues.conversation(formats.key(row, name, list, where), where)
    for name in ("chosen", "rejected")
  )
  reason = chosen.wrong or rejected.wrong
  if reason:
    counts[reason] += 1
    return
  if chosen.prompt != rejected.prompt:
    counts[formats.DIFFER] += 1
    return
  names = ("score_chosen", "score_rejected")
  scores: list[Any] = [
    formats.key(row, name, float, where)
    for name in names
    if row.get(name) is not None
  ]
  if len(scores) == 2 and scores[0] < scores[1]:
    counts["dropped: the scores contradict the choice"] += 1
    return
  tie = {"ranks": [1, 1]} if len(scores) == 2 and scores[0] == scores[1] else {}
  for record in formats.pair(
    chosen.prompt, chosen.response, rejected.response, counts
  ):
    yield formats.beside(row, counts) | record | tie


FORMAT = formats.Format(
  "scored completions", {"rankings": rankings, "prompts": prompts}
)
