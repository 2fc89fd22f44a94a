"""Chat messages: {"messages": [{"role", "content"}]}, or "conversations".

The first are OpenAI's and Hugging Face's, the others ShareGPT's ("from" and
"value"). Conversations stay whole, with what they say beside their texts.
"""

from collections.abc import Iterator, Sequence
from typing import Any

from instruct_jax.base import errors
from instruct_jax.data.public import dialogues, formats
from instruct_jax.data.read import files, typed
from instruct_jax.tokenizers import messages as messages_lib

_CUT = "cut: a question at the end that nobody answers"
_SPEAKS = {dialogues.HUMAN: "user", dialogues.ASSISTANT: "assistant"}
_WEIGHTLESS = "dropped: every answer has the weight 0"
Record = formats.Record


def demonstrations(
  rows: files.Rows, counts: formats.Counts
) -> Iterator[formats.Record]:
  """Conversations, as far as the assistant's last answer."""
  for record in _conversations(rows, counts):
    if messages_lib.trained(record["messages"]):
      yield record
    else:
      counts[_WEIGHTLESS] += 1


def prompts(
  rows: files.Rows, counts: formats.Counts
) -> Iterator[formats.Record]:
  """What was said before each conversation's last answer."""
  for record in _conversations(rows, counts):
    yield record | {"messages": record["messages"][:-1]}


def _conversations(
  rows: files.Rows, counts: formats.Counts
) -> Iterator[Record]:
  for where, row in rows:
    counts["read"] += 1
    name = "conversations" if "conversations" in row else "messages"
    given = formats.key(row, name, list, where)
    opening, turns, wrong = dialogues.turns(given, where)
    is_open = bool(turns) and turns[-1][0] == dialogues.HUMAN
    answered = turns[:-1] if is_open else turns
    wrong = wrong or dialogues.disorder(answered)
    if wrong:
      counts[wrong] += 1
      continue
    counts.update([_CUT] * is_open)
    weights = _weights(given, where)[len(given) - len(turns) :]
    made = _messages(opening, answered, weights)
    yield formats.beside(row, counts) | {"messages": made}


def _messages(
  opening: Sequence[str],
  turns: Sequence[tuple[str, str]],
  weights: Sequence[Record],
) -> list[Record]:
  """Messages; of the turns with the weights that they have."""
  said: list[Record] = [{"role": "system", "content": x} for x in opening]
  for (speaker, text), weight in zip(turns, weights):
    said.append({"role": _SPEAKS[speaker], "content": text} | weight)
  return said


def _weights(given: Sequence[Any], where: str) -> list[Record]:
  """The "weight" of each message that has one: 0 leaves it out of the loss."""
  weights = []
  for n, message in enumerate(given, 1):
    weight = message.get("weight")
    if weight not in (None, 0, 1):
      raise errors.UserError(
        f'{where}, message {n}: "weight" should be 1, or 0 for no loss, not'
        f" {typed.shown(weight)}"
      )
    weights.append({} if weight is None else {"weight": int(weight)})
  return weights


FORMAT = formats.Format(
  '{"messages": [...]}',
  {"demonstrations": demonstrations, "prompts": prompts},
)
