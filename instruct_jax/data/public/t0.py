"""T0 and FLAN: prompt and completion, which may spell its end."""

from collections.abc import Iterator

from instruct_jax.data.public import formats
from instruct_jax.data.read import files

_END = "<|endoftext|>"


def pairs(
  rows: files.Rows, counts: formats.Counts
) -> Iterator[tuple[str, str]]:
  """(prompt, completion without its end)."""
  for where, row in rows:
    counts["read"] += 1
    completion = formats.key(row, "completion", str, where)
    response = completion.rstrip().removesuffix(_END)
    yield formats.key(row, "prompt", str, where), response


FORMAT = formats.Format("T0 and FLAN prompts", formats.answered(pairs))
