"""Takes finished runs over into benchmarks/results, a small file a seed.

Kept is what was measured, what it was measured with (the settings of the run
and of all that it was built on, and a digest of its data), and the seconds of
every stage. Seeds of one experiment must agree in settings and data.
"""

import hashlib
import json
import pathlib
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from instruct_jax.base import errors
from instruct_jax.runs import records, seeds

KEPT = ("reward/accuracy", "agreement/")  # of the metrics of other stages
EPISODES = "count/episodes"  # responses that a step of training samples
WITHOUT = ("product",)  # what of a run's results is not kept
UNKEPT = "_by_use_case"  # the end of the names of tables that are large
SETTINGS, DATA = "settings", "world"  # what seeds have in common, in a file

Kept = dict[str, Any]


def take_over(
  runs: pathlib.Path,
  folder: pathlib.Path,
  names: Sequence[str],
  *,
  replace: bool = False,
) -> list[pathlib.Path]:
  """Copies the finished runs of the experiments `names` that lie in `runs`.

  Returns the files written. Raises UserError, before anything is written, where
  there is no such run, or one has other settings or other data than another
  seed of its experiment, in `runs` or in `folder`. With `replace` those in
  `folder` that differ are deleted instead.
  """
  taken = {
    folder / f"{name}-tiny-seed{kept['seed']}.json": kept
    for name in names
    for kept in _finished(runs, name)
  }
  if not taken:
    raise errors.UserError(
      f"--runs={runs}: no finished run in it of {', '.join(names)}, each :tiny"
    )
  old = []
  for name in names:
    own = {k: x for k, x in taken.items() if x["experiment"] == name}
    if own:
      old += _differing(own, folder, name, replace)
  for path in old:
    path.unlink()
  for path, kept in taken.items():
    path.write_text(json.dumps(kept, indent=1) + "\n")
  return list(taken)


def _finished(runs: pathlib.Path, name: str) -> Iterator[Kept]:
  for path in sorted(runs.glob(f"{name}-tiny*/results.json")):
    results = json.loads(path.read_text())
    seed = results["seed"]
    if path.parent.name != (
      f"{name}-tiny-seed{seed}" if seed else f"{name}-tiny"
    ):
      continue  # an earlier run, moved aside
    kept = {
      k: v for k, v in _without_command(results).items() if k not in WITHOUT
    }
    kept["experiment"] = name
    kept["tables"] = {
      k: rows
      for k, rows in results["tables"].items()
      if rows and not k.endswith(UNKEPT)
    }
    kept["stages"] = dict(_stages(path.parent))
    kept[SETTINGS] = {
      k: v if isinstance(v, str | int | float | bool) else str(v)
      for k, v in seeds.settings(path.parent).items()
    }
    kept[DATA] = data_digest(path.parent)
    yield kept


def data_digest(run: pathlib.Path) -> str:
  """A hash of the records of the data set that a run was built on.

  The settings of an embedded world do not tell one state of its code from
  another; what it wrote does. "" where there is none.
  """
  for folder in seeds.chain(run):
    if records.read_config(folder).get("job") != "dataset":
      continue
    home = pathlib.Path(folder)
    files = sorted(home.rglob("*.array_record*"))
    found = hashlib.sha256()
    for path in files:
      found.update(
        f"{path.relative_to(home)}\0{path.stat().st_size}\0".encode()
      )
      found.update(path.read_bytes())
    return found.hexdigest()[:16] if files else ""
  return ""


def _differing(
  taken: Mapping[pathlib.Path, Kept],
  folder: pathlib.Path,
  name: str,
  replace: bool,
) -> list[pathlib.Path]:
  """The committed files that `replace` deletes; UserError for others."""
  (first, reference), *others = taken.items()
  for path, kept in others:
    if why := _why_other(kept, reference):
      raise errors.UserError(f"{path.stem} and {first.stem} differ: {why}")
  old = []
  for path in sorted(folder.glob(f"{name}-tiny-seed*.json")):
    if path in taken:
      continue
    why = _why_other(json.loads(path.read_text()), reference)
    if why and not replace:
      raise errors.UserError(
        f"{path}: differs from {first.stem} of --runs: {why}. With --replace it"
        " goes, and seeds of its settings are taken over one by one again"
      )
    old += [path] if why else []
  return old


def _why_other(one: Kept, other: Kept) -> str:
  """How two seeds differ in more than the seed; "" if they do not."""
  if SETTINGS not in one:
    return "it was taken over without its settings"
  a, b = one[SETTINGS], other[SETTINGS]
  keys = [key for key in sorted(a | b) if a.get(key) != b.get(key)]
  if keys:
    more = f" and {len(keys) - 3} more" if len(keys) > 3 else ""
    return f"other settings: {', '.join(keys[:3])}{more}"
  return "" if one[DATA] == other[DATA] else "other data"


def _stages(run: pathlib.Path) -> Iterator[tuple[str, dict[str, Any]]]:
  """(stage, what is kept of it) of all that a run needs, the run last."""
  record = json.loads((run / "config.json").read_text())
  for need in record["needs"].values():
    below = run / need
    if (below / "results.json").exists():
      yield from _stages(below)
  there = json.loads((run / "results.json").read_text())
  name = run.resolve().name.removesuffix(f"-seed{there['seed']}")
  metrics = there["metrics"]
  yield (
    name.replace("-tiny", ""),
    {
      "seconds": there["seconds"],
      "peak_memory_bytes": there["peak_memory_bytes"],
      "episodes": round(there["steps"] * metrics.get(EPISODES, 0)),
      "metrics": {k: v for k, v in metrics.items() if k.startswith(KEPT)},
    },
  )


def _without_command(results: Kept) -> Kept:
  """Results as they are committed: what was typed may name somebody's paths."""
  return results | {
    key: {k: v for k, v in results[key].items() if k != "command"}
    for key in ("provenance", "evaluated_by")
    if key in results
  }
