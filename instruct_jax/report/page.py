"""report.html of a chain of runs.

The page is one file that needs nothing else: pictures are inline SVG, and the
one script in it filters responses, all of which are shown without it. A section
is there when its data is: what is missing is not shown.
"""

import dataclasses
import logging
from collections.abc import Mapping, Sequence
from typing import Any

from etils import epath

from instruct_jax.base import (
  errors,
  keys,
  logged,
  run_folder,
  storage,
  terminal,
)
from instruct_jax.figures import collected
from instruct_jax.report import (
  best_of,
  captions,
  checks,
  claimed,
  curves,
  exhibits,
  figures,
  header,
  pages,
  samples,
  seeds,
  wording,
)

_log = logging.getLogger(__name__)

_MOST_CURVES = 12  # runs; more would take minutes to draw, and to read
_SECTIONS = ("tables", "metrics", "seconds", "provenance", "evaluated_by")


@dataclasses.dataclass(frozen=True)
class Stage:
  """What one run left behind; empty where it left nothing."""

  folder: epath.Path
  config: dict[str, Any]
  results: dict[str, Any]
  log: list[dict[str, Any]]  # of metrics.jsonl

  @property
  def name(self) -> str:
    """The folder's name."""
    return self.folder.name

  @property
  def tables(self) -> dict[str, exhibits.Rows]:
    """The tables in its results that have rows."""
    tables = self.results.get("tables") or {}
    return {
      name: best_of.rows([_plain(row) for row in rows], self.config)
      for name, rows in tables.items()
      if _are_rows(rows)
    }

  @property
  def seed(self) -> int:
    """The seed that it was run with."""
    seed = self.results.get("seed", self.config.get("seed"))
    return seed if isinstance(seed, int) else 0


def write(
  folder: epath.PathLike,
  chain: Sequence[epath.PathLike],
  siblings: Sequence[Sequence[epath.PathLike]] = (),
  left_out: Mapping[str, str] | None = None,
) -> epath.Path:
  """Writes folder/report.html on the runs in `chain`, oldest first.

  `chain` ends with `folder`'s own run. `siblings` are the chains of the same
  experiment with other seeds, `left_out` says of runs of other seeds why they
  are not among these. Returns the path of the page.
  """
  folder = epath.Path(folder)
  stages = [_read(epath.Path(path)) for path in chain]
  final = stages[-1] if stages else _read(folder)
  others = [[_read(epath.Path(path)) for path in one] for one in siblings]
  together = _together(final, stages, others, left_out or {})
  tables = seeds.joined(_tables(stages), together)
  said = _responses(final)
  page = pages.template("report.html").render(
    title=header.title(final.config, final.results) or final.name,
    world=header.world(final.config),
    provenance=header.provenance(final.results),
    facts=header.facts(final.results, alone=len(stages) < 2),
    seeds=seeds.sentence(together),
    several=len(together.numbers) > 1,
    see=captions.SECTIONS | {"curves": curves.reading([s.log for s in stages])},
    stages=header.stages([(s.name, s.results) for s in stages]),
    preference=_preference(
      tables.pop("preference", []), together, final.config
    ),
    claimed=_claimed(final, [stages, *others]),
    way=figures.way(final.log),
    evaluations=_arranged(tables, _metrics(stages), final.config),
    curves=_curves(stages),
    undrawn=_undrawn(stages),
    checks=checks.section([s.folder for s in stages] or [folder]),
    side_by_side=samples.side_by_side(
      best_of.records(said.records, final.config),
      baseline=(final.config.get("evaluation") or {}).get("baseline", ""),
    ),
    problem=said.problem,
    samples=samples.last(folder),
    metrics=[t for stage in stages if (t := _all_metrics(stage))],
  )
  path = run_folder.files(folder).report
  storage.write(path, page)
  return path


def _read(folder: epath.Path) -> Stage:
  files = run_folder.files(folder)
  config = _read_json(files.config).get("config")
  results = {
    key: value
    for key, value in _read_json(files.results).items()
    if key not in _SECTIONS or isinstance(value, dict)
  }
  return Stage(
    folder=folder,
    config=config if isinstance(config, dict) else {},
    results=results,
    log=logged.read_metrics(folder),
  )


def _read_json(path: epath.Path) -> dict[str, Any]:
  if not path.exists():
    return {}
  try:
    return storage.read_json(path)
  except errors.UserError as error:
    _log.warning("It is left out of the report: %s", error)
    return {}


def _are_rows(rows: Any) -> bool:
  return (
    isinstance(rows, list)
    and bool(rows)
    and all(isinstance(row, dict) for row in rows)
  )


def _plain(row: Mapping[str, Any]) -> dict[str, Any]:
  """A row whose values are labels and numbers; anything else is its text."""
  known = (str, int, float, type(None))
  return {k: v if isinstance(v, known) else str(v) for k, v in row.items()}


def _tables(stages: Sequence[Stage]) -> dict[str, exhibits.Rows]:
  """The tables of a chain; of two of one name, the later stage's."""
  tables: dict[str, exhibits.Rows] = {}
  for stage in stages:
    tables |= stage.tables
  return tables


def _together(
  final: Stage,
  stages: Sequence[Stage],
  siblings: Sequence[Sequence[Stage]],
  left_out: Mapping[str, str],
) -> seeds.Together:
  tables = {final.seed: _tables(stages)}
  for others in siblings:
    tables.setdefault(others[-1].seed, _tables(others))
  return seeds.Together(tables, final.seed, left_out)


def _claimed(
  final: Stage, chains: Sequence[Sequence[Stage]]
) -> claimed.Section | None:
  """The paper's claims, from all stages of the variant that they are about."""
  results: dict[str, dict[int, Mapping[str, Any]]] = {}
  for stage in (stage for chain in chains for stage in chain):
    if stage.results.get("variant") == collected.VARIANT:
      seeds_of = results.setdefault(str(stage.results.get("experiment")), {})
      seeds_of.setdefault(stage.seed, stage.results)
  return claimed.section(results, final.seed, final.config)


def _responses(final: Stage) -> samples.Said:
  """What a run said to the test prompts, of which its evaluation tells."""
  rows = [row for rows in final.tables.values() for row in rows]
  counts = [row.get("n") for row in final.tables.get("length", ())]
  return samples.read(
    final.folder,
    is_due=any("subject" in row for row in rows) and not _is_joined(final),
    prompts=max((n for n in counts if isinstance(n, int)), default=0),
  )


def _is_joined(final: Stage) -> bool:
  """Whether its tables are others', whose responses lie where they do."""
  join = final.config.get("join") or {}
  return final.config.get("job") == "join" and not join.get("against")


def _preference(
  rows: exhibits.Rows, together: seeds.Together, config: Mapping[str, Any]
) -> dict[str, Any] | None:
  """The main figure and a table for each group of labelers."""
  keys = {"subject", "baseline", "labelers", "value", "low", "high"}
  rows = [row for row in rows if keys <= row.keys()]
  chart = figures.preference(rows) if rows else None
  if chart is None:
    return None
  groups = list(dict.fromkeys(row["labelers"] for row in rows))
  by_seed = seeds.table(rows, together)
  return {
    "baseline": wording.subject(exhibits.baseline_of(rows) or ""),
    "chart": chart,
    "more": best_of.note("preference", rows, config),
    "seeds": by_seed,
    "tables": [exhibits.against_each_other(rows, group) for group in groups],
  }


def _metrics(stages: Sequence[Stage]) -> dict[str, Any]:
  """The final metrics of a chain; of two of one name, the later stage's."""
  metrics: dict[str, Any] = {}
  for stage in stages:
    metrics |= stage.results.get("metrics") or {}
  return metrics


def _arranged(
  tables: Mapping[str, exhibits.Rows],
  metrics: Mapping[str, Any],
  config: Mapping[str, Any],
) -> list[dict[str, Any]]:
  """The evaluations in the order of the captions, with their pictures."""
  known = [name for name in captions.EXHIBITS if name in tables]
  others = [name for name in tables if name not in captions.EXHIBITS]
  return [
    {
      "table": exhibits.arrange(name, tables[name]),
      "chart": figures.of_table(name, tables[name]),
      "see": captions.EXHIBITS[name].see if name in known else "",
      "more": _errors(metrics)
      if name == "calibration"
      else best_of.note(name, tables[name], config),
    }
    for name in known + others
  ]


def _errors(metrics: Mapping[str, Any]) -> str:
  """How far a reward model is from as sure as it may be, by labelers."""
  prefix = "reward/calibration_error/"
  style = terminal.Style(decimals=1, percent=True)
  said = [
    f"{style.number(value)} ({wording.words(name.removeprefix(prefix))})"
    for name, value in metrics.items()
    if name.startswith(prefix)
  ]
  return f"Expected calibration error: {', '.join(said)}." if said else ""


def _curves(stages: Sequence[Stage]) -> list[dict[str, Any]]:
  """The panels of every run that logged something, unless they are many."""
  if _undrawn(stages):
    return []
  every = [(s.name, figures.learning(s.log, s.results)) for s in stages]
  return [{"name": name, "panels": panels} for name, panels in every if panels]


def _undrawn(stages: Sequence[Stage]) -> int:
  """The runs whose curves are left out, because they are so many."""
  count = sum(bool(stage.log) for stage in stages)
  return count if count > _MOST_CURVES else 0


def _all_metrics(stage: Stage) -> exhibits.Table | None:
  values = keys.flatten(stage.results.get("metrics") or {})
  lines = tuple(
    (name, exhibits.Cell(terminal.number(values[name])))
    for name in sorted(values)
  )
  if not lines:
    return None
  return exhibits.Table(("metric", "value"), lines, title=stage.name)
