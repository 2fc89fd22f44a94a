"""self-instruct's instructions and seed tasks, each with its instances."""

from collections.abc import Iterator

from instruct_jax.data.public import formats
from instruct_jax.data.read import files


def pairs(
  rows: files.Rows, counts: formats.Counts
) -> Iterator[tuple[str, str]]:
  """(an instruction, below it the input; its output) of every instance."""
  for where, row in rows:
    formats.key(row, "instruction", str, where)
    for instance in formats.key(row, "instances", list, where):
      counts["read"] += 1
      response = formats.key(instance, "output", str, where)
      prompt = formats.joined(row | instance, ("instruction", "input"), where)
      yield prompt, response


FORMAT = formats.Format(
  "instructions of users, and seed tasks", formats.answered(pairs)
)
