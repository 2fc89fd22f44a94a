"""OpenAssistant's trees: the ranked answers to each message of a person."""

import functools
from collections.abc import Iterator, Sequence
from typing import Any

from instruct_jax.base import errors
from instruct_jax.data.public import dialogues, formats
from instruct_jax.data.read import files, typed

Counts, Record = formats.Counts, formats.Record
Answers = Sequence[tuple[Record, str]]  # (message, text)


def rankings(
  rows: files.Rows, counts: Counts, *, lang: str = ""
) -> Iterator[Record]:
  """Dialogues with the answers that have ranks.

  `lang` keeps the messages of one language. "read" counts the messages of
  people.
  """
  for prompt, answers in _dialogues(rows, counts, lang):
    ranked = _ranked(answers)
    if len(ranked) < 2:
      counts["dropped: fewer than two ranked answers"] += 1
      continue
    if len(answers) > len(ranked):
      counts["dropped: answers without a rank"] += len(answers) - len(ranked)
    ranks, responses = zip(*ranked)
    yield from formats.ranking(prompt, responses, formats.dense(ranks), counts)


def demonstrations(
  rows: files.Rows, counts: Counts, *, lang: str = ""
) -> Iterator[Record]:
  """Dialogues with the answers ranked first, or the only ones."""
  for prompt, answers in _dialogues(rows, counts, lang):
    ranked = _ranked(answers)
    if not ranked and len(answers) != 1:
      counts["dropped: no best answer"] += 1
      continue
    best = min(ranked)[1] if ranked else answers[0][1]
    yield from formats.answer(prompt, best, counts)
    if len(answers) > 1:
      counts["dropped: answers that are not the best"] += len(answers) - 1


def prompts(
  rows: files.Rows, counts: Counts, *, lang: str = ""
) -> Iterator[Record]:
  """Dialogues up to each message of a person."""
  for prompt, _ in _dialogues(rows, counts, lang):
    yield from formats.prompt(prompt, counts)


def _dialogues(
  rows: files.Rows, counts: Counts, lang: str
) -> Iterator[tuple[str, Answers]]:
  """(dialogue up to a message of a person, the answers to it)."""
  keep = functools.partial(_reason, lang=lang)
  for where, row in rows:
    todo = [(formats.key(row, "prompt", dict, where), [])]
    while todo:
      message, before = todo.pop()
      counts["read"] += 1
      place, text = _node(message, "prompter", where)
      reason = keep(message)
      if reason:
        counts[reason] += 1
        continue
      turns = [*before, (dialogues.HUMAN, text)]
      answers = _answers(message, place, keep, counts)
      if dialogues.is_forged([text for _, text in turns]):
        counts[dialogues.FORGED] += 1
      else:
        yield dialogues.prompt_of(turns), answers
      below = [
        (reply, [*turns, (dialogues.ASSISTANT, said)])
        for answer, said in answers
        for reply in formats.optional(answer, "replies", list, place)
      ]
      todo += reversed(below)


def _ranked(answers: Answers) -> list[tuple[int, str]]:
  """(rank, text) of the answers that have one."""
  with_rank = (pair for pair in answers if pair[0].get("rank") is not None)
  return [(answer["rank"], said) for answer, said in with_rank]


def _answers(message, where, keep, counts) -> Answers:
  """(message, text) of the answers that are kept."""
  kept = []
  for reply in formats.optional(message, "replies", list, where):
    place, said = _node(reply, "assistant", where)
    if reply.get("rank") is not None:
      formats.key(reply, "rank", int, place)
    reason = keep(reply) or ("" if said else formats.NO_RESPONSE)
    if reason:
      counts[reason] += 1
    else:
      kept.append((reply, said))
  return kept


def _node(message: Any, role: str, where: str) -> tuple[str, str]:
  """(where it is, its text) of a message of a tree, which must be of a role."""
  name = message.get("message_id") if isinstance(message, dict) else None
  place = f"{where}, message {name}" if isinstance(name, str) else where
  text = formats.key(message, "text", str, place).strip()
  if formats.key(message, "role", str, place) != role:
    raise errors.UserError(
      f'{place}: "role" should be "{role}" here, as persons and the assistant '
      f"take turns, not {typed.shown(message['role'])}"
    )
  return place, text


def _reason(message: Record, *, lang: str) -> str:
  """Why a message and all below it is dropped, or ''."""
  if message.get("deleted"):
    return "dropped: deleted, and all below"
  if "review_result" in message and not message["review_result"]:
    return "dropped: not reviewed or refused, and all below"
  if lang and message.get("lang") != lang:
    return "dropped: another language, and all below"
  return ""


FORMAT = formats.Format(
  "OpenAssistant's ranked trees",
  {
    "rankings": rankings,
    "demonstrations": demonstrations,
    "prompts": prompts,
  },
  options=("lang",),
)
