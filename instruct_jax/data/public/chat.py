"""Chat messages: {"messages": [{"role", "content"}]}, or "conversations".

The first are OpenAI's and Hugging Face's, the others ShareGPT's ("from" and
"value"). Conversations stay whole.
"""

from collections.abc import Iterator, Sequence

from instruct_jax.data.public import dialogues, formats
from instruct_jax.data.read import files

_CUT = "cut: a question at the end that nobody answers"
_SPEAKS = {dialogues.HUMAN: "user", dialogues.ASSISTANT: "assistant"}
Messages = list[dict[str, str]]


def demonstrations(
  rows: files.Rows, counts: formats.Counts
) -> Iterator[formats.Record]:
  """Conversations, as far as the assistant's last answer."""
  for messages in _conversations(rows, counts):
    yield {"messages": messages}


def prompts(
  rows: files.Rows, counts: formats.Counts
) -> Iterator[formats.Record]:
  """What was said before each conversation's last answer."""
  for messages in _conversations(rows, counts):
    yield {"messages": messages[:-1]}


def _conversations(
  rows: files.Rows, counts: formats.Counts
) -> Iterator[Messages]:
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
    yield _messages(opening, answered)


def _messages(
  opening: Sequence[str], turns: Sequence[tuple[str, str]]
) -> Messages:
  said = [("system", text) for text in opening]
  said += [(_SPEAKS[speaker], text) for speaker, text in turns]
  return [{"role": role, "content": text} for role, text in said]


FORMAT = formats.Format(
  '{"messages": [...]}',
  {"demonstrations": demonstrations, "prompts": prompts},
)
