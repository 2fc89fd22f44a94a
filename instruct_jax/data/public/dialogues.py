"""Dialogues as one prompt string, and the sets that hold them.

The notation is HH-RLHF's: turns after '\\n\\nHuman: ' and '\\n\\nAssistant: ',
the first 'Human:' off. A message that spells such a mark itself would be read
as two; dialogues with one before the last turn are dropped.
"""

import dataclasses
import functools
import re
from collections.abc import Iterator, Sequence
from typing import Any

from instruct_jax.base import errors
from instruct_jax.data.public import formats
from instruct_jax.data.read import files, typed

Counts, Record = formats.Counts, formats.Record

HUMAN, ASSISTANT = "Human", "Assistant"
_ROLES = {
  "user": HUMAN,
  "human": HUMAN,
  "prompter": HUMAN,
  "assistant": ASSISTANT,
  "gpt": ASSISTANT,
}
_MARK = re.compile(rf"\n\n({HUMAN}|{ASSISTANT}):")
_FORGED = "dropped: a message that spells the mark of a turn"


@dataclasses.dataclass(frozen=True)
class Conversation:
  """A prompt and the last answer; or why there is none, to be counted."""

  prompt: str = ""
  response: str = ""
  wrong: str = ""


def split(dialogue: str) -> tuple[str, str]:
  """(prompt, last answer) of a dialogue in HH-RLHF's notation."""
  prompt, _, response = dialogue.rpartition(f"\n\n{ASSISTANT}:")
  return _opened(prompt), response.strip()


def conversation(messages: Sequence[Any], where: str) -> Conversation:
  """The messages as a prompt; what a system says first opens it."""
  turns, opening = [], []
  for n, message in enumerate(messages, 1):
    role, text = _message(message, f"{where}, message {n}")
    if role == "system" and n == 1:
      opening = [text] if text else []
    elif role not in _ROLES:
      return Conversation(wrong=f"dropped: a message of the role '{role[:20]}'")
    elif not text:
      return Conversation(wrong="dropped: a message without a text")
    else:
      turns.append((_ROLES[role], text))
  speakers = [speaker for speaker, _ in turns]
  if speakers[-1:] != [ASSISTANT]:
    return Conversation(wrong="dropped: no answer at the end")
  if speakers != [HUMAN, ASSISTANT] * (len(turns) // 2):
    return Conversation(wrong="dropped: the turns do not alternate")
  if _is_forged([text for _, text in turns[:-1]] + opening):
    return Conversation(wrong=_FORGED)
  prompt = "\n\n".join([*opening, _prompt(turns[:-1])])
  return Conversation(prompt, turns[-1][1])


def chat(rows: files.Rows, kind: str, counts: Counts) -> Iterator[Record]:
  """{"messages": [{"role", "content"}]}: the last answer is the response."""
  for where, row in rows:
    counts["read"] += 1
    name = "conversations" if "conversations" in row else "messages"
    messages = formats.key(row, name, list, where)
    found = conversation(messages, where)
    if found.wrong:
      counts[found.wrong] += 1
    else:
      yield from formats.answer(found.prompt, found.response, kind, counts)


def oasst(
  rows: files.Rows, kind: str, counts: Counts, *, lang: str = ""
) -> Iterator[Record]:
  """OpenAssistant's trees: the ranked answers to each message of a person.

  As demonstrations the answers ranked first, or the only ones. `lang` keeps the
  messages of one language. "read" counts the messages of people.
  """
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
      turns = [*before, (HUMAN, text)]
      answers = _answers(message, place, keep, counts)
      yield from _records(turns, answers, kind, counts)
      below = [
        (reply, [*turns, (ASSISTANT, said)])
        for answer, said in answers
        for reply in formats.optional(answer, "replies", list, place)
      ]
      todo += reversed(below)


def _records(
  turns: Sequence[tuple[str, str]],
  answers: Sequence[tuple[Record, str]],
  kind: str,
  counts: Counts,
) -> Iterator[Record]:
  """What the answers to a dialogue give."""
  prompt = _prompt(turns)
  with_rank = (pair for pair in answers if pair[0].get("rank") is not None)
  ranked = [(answer["rank"], said) for answer, said in with_rank]
  if _is_forged([text for _, text in turns]):
    counts[_FORGED] += 1
  elif kind == "prompts":
    yield from formats.answer(prompt, "", kind, counts)
  elif kind == "demonstrations":
    if not ranked and len(answers) != 1:
      counts["dropped: no best answer"] += 1
      return
    said = min(ranked)[1] if ranked else answers[0][1]
    yield from formats.answer(prompt, said, kind, counts)
    if len(answers) > 1:
      counts["dropped: answers that are not the best"] += len(answers) - 1
  elif len(ranked) < 2:
    counts["dropped: fewer than two ranked answers"] += 1
  else:
    if len(answers) > len(ranked):
      counts["dropped: answers without a rank"] += len(answers) - len(ranked)
    ranks, responses = zip(*ranked)
    yield from formats.ranking(prompt, responses, formats.dense(ranks), counts)


def _answers(message, where, keep, counts):
  """(message, text) of the answers that are kept."""
  found = []
  for reply in formats.optional(message, "replies", list, where):
    place, said = _node(reply, "assistant", where)
    if reply.get("rank") is not None:
      formats.key(reply, "rank", int, place)
    reason = keep(reply) or ("" if said else formats.NO_RESPONSE)
    if reason:
      counts[reason] += 1
    else:
      found.append((reply, said))
  return found


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


def _message(message: Any, where: str) -> tuple[str, str]:
  names = ("role", "content")
  if isinstance(message, dict) and "from" in message:
    names = ("from", "value")
  role = formats.key(message, names[0], str, where)
  return role, formats.optional(message, names[1], str, where).strip()


def _prompt(turns: Sequence[tuple[str, str]]) -> str:
  return _opened("".join(f"\n\n{speaker}: {text}" for speaker, text in turns))


def _opened(dialogue: str) -> str:
  """A dialogue without the mark of its first turn."""
  return dialogue.strip().removeprefix(f"{HUMAN}:").strip()


def _is_forged(texts: Sequence[str]) -> bool:
  return any(_MARK.search(f"\n\n{text}") for text in texts)
