"""Runs of one experiment with other seeds, beside a run.

They count as the same experiment where all that determines them is equal but
the seed: their own configs, those of everything that they were built on, the
content of the files, and how they were evaluated.
"""

import dataclasses
import hashlib
import json
import logging
import re
from typing import Any

from etils import epath
from ml_collections import ConfigDict

from instruct_jax.base import errors, keys, run_folder
from instruct_jax.hf import folder as hf_folder
from instruct_jax.runs import digests, records

_log = logging.getLogger(__name__)

# What a folder may raise that somebody has damaged.
_BROKEN = (errors.UserError, OSError, KeyError, TypeError, ValueError,
           AttributeError)  # fmt: skip


@dataclasses.dataclass(frozen=True)
class Beside:
  """The chains of other seeds, each with its own run last."""

  chains: tuple[tuple[epath.Path, ...], ...]
  left_out: dict[str, str]  # {name of the folder: why it is not among these}


def beside(folder: epath.PathLike) -> Beside:
  """The finished runs NAME, NAME-seed1, ... beside a run's folder.

  Nothing is raised for what is wrong with one of them; where the run's own
  settings can no longer be read, none is beside it.
  """
  folder = epath.Path(folder)
  stem = re.sub(r"-seed\d+$", "", folder.name)
  try:
    results = records.read_results(folder)
    if not results["tables"]:
      return Beside((), {})  # Nothing was measured that seeds could share.
    own, odd = settings(folder), _odd_tables(results)
  except _BROKEN as error:
    _log.warning("no other seeds in the report: %s", error)
    return Beside((), {})
  chains, left_out = {}, {}
  for path in folder.parent.glob(f"{stem}*"):
    match = re.fullmatch(rf"{re.escape(stem)}(?:-seed(\d+))?", path.name)
    if not match or path.name == folder.name:
      continue
    reason = _unfit(path, own, odd)
    if reason:
      left_out[path.name] = reason
    else:
      chains[int(match.group(1) or 0)] = tuple(chain(path))
  ordered = tuple(chains[seed] for seed in sorted(chains))
  return Beside(ordered, dict(sorted(left_out.items())))


def chain(folder: epath.PathLike) -> list[epath.Path]:
  """A run and all that it was built on, each once, needs first."""
  ordered: dict[str, epath.Path] = {}

  def visit(path: epath.Path) -> None:
    if hf_folder.is_reference(path) or str(path.resolve()) in ordered:
      return
    for need in records.read_needs(path).values():
      visit(need)
    ordered[str(path.resolve())] = path

  visit(epath.Path(folder))
  return list(ordered.values())


def settings(folder: epath.PathLike) -> dict[str, Any]:
  """All that determines a finished run but its seed, {dotted key: value}."""
  record = records.read_record(folder)
  evaluation = keys.flatten(ConfigDict(record["config"]["evaluation"]))
  return _settings(epath.Path(folder), {}) | {
    f"evaluation.{key}": value for key, value in evaluation.items()
  }


def _settings(folder: epath.Path, known: dict[str, str]) -> dict[str, Any]:
  record = records.read_record(folder)
  hidden = (
    *digests.undigested(record["config"].get("job", "")),
    "needs",
    "seed",
  )
  flat = {
    key: value
    for key, value in keys.flatten(ConfigDict(record["config"])).items()
    if key.split(".")[0] not in hidden
  }
  flat |= {f"files of {k}": v for k, v in record["data_digests"].items()}
  for name, need in records.read_needs(folder).items():
    flat[f"needs.{name}"] = _hash_of(need, record["needs_digests"][name], known)
  return flat


def _hash_of(need: epath.Path, digest: str, known: dict[str, str]) -> str:
  """A hash of a need's settings; of a checkpoint, that of its content."""
  if hf_folder.is_reference(need):
    return digest
  place = str(need.resolve())
  if place not in known:
    text = json.dumps(_settings(need, known), sort_keys=True, default=str)
    known[place] = hashlib.sha256(text.encode()).hexdigest()[:16]
  return known[place]


def _unfit(folder: epath.Path, own: dict[str, Any], odd_here: set[str]) -> str:
  """Why a run is not shown with another; "" where it is."""
  try:
    files = run_folder.files(folder)
    if not files.config.exists():
      return "not a run"
    if not files.results.exists():
      return "has not finished"
    there = settings(folder)
    other = [
      key for key in sorted(own | there) if own.get(key) != there.get(key)
    ]
    if other:
      more = f" and {len(other) - 3} more" if len(other) > 3 else ""
      return f"other settings: {', '.join(other[:3])}{more}"
    results = records.read_results(folder)
    if not results["tables"]:
      return "has not been evaluated"
    if not isinstance(results["seed"], int):
      return "has no seed"
    odd = ", ".join(sorted(_odd_tables(results) - odd_here))
    if odd:
      return f"cannot be read: damaged tables in results.json: {odd}"
    chain(folder)
  except KeyError as error:
    return f"cannot be read: {error} is missing from its files"
  except (TypeError, AttributeError):
    return "cannot be read: its config.json or results.json is damaged"
  except _BROKEN as error:
    said = str(error).replace(f"{folder}/", "").split("\n")[0]
    return f"cannot be read: {said.rstrip('.')}"
  return ""


def _odd_tables(results: dict[str, Any]) -> set[str]:
  """The tables that are not rows with numbers, as people's own may be."""
  return {
    name
    for name, rows in results["tables"].items()
    if not isinstance(rows, list)
    or not all(
      isinstance(row, dict) and isinstance(row.get("value", 0), (int, float))
      for row in rows
    )
  }
