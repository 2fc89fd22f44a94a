"""What people say of single answers: Likert, and the metadata of table 3.

A line a judgment, {"prompt", "response", "labeler", "likert": 1..7,
"metadata": {flag: true or false}}, with "model" and maybe "source", "use_case",
"group" and "core"; either of "likert" and "metadata" may lack. Rankings bring
the same for each response, as "ratings" and "metadata". Flags are those of
`paper.METADATA`; a file may have others.
"""

import collections
import dataclasses
import difflib
from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import Any

import numpy as np

from instruct_jax import paper
from instruct_jax.base import errors
from instruct_jax.data.read import files, records, tables, typed
from instruct_jax.maths import agreement, statistics
from instruct_jax.scoring import comparisons

LIKERT = "likert"
_NEEDED = ("prompt", "response", "model")
_TEXTS = (*_NEEDED, "labeler", "source", "use_case", "group", "core")
_ALIKE = 0.8  # a flag so near to one of table 3's is a slip


@dataclasses.dataclass(frozen=True)
class Judgment:
  """What one labeler says of one answer."""

  prompt: str
  response: str
  model: str
  labeler: str = ""  # '': nobody is named
  likert: float | None = None
  flags: Mapping[str, bool] = dataclasses.field(default_factory=dict)
  labels: Mapping[str, str] = dataclasses.field(default_factory=dict)
  cluster: str = ""  # what dependent prompts share; '': the prompt itself


def read(spec: str) -> list[Judgment]:
  """The judgments of a file, in whichever form `data.read.files` knows.

  Raises UserError, with file, line and key, for what is no judgment.
  """
  found = []
  for unit in files.units(spec):
    is_table = files.is_table(unit)
    for where, row in files.unit_rows(unit):
      found.append(_judgment(where, _cells(row) if is_table else row))
  if not found:
    raise errors.UserError(f"{spec}: empty; at least one judgment is needed")
  return found


def of_rankings(
  rankings: Iterable[Mapping[str, Any]],
) -> Iterator[Judgment]:
  """What rankings with "models" say of each response, where they do."""
  for record in rankings:
    grades, flags = record.get("ratings"), record.get("metadata")
    flags = flags if isinstance(flags, list) else None
    if grades is None and flags is None:
      continue
    for k, response in enumerate(record["responses"]):
      yield _made(
        record,
        response,
        record["models"][k],
        None if grades is None else float(grades[k]),
        {} if flags is None else flags[k],
      )


def _made(record, response, model, likert, flags):
  return Judgment(
    record["prompt"],
    response,
    str(model),
    str(record.get("labeler", "")),
    likert,
    dict(flags),
    comparisons.labels_of(record),
    str(record.get("core", record["prompt"])),
  )


def _cells(row: Mapping[str, Any]) -> dict[str, Any]:
  """A row of a table: what is empty is not there, numbers and JSON are read."""
  given = {name: cell for name, cell in row.items() if cell}
  for name, of in (("likert", float), ("metadata", dict)):
    if name in given:
      given[name] = tables.value_of(given[name], of)
  return given


def _judgment(where: str, row: Mapping[str, Any]) -> Judgment:
  if wrong := _wrong(row):
    raise errors.UserError(f"{where}: {wrong}")
  likert, flags = row.get(LIKERT), row.get("metadata") or {}
  grade = None if likert is None else float(likert)
  return _made(row, row["response"], row["model"], grade, flags)


def _wrong(row: Mapping[str, Any]) -> str:
  """What is wrong with a judgment, or ''."""
  for key in _NEEDED:
    if key not in row:
      near = records.near_misses(key, row)
      hint = f" (did you mean {typed.shown(near[0])}?)" if near else ""
      has = ", ".join(map(str, row))[:400]
      return f'no "{key}", which should be a string; it has {has}{hint}'
  for key in _TEXTS:
    if key in row and not isinstance(row[key], str | int):
      return f'"{key}" should be a string, not {typed.shown(row[key])}'
  if LIKERT not in row and "metadata" not in row:
    return f'neither "{LIKERT}" (1 to 7) nor "metadata" ({{flag: true}})'
  low, high = paper.LIKERT
  grade = row.get(LIKERT)
  is_number = isinstance(grade, int | float) and not isinstance(grade, bool)
  if grade is not None and not (is_number and low <= grade <= high):
    shown = typed.shown(grade)
    return f'"{LIKERT}" should be a number from {low} to {high}, not {shown}'
  return _wrong_flags(row.get("metadata"))


def _wrong_flags(flags: Any) -> str:
  if flags is None:
    return ""
  if not isinstance(flags, dict):
    shown = typed.shown(flags)
    return f'"metadata" should be {{flag: true or false}}, not {shown}'
  for name, value in flags.items():
    if not isinstance(value, bool):
      shown = typed.shown(value)
      return f'"metadata": "{name}" should be true or false, not {shown}'
    near = difflib.get_close_matches(name, paper.METADATA, 1, _ALIKE)
    if near and name not in paper.METADATA:
      return f'"metadata": "{name}": did you mean "{near[0]}"?'
  return ""


def flags_of(judgments: Sequence[Judgment]) -> list[str]:
  """The flags that are said of any answer, table 3's first, in its order."""
  said = {name for one in judgments for name in one.flags}
  known = [name for name in paper.METADATA if name in said]
  return known + sorted(said - set(known))


def table(judgments: Sequence[Judgment]) -> comparisons.Rows:
  """The mean grade and the share of each flag, by model and by group.

  A row each of {"subject", "what" ('likert' or a flag)}, of a group also with
  its name, as {"source": "gpt"}, with "value", "low", "high", "n" and
  "clusters", the prompts that the interval is clustered by.
  """
  rows = []
  for what in (LIKERT, *flags_of(judgments)):
    by_model = collections.defaultdict(list)
    for one in judgments:
      if _said(one, what) is not None:
        by_model[one.model].append(one)
    for model, mine in by_model.items():
      for group, some in _groups(mine):
        labels = {"subject": model, "what": what, **group}
        rows.append(labels | _mean(some, what))
  return rows


def _said(one: Judgment, what: str) -> float | None:
  value = one.likert if what == LIKERT else one.flags.get(what)
  return None if value is None else float(value)


def _groups(judgments):
  groups = [({}, judgments)]
  for by in comparisons.BY:
    names = sorted({x.labels[by] for x in judgments if by in x.labels})
    groups += [
      ({by: name}, [x for x in judgments if x.labels.get(by) == name])
      for name in names
    ]
  return groups


def _mean(judgments: Sequence[Judgment], what: str) -> dict[str, Any]:
  values = np.asarray([_said(one, what) for one in judgments])
  clusters = np.asarray([one.cluster or one.prompt for one in judgments])
  if what == LIKERT:
    bounds = (float(paper.LIKERT[0]), float(paper.LIKERT[1]))
    found = statistics.mean_interval(values, clusters, bounds=bounds)
  else:
    found = statistics.proportion_interval(values, clusters)
  return dataclasses.asdict(found)


def agreeing(judgments: Sequence[Judgment]) -> comparisons.Rows:
  """How far labelers agree: a row for Likert and each flag that two judged.

  "pairwise" is the share of pairs of labelers who say the same of an answer,
  with "low" and "high"; "alpha" Krippendorff's, ordinal for Likert and nominal
  for flags, with "alpha_low" and "alpha_high"; intervals are clustered by
  prompt. What a labeler said twice of an answer, differently, is left out.
  """
  rows = []
  for what in (LIKERT, *flags_of(judgments)):
    level = "ordinal" if what == LIKERT else "nominal"
    labelers, ratings, clusters = _ratings(judgments, what)
    found = agreement.alpha(ratings, level, clusters=clusters)
    share, _ = agreement.pairwise(ratings, clusters)
    if found is None or share is None:
      continue
    rows.append(
      {
        "what": what,
        "level": level,
        "pairwise": share.value,
        "low": share.low,
        "high": share.high,
        "alpha": found.value,
        "alpha_low": found.low,
        "alpha_high": found.high,
        "labelers": len(labelers),
        "units": found.units,
        "clusters": share.clusters,
      }
    )
  return rows


def _ratings(judgments, what):
  """(labelers [L], ratings [L, U], clusters [U]) of all answers."""
  said = collections.defaultdict(lambda: collections.defaultdict(set))
  cluster = {}
  for one in judgments:
    value = _said(one, what)
    if one.labeler and value is not None:
      answer = one.prompt, one.response
      said[answer][one.labeler].add(value)
      cluster[answer] = one.cluster or one.prompt
  labelers = sorted({name for of in said.values() for name in of})
  place = {name: n for n, name in enumerate(labelers)}
  ratings = np.full((len(labelers), len(said)), np.nan)
  for unit, by_labeler in enumerate(said.values()):
    for name, values in by_labeler.items():
      if len(values) == 1:
        (ratings[place[name], unit],) = values
  return labelers, ratings, np.asarray([cluster[answer] for answer in said])
