"""What was measured on sets of data: the table, and a page of all of it."""

import fnmatch
import json
import sys
from collections.abc import Mapping
from typing import Any

from etils import epath

from instruct_jax.base import storage, terminal
from instruct_jax.parallel import hosts
from instruct_jax.report import exhibits, pages

REPORT = "report.html"
_SHORT = 12  # rows of a table that is printed
_SAMPLES = 8  # of a set that are shown
_LETTERS = 600  # of a text

Results = Mapping[str, Any]


def print_results(results: Results) -> None:
  """Prints each set's headline by model, short tables, what is missing."""
  table = headlines(results)
  if table.rows:
    terminal.table(
      [[str(cell) for cell in row] for row in table.rows],
      table.headers,
      title="Value ± standard error",
    )
  for name, one in results["sets"].items():
    for called, rows in one["tables"].items():
      if 0 < len(rows) <= _SHORT:
        _print_table(name, exhibits.arrange(called, rows))
      elif rows:
        title = exhibits.arrange(called, rows).title
        print(f"{name}: {title}: {len(rows)} rows, in the report")
  if said := chosen(results["settings"]):
    print(f"Note: {said}")
  for name, why in results["missing"].items():
    print(f"Missing: {name}: {why}")
  for name, one in results["sets"].items():
    for model, counts in one["counts"].items():
      said = ", ".join(f"{count} {what}" for what, count in counts.items())
      print(f"Note: {name}, {model}: {said}")
    for note in one["notes"]:
      print(f"Note: {name}: {note}")


def _print_table(name: str, table: exhibits.Table) -> None:
  terminal.table(
    [[str(cell) for cell in row] for row in table.rows],
    table.headers,
    title=f"{name}: {table.title}",
  )


def chosen(settings: Mapping[str, Any]) -> str:
  """What a reader must know of the best of n; '' where nothing is chosen."""
  if "best_of" not in settings:
    return ""
  n, nats = settings["best_of"], settings["best_of_kl"]
  return (
    f"each sampled answer is of {n} the one that {settings['scorer']['run']}"
    f" likes best (log {n} - {n - 1}/{n} = {nats:.2f} nats from the model);"
    " where a set asks for the likeliest, they are sampled at temperature 1."
    " Likelihoods are the model's own, and what a reward model that chose says"
    " of its choice is high by construction."
  )


def headlines(results: Results) -> exhibits.Table:
  """A row a set, a column a model: the metric that a set is known by."""
  models = list(results["models"])
  rows = []
  for name, one in results["sets"].items():
    by_model = one["metrics"].get(one["headline"], {})
    if by_model and not by_model.keys() & set(models):
      continue  # They are of others, whom a file names.
    cells = [_cell(one, one["headline"], by_model.get(m)) for m in models]
    sizes = {x["n"] for x in by_model.values()}
    size = ", ".join(map(str, sorted(sizes)))
    label = f"{name} {one['headline']}{_unit(one, one['headline'])}"
    rows.append((label, *cells, exhibits.Cell(size)))
  return exhibits.Table(("", *models, "n"), tuple(rows))


def whole(one: Mapping[str, Any], models: list[str]) -> exhibits.Table:
  """All metrics of a set, a column a model."""
  rows = []
  for metric, by_model in one["metrics"].items():
    cells = [_cell(one, metric, by_model.get(m)) for m in models]
    size = max((x["n"] for x in by_model.values()), default=0)
    label = f"{metric}{_unit(one, metric)}"
    rows.append((label, *cells, exhibits.Cell(str(size))))
  return exhibits.Table(("", *models, "n"), tuple(rows))


def _of(one: Mapping[str, Any], models: list[str]) -> list[str]:
  """The models, or those that a set's file names."""
  every = dict.fromkeys(m for of in one["metrics"].values() for m in of)
  others = [name for name in every if name not in models]
  return [*(name for name in models if name in every or not every), *others]


def _unit(one, metric):
  return ", %" if _is_percent(one, metric) else ""


def _is_percent(one, metric):
  """Whether a metric's values are fractions, which are shown as percent."""
  return not any(fnmatch.fnmatchcase(metric, x) for x in one["plain"])


def _cell(one, metric, estimate) -> exhibits.Cell:
  if estimate is None:
    return exhibits.Cell("–")
  scale = 100 if _is_percent(one, metric) else 1
  value, stderr = estimate["value"], estimate["stderr"]
  decimals = 1 if scale == 100 else 3
  note = "" if stderr is None else f"± {scale * stderr:.{decimals}f}"
  return exhibits.Cell(f"{scale * value:.{decimals}f}", note)


def print_sets(sets: Mapping[str, Any]) -> None:
  """Prints what each set is, its files, and where it is published."""
  rows = [
    (
      name,
      one.about,
      "; ".join(" or ".join(patterns) for patterns in one.files.values()),
      one.published,
      "; ".join(f"{k}: {v}" for k, v in one.options.items()),
    )
    for name, one in sets.items()
  ]
  headers = ("set", "what", "files", "published at", "options")
  terminal.table(rows, headers, stream=sys.stdout)


def write(out: epath.PathLike, results: Results) -> epath.Path:
  """Writes OUT/report.html: one file, which needs nothing else.

  Every process of the job calls it; the first one writes.
  """
  out = epath.Path(out)
  hosts.once("page", lambda: _write(out, results))
  return out / REPORT


def _write(out, results):
  models = list(results["models"])
  page = pages.template("evaluation.html").render(
    models=results["models"],
    settings=results["settings"],
    chosen=chosen(results["settings"]),
    headlines=headlines(results),
    sets=[
      one
      | {
        "name": name,
        "table": whole(one, _of(one, models)),
        "more": [exhibits.arrange(*x) for x in one["tables"].items()],
        "samples": _samples(out / f"{name}.jsonl"),
      }
      for name, one in results["sets"].items()
    ],
    missing=results["missing"],
    failed=results["failed"],
  )
  storage.write(out / REPORT, page)


def _samples(path: epath.Path) -> list[dict[str, Any]]:
  """The first samples of each model, their texts cut."""
  shown: dict[str, list[dict[str, Any]]] = {}
  with path.open() as file:
    for line in file:
      row = json.loads(line)
      of_model = shown.setdefault(row.pop("model"), [])
      if len(of_model) < _SAMPLES:
        of_model.append({name: _text(value) for name, value in row.items()})
  return [
    {"model": model, "rows": rows} for model, rows in shown.items() if rows
  ]


def _text(value: Any) -> str:
  text = value if isinstance(value, str) else json.dumps(value)
  if len(text) <= _LETTERS:
    return text
  half = _LETTERS // 2
  return f"{text[:half]} … {text[-half:]}"
