"""The closing table in the terminal: subjects side by side."""

from collections.abc import Mapping
from typing import IO, Any

from instruct_jax.base import terminal
from instruct_jax.report import best_of, captions, exhibits, wording

_UNSHOWN = (
  "rate/",
  "memory/",
  "seconds/",
  "count/",
  "validation/count/",
)  # of no interest when all is over
# What only simulated labelers, or the exact judge, can say.
_JUDGED = {"preference", "likert", "metadata", "hallucination", "toxicity"}
_DATA = {  # tables of a data set of people's files
  "data_cleaning": "Records that were taken out on purpose",
  "data_limits": "What the limits drop and cut",
}
# What is measured of a stage that is no policy.
_BESIDE = ("reward", "reward_pairs", "folds_mean", "folds", "agreement")
# Tables of what was measured on the way, which hold all of its metrics.
_BY_STEP = ("epochs", "overoptimization")
_MOST_UNLISTED = 4  # lines of a table that nobody described


def print_closing(
  results: Mapping[str, Any], config: Mapping[str, Any] | None = None
) -> None:
  """Prints the closing table of a run: subjects side by side, or its metrics.

  Drawn in a terminal, aligned plain text elsewhere. The run's `config` says of
  how many responses a subject's is the best.
  """
  config = config or {}
  tables = {
    name: best_of.rows(rows, config)
    for name, rows in (results.get("tables") or {}).items()
  }
  title = f"{results.get('experiment', '')}:{results.get('variant', '')}"
  title += f", seed {results.get('seed', 0)}"
  table = arrange(tables)
  if table is None:
    by_step = [name for name in _BY_STEP if name in tables]
    shown = {row.get("metric") for n in _BESIDE for row in tables.get(n, ())}
    rows = [
      [name, value]
      for name, value in sorted((results.get("metrics") or {}).items())
      if not name.startswith(_UNSHOWN) and not isinstance(value, dict)
      if name not in shown and name.partition("/")[0] not in by_step
    ]
    headers = ("metric", "value")
    if "agreement" in tables:
      title += "; labelers are simulated"
  else:
    rows = [[str(part) for part in row] for row in table.rows]
    headers = table.headers
    title += "; 95 % intervals, n answers each"
    if not _JUDGED.isdisjoint(tables):
      title += "; labelers and judge are simulated"
  if rows:
    terminal.table(rows, headers, title=title)
  for name in ("score", "kl"):
    if said := best_of.note(name, tables.get(name, ()), config):
      print(said)
  for name in (*_BESIDE, *_BY_STEP) if table is None else ():
    if there := tables.get(name):
      beside = exhibits.arrange(name, there)
      cells = [[str(part) for part in row] for row in beside.rows]
      terminal.table(cells, beside.headers, title=f"\n{beside.title}")
  print_data(tables)


def print_data(
  tables: Mapping[str, exhibits.Rows],
  *,
  stream: IO[str] | None = None,
  whole: bool = True,
) -> None:
  """Prints what became of people's files in a data set, if that is there.

  Tables (left out without `whole`), and warnings where much was lost.
  """
  for name, title in _DATA.items() if whole else ():
    if rows := tables.get(name):
      cells = [list(row.values()) for row in rows]
      terminal.table(cells, list(rows[0]), title=f"\n{title}", stream=stream)
  for row in tables.get("data_warnings", ()):
    print(f"warning: {row['warning']}", file=stream)


def arrange(tables: Mapping[str, exhibits.Rows]) -> exhibits.Table | None:
  """A line a figure, a column a subject, then n; None without subjects.

  First what `captions` lists, then the tables that it does not know, which
  come from people's own evaluations.
  """
  lines = [_listed(tables, *entry) for entry in captions.CLOSING]
  for name, rows in tables.items():
    if name not in captions.EXHIBITS and name != "preference":
      lines += _unlisted(name, rows)
  lines = [(label, rows) for label, rows in lines if rows]
  if not lines:
    return None
  lines = [(label, _cells(rows), _n(rows)) for label, rows in lines]
  # The order of a table in which everyone is, the baseline too.
  whole = max((list(cells) for _, cells, _ in lines), key=len)
  every = [name for _, cells, _ in lines for name in cells]
  names = list(dict.fromkeys([*whole, *every]))
  return exhibits.Table(
    ("", *map(wording.subject, names), "n"),
    tuple(
      (label, *(cells.get(name, "") for name in names), n)
      for label, cells, n in lines
    ),
  )


def _listed(
  tables: Mapping[str, exhibits.Rows],
  label: str,
  name: str,
  labels: dict[str, str],
) -> tuple[str, exhibits.Rows]:
  """A line of the closing table: its label, and a row a subject."""
  rows = tables.get(name) or []
  baseline = exhibits.baseline_of(rows)
  if baseline is not None:
    labels = labels | {"baseline": baseline}
    label = label.format(wording.subject(baseline))
  if name == "kl":
    label = label.format(exhibits.reference_of(rows))
  rows = [r for r in rows if labels.items() <= r.items() and "subject" in r]
  percent = name in captions.EXHIBITS and captions.EXHIBITS[name].percent
  return label, [dict(r, percent=percent or name == "preference") for r in rows]


def _unlisted(
  name: str, rows: exhibits.Rows
) -> list[tuple[str, exhibits.Rows]]:
  """The first lines of a table that nobody described."""
  lines: dict[str, exhibits.Rows] = {}
  for row in rows:
    if "value" in row and "subject" in row:
      parts = wording.words(name), exhibits.label_of(row, "subject")
      label = ", ".join(filter(None, parts))
      lines[label] = [*lines.get(label, []), row]
  return list(lines.items())[:_MOST_UNLISTED]


def _cells(rows: exhibits.Rows) -> dict[str, exhibits.Cell]:
  """The cells of a line by subject, with as many decimals each."""
  values = [row.get(key) for row in rows for key in ("value", "low", "high")]
  percent = any(row.get("percent") is True for row in rows)
  style = terminal.style_of(values, percent=percent)
  return {
    row["subject"]: exhibits.Cell(
      style.number(row.get("value")),
      style.interval(row.get("low"), row.get("high")),
    )
    for row in rows
  }


def _n(rows: exhibits.Rows) -> str:
  """How many answers (or tokens) a figure of the line is a mean of."""
  counts = [row.get("n", row.get("tokens")) for row in rows]
  counts = [int(n) for n in counts if terminal.is_number(n)]
  if not counts:
    return ""
  low, high = min(counts), max(counts)
  return str(low) if low == high else f"{low}–{high}"
