"""The results that claims and expectations are held against, of one world."""

import dataclasses
import pathlib
from collections.abc import Mapping
from typing import Any

from etils import epath

from instruct_jax.base import errors, storage
from instruct_jax.figures import claims, groups, read, verdicts

# What is committed beside the package: small results of every seed.
COMMITTED = pathlib.Path(__file__).parents[2] / "benchmarks" / "results"
AGAIN = COMMITTED.parent / "again"  # the same of `claims.AGAIN`
VARIANT = "tiny"
TRIED = "tried.json"  # {key of a claim: what was tried}, beside the results
# In results that were taken over: a digest of the data set; the config.
WORLD, SETTINGS = "world", "settings"
_TAKEN_OVER, _NAME = "stages", "name"
MAIN = claims.DEFAULT.runs[0][0]


@dataclasses.dataclass(frozen=True)
class Collected:
  """What a folder has.

  Attributes:
    results: of VARIANT, by experiment and seed.
    left_out: {name: why it is not among them}.
    tried: what is known of claims that are not shown, by their key.
    settings: of the default run, if its seeds were taken over with them.
  """

  results: verdicts.Results
  left_out: Mapping[str, str]
  tried: Mapping[str, str]
  settings: Mapping[str, Any] = dataclasses.field(default_factory=dict)


def collect(folder: epath.PathLike = COMMITTED) -> Collected:
  """The results under a folder of runs, or of what was taken over from some.

  Results of another world than the default run's first seed are left out, and
  those that were taken over without a word of theirs.
  Raises UserError where there are no results, or what was tried is unreadable.
  """
  home = epath.Path(folder)
  runs = read.read(home)
  chosen = [x for x in runs.groups if x.variant == VARIANT]
  left_out = {
    name: why
    for name, why in runs.left_out.items()
    if not why.startswith(groups.OTHER)
  }
  first: Mapping[str, Any] = {}
  results: dict[str, dict[int, dict]] = {}
  for run in sorted(
    (run for group in chosen for run in group.runs.values()),
    key=lambda run: (run.experiment != MAIN, run.seed),
  ):
    kept = storage.read_json(epath.Path(run.place))
    if _TAKEN_OVER in kept and WORLD not in kept:
      left_out[run.name] = "taken over before its world was noted"
    elif first and kept.get(WORLD) != first.get(WORLD):
      left_out[run.name] = f"of another world than {first[_NAME]}"
    else:
      first = first or (kept | {_NAME: run.name})
      tree = {"metrics": run.metrics, "tables": run.tables}
      results.setdefault(run.experiment, {})[run.seed] = tree
  return Collected(results, left_out, _tried(home), first.get(SETTINGS, {}))


def _tried(home: epath.Path) -> dict[str, str]:
  path = home / TRIED
  if not path.exists():
    return {}
  tree = storage.read_json(path)
  known = [claim.key for claim in claims.CLAIMS]
  for key, text in tree.items():
    if key not in known:
      raise errors.unknown(f"{path}: claim", key, known)
    if not isinstance(text, str):
      raise errors.UserError(f'{path}: "{key}" must be a text')
  return tree
