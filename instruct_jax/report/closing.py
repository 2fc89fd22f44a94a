"""The closing table in the terminal: subjects side by side."""

from collections.abc import Mapping
from typing import Any

from instruct_jax.base import terminal
from instruct_jax.report import captions, exhibits

_UNSHOWN = ("rate/", "seconds/", "count/")  # of no interest when all is over
_MOST_UNLISTED = 4  # lines of a table that nobody described


def print_closing(results: Mapping[str, Any]) -> None:
  """Prints the closing table of a run: subjects side by side, or its metrics.

  Drawn in a terminal, aligned plain text elsewhere.
  """
  title = f"{results.get('experiment', '')}:{results.get('variant', '')}"
  title += f", seed {results.get('seed', 0)}"
  table = arrange(results.get("tables") or {})
  if table is None:
    values = results.get("metrics") or {}
    rows = [
      [name, value]
      for name, value in sorted(values.items())
      if not name.startswith(_UNSHOWN)
    ]
    headers = ("metric", "value")
  else:
    rows = [[str(part) for part in row] for row in table.rows]
    headers = table.headers
  if rows:
    terminal.table(rows, headers, title=title)


def arrange(tables: Mapping[str, exhibits.Rows]) -> exhibits.Table | None:
  """A line a figure, a column a subject; None without subjects.

  First what `captions` lists, then the tables that it does not know, which
  come from people's own evaluations.
  """
  lines = [_listed(tables, *entry) for entry in captions.CLOSING]
  for name, rows in tables.items():
    if name not in captions.EXHIBITS and name != "preference":
      lines += _unlisted(name, rows)
  lines = [(label, cells) for label, cells in lines if cells]
  if not lines:
    return None
  # The order of a table in which everyone is, the baseline too.
  whole = max((list(cells) for _, cells in lines), key=len)
  every = [name for _, cells in lines for name in cells]
  names = list(dict.fromkeys([*whole, *every]))
  rows = (
    (label, *(cells.get(name, "") for name in names)) for label, cells in lines
  )
  return exhibits.Table(("", *map(captions.subject, names)), tuple(rows))


def _listed(
  tables: Mapping[str, exhibits.Rows],
  label: str,
  name: str,
  labels: dict[str, str],
) -> tuple[str, dict[str, exhibits.Cell]]:
  """A line of the closing table: its label, and cells by subject."""
  rows = tables.get(name) or []
  baseline = exhibits.baseline_of(rows)
  if baseline is not None:
    labels = labels | {"baseline": baseline}
    label = label.format(captions.subject(baseline))
  rows = [r for r in rows if labels.items() <= r.items() and "subject" in r]
  percent = name in captions.EXHIBITS and captions.EXHIBITS[name].percent
  percent = percent or name == "preference"
  return label, {r["subject"]: exhibits.cell(r, percent=percent) for r in rows}


def _unlisted(
  name: str, rows: exhibits.Rows
) -> list[tuple[str, dict[str, exhibits.Cell]]]:
  """The first lines of a table that nobody described."""
  lines: dict[str, dict[str, exhibits.Cell]] = {}
  for row in rows:
    if "value" in row and "subject" in row:
      parts = captions.words(name), exhibits.label_of(row, "subject")
      label = ", ".join(filter(None, parts))
      lines.setdefault(label, {})[row["subject"]] = exhibits.cell(
        row, percent=False
      )
  return list(lines.items())[:_MOST_UNLISTED]
