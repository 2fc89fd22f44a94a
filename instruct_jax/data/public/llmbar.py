"""LLMBar: two outputs, and which of them follows the instruction."""

from collections.abc import Iterator

from instruct_jax.base import errors
from instruct_jax.data.public import formats
from instruct_jax.data.read import files

Counts, Record = formats.Counts, formats.Record


def rankings(rows: files.Rows, counts: Counts) -> Iterator[Record]:
  """The output that the label names wins."""
  for where, row in rows:
    counts["read"] += 1
    names = ("output_1", "output_2")
    outputs = [formats.key(row, name, str, where) for name in names]
    label = formats.key(row, "label", int, where)
    if label not in (1, 2):
      raise errors.UserError(f'{where}: "label" should be 1 or 2, not {label}')
    better, worse = outputs if label == 1 else outputs[::-1]
    prompt = formats.key(row, "input", str, where)
    yield from formats.pair(prompt, better, worse, counts)


FORMAT = formats.Format(
  "instruction following", formats.with_prompts("rankings", rankings)
)
