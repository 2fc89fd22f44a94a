"""Anthropic's HH-RLHF: two dialogues that differ in the last answer."""

import itertools
from collections.abc import Iterator

from instruct_jax.data.public import dialogues, formats
from instruct_jax.data.read import files

Counts, Record = formats.Counts, formats.Record


def rankings(rows: files.Rows, counts: Counts) -> Iterator[Record]:
  """The prompt is the dialogue up to the last answer."""
  for where, row in rows:
    counts["read"] += 1
    names = ("chosen", "rejected")
    prompt, better, other, worse = itertools.chain.from_iterable(
      dialogues.split(formats.key(row, name, str, where)) for name in names
    )
    if prompt != other:
      counts[formats.DIFFER] += 1
    else:
      yield from formats.pair(prompt, better, worse, counts)


FORMAT = formats.Format(
  "Anthropic HH, dialogue pairs", formats.with_prompts("rankings", rankings)
)
