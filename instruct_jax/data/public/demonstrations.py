"""Public prompts with their answers -> demonstrations.

self-instruct and its seed tasks, Alpaca, Dolly, T0 and FLAN; and records of
this project.
"""

from collections.abc import Iterator, Sequence

from instruct_jax.base import errors
from instruct_jax.data.public import formats
from instruct_jax.data.read import files, records

Counts, Record = formats.Counts, formats.Record

_END = "<|endoftext|>"


def instances(rows: files.Rows, kind: str, counts: Counts) -> Iterator[Record]:
  """self-instruct: an instruction, below it the input of each instance."""
  for where, row in rows:
    formats.key(row, "instruction", str, where)
    for instance in formats.key(row, "instances", list, where):
      counts["read"] += 1
      response = formats.key(instance, "output", str, where)
      prompt = formats.joined(row | instance, ("instruction", "input"), where)
      yield from formats.answer(prompt, response, kind, counts)


def alpaca(rows: files.Rows, kind: str, counts: Counts) -> Iterator[Record]:
  """Alpaca: instruction, input, output."""
  return _answered(rows, ("instruction", "input"), "output", kind, counts)


def dolly(rows: files.Rows, kind: str, counts: Counts) -> Iterator[Record]:
  """Dolly: instruction, context, response."""
  return _answered(rows, ("instruction", "context"), "response", kind, counts)


def t0(rows: files.Rows, kind: str, counts: Counts) -> Iterator[Record]:
  """T0 and FLAN: prompt and completion, which may spell its end."""
  for where, row in rows:
    counts["read"] += 1
    completion = formats.key(row, "completion", str, where)
    response = completion.rstrip().removesuffix(_END)
    prompt = formats.key(row, "prompt", str, where)
    yield from formats.answer(prompt, response, kind, counts)


def own(rows: files.Rows, kind: str, counts: Counts) -> Iterator[Record]:
  """Records of this project, of any kind that has prompts."""
  for where, row in rows:
    counts["read"] += 1
    wrong = records.wrong_keys(row, {})
    if wrong:
      raise errors.UserError(f"{where}: {wrong}")
    prompt = formats.key(row, "prompt", str, where)
    found = formats.answer(prompt, "", kind, counts)
    yield from (row | record for record in found)


def _answered(
  rows: files.Rows,
  asked: Sequence[str],
  answer: str,
  kind: str,
  counts: Counts,
) -> Iterator[Record]:
  for where, row in rows:
    counts["read"] += 1
    prompt = formats.joined(row, asked, where)
    response = formats.key(row, answer, str, where)
    yield from formats.answer(prompt, response, kind, counts)
