"""Reads a folder of results, local or `gs://`, as whoever draws wants them.

A folder holds runs (NAME/results.json), results that were copied out of them
(NAME.json, with NAME.responses.jsonl beside it for samples), or is a run or
what `instruct_jax.evaluate` wrote itself.
"""

import json
import logging
import re
from collections.abc import Iterable, Iterator
from typing import Any

from etils import epath

from instruct_jax.base import errors, run_folder, storage
from instruct_jax.figures import groups, public

_log = logging.getLogger(__name__)

# Where several experiments have a number of the same name, the first here says
# it; numbers of others are read for what these have not.
FIRST = ("ppo_ptx", "ppo", public.EXPERIMENT)
UNTAUGHT = "test"  # a variant that learns nothing


def read(folder: epath.PathLike) -> groups.Runs:
  """All results of a folder.

  Variants that learn nothing are left out beside others, and so are files that
  are no results, results moved aside and a second file of the same run: why
  stands in `left_out`. Raises UserError where no results are there.
  """
  home = epath.Path(folder)
  if not home.is_dir():
    raise errors.UserError(
      f"{folder}: no such folder; name one that holds finished runs"
    )
  left_out: dict[str, str] = {}
  runs: dict[tuple[str, str, int], groups.Run] = {}
  for path in sorted(_files(home)):
    name = str(path.relative_to(home))
    try:
      run = _run(path)
    except errors.UserError as error:
      left_out[name] = str(error).removeprefix(f"{path}: ")
      continue
    key = (run.experiment, run.variant, run.seed)
    if key in runs:
      left_out[name] = f"the same run as {runs[key].name}"
    else:
      runs[key] = run
  _drop_untaught(runs, left_out)
  reasons = groups.by_reason(left_out)
  for why, count, names in reasons:
    if not why.startswith(groups.OTHER):
      _log.info("%s: left out %d: %s: %s", home, count, why, names)
  if not runs:
    why = "".join(f"; {names}: {text}" for text, _, names in reasons)
    raise errors.UserError(
      f"{folder}: no results of finished runs in it (NAME/results.json, or"
      f" NAME.json){why[:600]}"
    )
  return groups.Runs(str(folder), tuple(_groups(runs.values())), left_out)


def samples(run: groups.Run, most: int = 10_000) -> list[groups.Row]:
  """What models said to the test prompts, at most so many; [] without a file.

  Raises UserError for a line that cannot be read.
  """
  if not run.responses:
    return []
  rows = []
  with epath.Path(run.responses).open("r") as file:
    for number, line in enumerate(file, start=1):
      if number > most:
        break
      try:
        rows.append(json.loads(line))
      except ValueError as error:
        raise errors.UserError(
          f"{run.responses}, line {number}: not readable JSON ({error})"
        ) from None
  return rows


def _files(home: epath.Path) -> Iterator[epath.Path]:
  """The files that may be results."""
  name = run_folder.NAMES["results"]
  for path in home.iterdir():
    if path.name.startswith(".") or re.search(r"\.old\d+$", path.name):
      continue
    if path.name.endswith(".json"):
      yield path
    elif path.is_dir() and (path / name).exists():
      yield path / name


def _run(path: epath.Path) -> groups.Run:
  """The run of a file; UserError where it is none."""
  is_named = path.name == run_folder.NAMES["results"]
  name = path.parent.name if is_named else path.name.removesuffix(".json")
  tree = _checked(path, storage.read_json(path))
  metrics = {
    k: float(v) for k, v in tree["metrics"].items() if groups.is_finite(v)
  }
  tables = {k: x for k, x in tree["tables"].items() if _is_table(x)}
  if public.SETS in tables:
    more, converted = public.of_rows(tables[public.SETS])
    metrics, tables = metrics | more, tables | converted
  answers = run_folder.NAMES["responses"]
  responses = path.parent / (answers if is_named else f"{name}.{answers}")
  return groups.Run(
    name=name,
    experiment=tree["experiment"],
    variant=tree["variant"],
    seed=tree["seed"],
    metrics=metrics,
    tables=tables,
    place=str(path),
    responses=str(responses) if responses.exists() else "",
  )


def _checked(path: epath.Path, tree: dict[str, Any]) -> dict[str, Any]:
  """A run's results; those of public sets as if a run had found them."""
  if public.is_public(tree):
    tree = public.run(tree)
  for key, kind in _KEYS.items():
    if key not in tree:
      raise errors.UserError(f'{path}: {groups.OTHER} ("{key}")')
    if not _fits(tree[key], kind):
      raise errors.UserError(f'{path}: "{key}" is damaged')
  return tree


# What results have, and of which type.
_KEYS = {
  "experiment": str,
  "variant": str,
  "seed": int,
  "metrics": dict,
  "tables": dict,
}


def _fits(value: Any, kind: type) -> bool:
  return isinstance(value, kind) and not isinstance(value, bool)


def _is_table(rows: Any) -> bool:
  return isinstance(rows, list) and all(isinstance(row, dict) for row in rows)


def _drop_untaught(
  runs: dict[tuple[str, str, int], groups.Run], left_out: dict[str, str]
) -> None:
  """Leaves variants that learn nothing out where others are there."""
  untaught = {k: x for k, x in runs.items() if UNTAUGHT in k[1].split("-")}
  if len(untaught) == len(runs):
    return
  for key, run in untaught.items():
    del runs[key]
    left_out[run.name] = f":{run.variant} learns nothing"


def _groups(runs: Iterable[groups.Run]) -> list[groups.Group]:
  """Runs by experiment and variant, those of FIRST first, then by name."""
  by_key: dict[tuple[str, str], dict[int, groups.Run]] = {}
  for run in sorted(runs, key=lambda run: run.seed):
    by_key.setdefault((run.experiment, run.variant), {})[run.seed] = run

  def rank(key: tuple[str, str]) -> tuple[int, str, str]:
    place = FIRST.index(key[0]) if key[0] in FIRST else len(FIRST)
    return place, *key

  return [groups.Group(*key, by_key[key]) for key in sorted(by_key, key=rank)]
