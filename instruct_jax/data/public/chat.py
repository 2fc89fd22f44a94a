"""Chat messages: {"messages": [{"role", "content"}]}, or "conversations"."""

from collections.abc import Iterator

from instruct_jax.data.public import dialogues, formats
from instruct_jax.data.read import files


def pairs(
  rows: files.Rows, counts: formats.Counts
) -> Iterator[tuple[str, str]]:
  """(the dialogue, its last answer)."""
  for where, row in rows:
    counts["read"] += 1
    name = "conversations" if "conversations" in row else "messages"
    messages = formats.key(row, name, list, where)
    dialogue = dialogues.conversation(messages, where)
    if dialogue.wrong:
      counts[dialogue.wrong] += 1
    else:
      yield dialogue.prompt, dialogue.response


FORMAT = formats.Format('{"messages": [...]}', formats.answered(pairs))
