"""The jobs 'compare' and 'join': subjects of many runs, in several stages.

A comparison is the whole suite on subjects that are all needs. Several of them,
which different processes may have made, are joined: their tables become one
results.json, and preferences between subjects of different comparisons are
computed from what these wrote of the same prompts.
"""

import functools
import hashlib
import json
import logging
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from etils import epath
from ml_collections import ConfigDict

from instruct_jax.base import errors, run_folder, storage
from instruct_jax.evals import bench, preference, suite
from instruct_jax.inference import context, respond
from instruct_jax.inference import rewards as rewards_lib
from instruct_jax.parallel import hosts
from instruct_jax.runs import reading, records, subjects

_log = logging.getLogger(__name__)

JOBS = ("compare", "join")
SAME = ("split", "prompts", "seed")  # what comparisons on the same have
Findings = tuple[dict[str, float], dict[str, bench.Rows]]


def measure_policies(
  ctx: context.Context, folder: epath.Path, needs: Mapping[str, epath.Path]
) -> suite.Outcome:
  """The suite on the subjects of a config, of whatever shapes they are."""
  frozen: dict[str, rewards_lib.Models] = {}
  if "reward" in needs:
    frozen["reward"] = reading.load_rewards(needs, ctx)
  compared = {
    name: functools.partial(reading.load_parameters, needs[need], ctx, "reward")
    for name, need in ctx.config.evaluation.reward_models.items()
  }
  found = subjects.load(ctx, folder, needs)
  return suite.evaluate_policies(ctx, found, folder, frozen, compared)


def check(config: ConfigDict) -> None:
  """UserError where a comparison has a subject that is no need."""
  _check_suite(config)
  suite.check(config)
  suite.evaluations_of(config.evaluation.extra)
  for name, section in config.evaluation.subjects.items():
    if not section.run:
      raise errors.UserError(
        f"config.evaluation.subjects.{name}.run is empty: a comparison trains"
        " nothing, so each of its subjects is a need"
      )


def digests(config: ConfigDict) -> dict[str, str]:
  """A hash of which evaluations there are: with one more it is made anew."""
  names = ",".join(sorted(suite.evaluations_of(config.evaluation.extra)))
  return {"evaluations": hashlib.sha256(names.encode()).hexdigest()[:16]}


def check_join(config: ConfigDict) -> None:
  """UserError where nothing is joined, or what is held together is no need."""
  if not _parts(config):
    raise errors.UserError(
      "config.needs names no comparison, so there is nothing to join"
    )
  for name in config.join.against:
    if name not in config.needs:
      raise errors.unknown("config.join.against: need", name, config.needs)


def _check_suite(config: ConfigDict) -> None:
  if config.evaluation.suite != "none":
    raise errors.UserError(
      f"config.evaluation.suite={config.evaluation.suite}: to evaluate is this"
      " stage's job (config.job=compare), which would be done twice; give none"
    )


def check_same(wanted: ConfigDict, there: ConfigDict, key: str) -> None:
  """UserError where a part is asked other test prompts than the whole."""
  for name in SAME:
    if wanted[name] != there[name]:
      raise errors.UserError(
        f"{key}: its config.evaluation.{name} is {there[name]}, here it is"
        f" {wanted[name]}: give both the same"
      )


def _parts(config: ConfigDict) -> list[str]:
  """The needs that are joined, first those held against each other."""
  every = dict.fromkeys((*config.join.against, *config.needs))
  return [name for name in every if name != "data"]


def join(
  ctx: context.Context, folder: epath.Path, needs: Mapping[str, epath.Path]
) -> Findings:
  """Metrics and tables of all parts, `config.join.against` against each other.

  A row or metric that several parts have (a baseline that each of them asked)
  counts once, the last one's; but a policy that KL is measured from in one has
  none from those of the others. Writes folder/responses.jsonl.

  Raises UserError where the parts to hold against each other were not asked
  the same prompts.
  """
  metrics: dict[str, float] = {}
  tables: dict[str, bench.Rows] = {}
  for name in _parts(ctx.config):
    results = records.read_results(needs[name])
    settled = _of_references(tables.get("kl", []))
    metrics |= {k: x for k, x in results["metrics"].items() if k not in settled}
    for table, rows in results["tables"].items():
      new = [row for row in rows if row.get("metric") not in settled]
      tables[table] = _with(tables.get(table, []), new)
  against = {name: needs[name] for name in ctx.config.join.against}
  if against:
    lines = _together(against)  # too long to be told to the others
    found, more = _preferences(ctx, lines)
    metrics |= found
    for table, rows in more.items():
      tables[table] = _with(tables.get(table, []), rows)
    path = run_folder.files(folder).responses
    hosts.once(
      "write", lambda: storage.write_lines(path, map(json.dumps, lines))
    )
  return metrics, tables


def _of_references(rows: bench.Rows) -> set[str]:
  """The metrics of KL of policies that it was measured from, which is 0."""
  measured = [row for row in rows if "reference" in row]
  names = [r["subject"] for r in measured if r["subject"] == r["reference"]]
  return {f"{kind}/{name}" for kind in ("kl", "kl_per_token") for name in names}


def _with(rows: bench.Rows, others: bench.Rows) -> bench.Rows:
  """The rows that the others do not say again, then the others."""
  known = {_label(row) for row in others}
  return [*(row for row in rows if _label(row) not in known), *others]


def _label(row: Mapping[str, Any]) -> str:
  """What tells a row from others of its table: its metric, else its labels."""
  if "metric" in row:
    return str(row["metric"])
  labels = {k: v for k, v in row.items() if isinstance(v, str)}
  if "value" not in row and "subject" not in row:
    labels = dict(row)  # a row of numbers
  return json.dumps(labels, sort_keys=True, default=str)


def _together(parts: Mapping[str, epath.Path]) -> list[dict[str, Any]]:
  """A line a test prompt with the responses of all parts' subjects."""
  joined: list[dict[str, Any]] = []
  for name, folder in parts.items():
    lines = _responses(folder)
    if not joined:
      joined = [line | {"responses": {}} for line in lines]
    if [x["prompt"] for x in lines] != [x["prompt"] for x in joined]:
      first, settings = next(iter(parts)), ", ".join(SAME)
      raise errors.UserError(
        f"config.join.against: {name} ({folder}) was not asked the same prompts"
        f" as {first}; give both the same evaluation.{{{settings}}}"
      )
    for line, more in zip(joined, lines):
      before = {
        subject: said
        for subject, said in line["responses"].items()
        if subject not in more["responses"]
      }
      line["responses"] = before | more["responses"]
  return joined


def _responses(folder: epath.Path) -> list[dict[str, Any]]:
  path = run_folder.files(folder).responses
  try:
    with path.open() as file:
      return [json.loads(line) for line in file]
  except (OSError, ValueError) as error:
    raise errors.UserError(
      f"{path}: cannot be read ({error}). Delete results.json beside it and"
      " give the command again: it is evaluated again"
    ) from None


def _preferences(
  ctx: context.Context, lines: Sequence[dict[str, Any]]
) -> Findings:
  """What `evals.preference` finds of responses that were written.

  Adds to each what share prefers it to each other's, as the suite does.
  """
  shared = _said(ctx, lines)
  if bench.missing(shared, preference.evaluate_preference):
    return {}, {}
  metrics, tables = preference.on_users_prompts(shared)
  del tables["preference_by_source"]  # the parts', who were asked the others
  for subject, of_prompts in suite.preferred_shares(shared).items():
    for line, share in zip(lines, of_prompts):
      line["responses"][subject]["preferred"] = share
  return metrics, tables


def _said(ctx: context.Context, lines: Sequence[dict[str, Any]]) -> bench.Bench:
  """A bench whose subjects have said what the lines hold, and nothing else."""
  settings = ctx.config.evaluation
  asked = [line["prompt"] for line in lines]
  pool = {r["prompt"]: r for r in bench.open_prompts(ctx, settings.split)}
  missing = [prompt for prompt in asked if prompt not in pool]
  if missing:
    raise errors.UserError(
      f"config.evaluation.split={settings.split}: {len(missing)} of the prompts"
      f" that the parts were asked are not in it, such as {missing[0]!r}"
    )
  said = {
    name: _spoken([line["responses"][name] for line in lines])
    for name in (lines[0]["responses"] if lines else ())
  }
  records_of = tuple(pool[prompt] for prompt in asked)

  def ask(subject, prompts):
    del prompts  # the test prompts, which are all that was asked
    return said[subject.name]

  return bench.Bench(
    ctx=ctx,
    subjects=tuple(bench.Subject(name, {}) for name in said),
    records=records_of,
    pool=records_of,
    ask=ask,
    rewards=_unknown,
    frozen={},
  )


def _unknown(subject: bench.Subject) -> np.ndarray:
  raise AssertionError(f"no reward model is here to score {subject.name}")


def _spoken(said: Sequence[Mapping[str, Any]]) -> respond.Responses:
  """Responses of which text and end are known, and no token."""
  none = np.zeros((len(said), 0), np.int32)
  return respond.Responses(
    tuple(one["text"] for one in said),
    np.asarray([one["ended"] for one in said], bool),
    *(none, none.astype(bool), none, none, none.astype(bool)),
  )
