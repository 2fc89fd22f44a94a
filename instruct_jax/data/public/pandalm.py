"""PandaLM's test set: two responses, judged by three annotators."""

from collections.abc import Iterator

from instruct_jax.base import errors
from instruct_jax.data.public import formats
from instruct_jax.data.read import files

Counts, Record = formats.Counts, formats.Record


def rankings(rows: files.Rows, counts: Counts) -> Iterator[Record]:
  """A record for each of the three annotators, with the models' names."""
  for where, row in rows:
    counts["read"] += 1
    prompt = _prompt(row, where)
    given = [row.get(name) for name in ("response1", "response2")]
    responses = [text.strip() for text in given if isinstance(text, str)]
    if len(responses) < len(given):
      counts["dropped: a response that is no text"] += 1  # true, in six places
      continue
    if responses[0] == responses[1]:
      counts[formats.SAME] += 1
      continue
    for name in ("annotator1", "annotator2", "annotator3"):
      ranks = _ranks(formats.key(row, name, int, where), name, where)
      for record in formats.ranking(prompt, responses, ranks, counts):
        yield record | {"labeler": name} | _models(row)


def prompts(rows: files.Rows, counts: Counts) -> Iterator[Record]:
  """Instructions with their inputs."""
  for where, row in rows:
    counts["read"] += 1
    yield from formats.prompt(_prompt(row, where), counts)


def _prompt(row: Record, where: str) -> str:
  return formats.joined(row, ("instruction", "input"), where)


def _models(row: Record) -> Record:
  """Of "cmp_key", as 'bloom-7b_llama-7b'."""
  names = str(row.get("cmp_key", "")).split("_")
  return formats.of_models(names) if len(names) == 2 else {}


def _ranks(label: int, name: str, where: str) -> list[int]:
  ranks = {0: [1, 1], 1: [1, 2], 2: [2, 1]}
  if label not in ranks:
    raise errors.UserError(
      f'{where}: "{name}" should be 0 (a tie), 1 or 2, not {label}'
    )
  return ranks[label]


FORMAT = formats.Format(
  "two responses, 3 annotators", {"rankings": rankings, "prompts": prompts}
)
