"""Records of this project of any kind that has prompts -> prompts."""

from collections.abc import Iterator

from instruct_jax.base import errors
from instruct_jax.data.public import formats
from instruct_jax.data.read import files, records

Counts, Record = formats.Counts, formats.Record


def prompts(rows: files.Rows, counts: Counts) -> Iterator[Record]:
  """The records, their prompts stripped."""
  for where, row in rows:
    row = records.with_names(row)
    counts["read"] += 1
    wrong = records.wrong_keys(row, {})
    if wrong:
      raise errors.UserError(f"{where}: {wrong}")
    asked = formats.key(row, "prompt", str, where)
    for record in formats.prompt(asked, counts):
      yield row | record


FORMAT = formats.Format("records of this project", {"prompts": prompts})
