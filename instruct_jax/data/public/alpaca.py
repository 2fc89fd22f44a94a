"""Alpaca: instruction, input, output."""

from collections.abc import Iterator

from instruct_jax.data.public import formats
from instruct_jax.data.read import files


def pairs(
  rows: files.Rows, counts: formats.Counts
) -> Iterator[tuple[str, str]]:
  """(an instruction, below it what it is about; the answer)."""
  for where, row in rows:
    counts["read"] += 1
    prompt = formats.joined(row, ("instruction", "input"), where)
    yield prompt, formats.key(row, "output", str, where)


FORMAT = formats.Format("instructions and answers", formats.answered(pairs))
