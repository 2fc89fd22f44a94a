"""report.html of a chain of runs.

The page is one file that needs nothing else: pictures are inline SVG, there is
no script. A section is there when its data is: what is missing is not shown.
"""

import dataclasses
import logging
from collections.abc import Mapping, Sequence
from typing import Any

import jinja2
from etils import epath

from instruct_jax.base import errors, journal, run_folder, storage, terminal
from instruct_jax.report import captions, curves, exhibits, samples

_log = logging.getLogger(__name__)


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
    return {name: rows for name, rows in tables.items() if _are_rows(rows)}


def write(
  folder: epath.PathLike, chain: Sequence[epath.PathLike]
) -> epath.Path:
  """Writes folder/report.html on the runs in `chain`, oldest first.

  `chain` ends with `folder`'s own run. Returns the path of the page.
  """
  folder = epath.Path(folder)
  stages = [_read(epath.Path(path)) for path in chain]
  final = stages[-1] if stages else _read(folder)
  tables = {}
  for stage in stages:
    tables |= stage.tables
  preference = tables.pop("preference", [])
  page = _template().render(
    title=_title(final),
    facts=_facts(final),
    stages=_stages(stages),
    preference=_preference(preference),
    tables=_arranged(tables),
    curves=_curves(stages),
    side_by_side=samples.side_by_side(folder),
    samples=samples.last(folder),
    metrics=[t for stage in stages if (t := _all_metrics(stage))],
  )
  path = run_folder.files(folder).report
  storage.write(path, page)
  return path


def _read(folder: epath.Path) -> Stage:
  files = run_folder.files(folder)
  written = _read_json(files.config)
  return Stage(
    folder=folder,
    config=written.get("config") or {},
    results=_read_json(files.results),
    log=journal.read_metrics(folder),
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


def _template() -> jinja2.Template:
  here = epath.Path(__file__).parent
  environment = jinja2.Environment(
    loader=jinja2.FileSystemLoader(str(here)),
    autoescape=True,
    trim_blocks=True,
    lstrip_blocks=True,
    undefined=jinja2.StrictUndefined,
  )
  return environment.get_template("report.html")


def _title(stage: Stage) -> str:
  experiment = stage.results.get("experiment", stage.config.get("experiment"))
  variant = stage.results.get("variant", stage.config.get("variant"))
  if not experiment:
    return stage.name
  return f"{experiment}:{variant}" if variant else str(experiment)


def _facts(stage: Stage) -> list[tuple[str, str]]:
  """What the header says of the run."""
  results = stage.results
  seconds = results.get("seconds") or {}
  facts = [
    ("experiment", results.get("experiment")),
    ("variant", results.get("variant")),
    ("seed", results.get("seed")),
    ("steps", results.get("steps")),
    ("time", _duration(seconds.get("wall"))),
    ("of it compilation", _duration(seconds.get("compile"))),
    ("peak memory", _memory(results.get("peak_memory_bytes"))),
    ("digest of the config", results.get("config_digest")),
    ("digest of the parameters", results.get("parameters_digest")),
  ]
  return [(name, str(v)) for name, v in facts if v not in (None, "")]


def _stages(stages: Sequence[Stage]) -> exhibits.Table | None:
  """A line a run of the chain, and their time together."""
  lines, walls = [], []
  for stage in stages:
    results, seconds = stage.results, stage.results.get("seconds") or {}
    if not results:
      continue
    walls.append(seconds.get("wall") or 0.0)
    lines.append(
      (
        stage.name,
        exhibits.Cell(str(results.get("steps") or "")),
        exhibits.Cell(_duration(seconds.get("wall"))),
        exhibits.Cell(_duration(seconds.get("compile"))),
        exhibits.Cell(_memory(results.get("peak_memory_bytes"))),
        str(results.get("parameters_digest") or ""),
      )
    )
  if len(lines) > 1:
    total = exhibits.Cell(_duration(sum(walls)))
    lines.append(("together", exhibits.Cell(""), total, *[""] * 3))
  heads = ("run", "steps", "time", "compilation", "memory", "parameters")
  return exhibits.Table(heads, tuple(lines)) if lines else None


def _preference(rows: exhibits.Rows) -> dict[str, Any] | None:
  """The main figure and a table for each group of labelers."""
  keys = {"subject", "baseline", "labelers", "value", "low", "high"}
  rows = [row for row in rows if keys <= row.keys()]
  if not rows:
    return None
  from instruct_jax.report import charts

  groups = list(dict.fromkeys(row["labelers"] for row in rows))
  baseline = exhibits.baseline_of(rows)
  points = {
    captions.words(group): {
      captions.subject(row["subject"]): charts.Point(
        row["value"], row["low"], row["high"]
      )
      for row in rows
      if row["labelers"] == group and row["baseline"] == baseline
    }
    for group in groups
  }
  name = captions.subject(baseline or "")
  return {
    "baseline": name,
    "chart": charts.win_rates(points, name, f"Win rates against {name}"),
    "tables": [exhibits.against_each_other(rows, group) for group in groups],
  }


def _arranged(tables: Mapping[str, exhibits.Rows]) -> list[exhibits.Table]:
  known = [name for name in captions.EXHIBITS if name in tables]
  others = [name for name in tables if name not in captions.EXHIBITS]
  return [exhibits.arrange(name, tables[name]) for name in known + others]


def _curves(stages: Sequence[Stage]) -> list[dict[str, Any]]:
  """The panels of every run that logged something."""
  drawings = []
  for stage in stages:
    panels = curves.panels(stage.log, stage.results)
    if panels:
      from instruct_jax.report import charts

      drawn = [charts.curves(title, lines) for title, lines in panels]
      drawings.append({"name": stage.name, "panels": drawn})
  return drawings


def _all_metrics(stage: Stage) -> exhibits.Table | None:
  values = stage.results.get("metrics") or {}
  lines = tuple(
    (name, exhibits.Cell(terminal.number(values[name])))
    for name in sorted(values)
  )
  if not lines:
    return None
  return exhibits.Table(("metric", "value"), lines, title=stage.name)


def _duration(seconds: Any) -> str:
  if not exhibits.is_number(seconds):
    return ""
  return f"{seconds:.1f} s" if seconds < 60 else terminal.duration(seconds)


def _memory(size: Any) -> str:
  return f"{size / 1e9:.2f} GB" if exhibits.is_number(size) else ""
