"""Likert grades and the metadata of table 3 (sections 3.4 and 4.1).

Read is either of two files. People's judgments of single answers, {"prompt",
"response", "model", "labeler", "likert": 1..7, "metadata": {flag: bool}}, with
all eleven flags of table 3 or some: then no model is asked. Or prompts with the
"spec" that a world's judge reads: all models answer them, each in its own
template, and the judge says what it can see. Rankings with "models" and
"ratings" or "metadata" are judgments, too.
"""

import collections
import dataclasses
from collections.abc import Sequence

from instruct_jax import paper
from instruct_jax.base import errors
from instruct_jax.data.read import files, sources
from instruct_jax.measuring import answering, contract, judges
from instruct_jax.scoring import comparisons, judgments, rankings, tasks

_NORMAL = 1.959963984540054


def compare(bench: contract.Bench) -> contract.Compared:
  """Tables likert and metadata (and by group); agreement, of people's."""
  spec = bench.files["items"]
  _, first = next(iter(files.rows(spec)), ("", {}))
  if "responses" in first or "response" in first:
    said = _of_people(spec, is_ranked="responses" in first)
    said = bench.some(said, of=lambda one: one.prompt)
    return _found(said, ("Judged by people.",), {})
  name = bench.options.get("world", "microworld")
  world = judges.world_of(name, f"--set_option {bench.name}.world")
  records = bench.some(sources.read(spec, "prompts"))
  judges.check_specs(world, records)
  answers = answering.answers(bench, records)
  said = judges.judged(world, records, answers)
  notes = (f"Judged by the judge of {name}.", answering.NOTE)
  return _found(said, notes, answering.counts(answers))


def _of_people(spec: str, *, is_ranked: bool) -> list[judgments.Judgment]:
  if not is_ranked:
    return judgments.read(spec)
  said = list(judgments.of_rankings(rankings.read(spec)))
  if not said:
    raise errors.UserError(
      f'{spec}: its rankings have neither "ratings" nor "metadata"'
    )
  return said


def _found(
  said: Sequence[judgments.Judgment],
  notes: tuple[str, ...],
  counts: dict[str, int],
) -> contract.Compared:
  rows = judgments.table(said)
  grades = [_bare(row) for row in rows if row["what"] == judgments.LIKERT]
  flags = [_flag(row) for row in rows if row["what"] != judgments.LIKERT]
  tables = {
    **comparisons.apart("likert", grades),
    **comparisons.apart("metadata", flags),
    "labeler_agreement": judgments.agreeing(said),
  }
  silent = [x for x in paper.METADATA if x not in judgments.flags_of(said)]
  if silent:
    notes += (f"Of table 3's flags nobody said: {', '.join(silent)}.",)
  metrics = collections.defaultdict(dict)
  for row in rows:
    if not row.keys() & set(comparisons.BY):
      error = (row["high"] - row["low"]) / (2 * _NORMAL)
      one = tasks.Estimate(row["value"], error, row["n"])
      metrics[row["subject"]][row["what"]] = one
  samples = [dataclasses.asdict(one) for one in said]
  tables = {name: of for name, of in tables.items() if of}
  return contract.Compared(tables, samples, dict(metrics), counts, notes)


def _bare(row):
  return {key: value for key, value in row.items() if key != "what"}


def _flag(row):
  """A row of a flag, as the table `metadata` has it."""
  return {"flag": row["what"]} | _bare(row)


SET = contract.Set(
  about="Likert grades from 1 to 7, and table 3's metadata",
  files={"items": ("preference_judgments*", "likert*", "preference_prompts*")},
  published="people's judgments, or prompts of a world; see the README",
  headline="likert",
  plain=("likert",),
  asks_models=False,
  options=answering.OPTIONS | {"world": "whose judge grades; microworld"},
  compare=compare,
)
