"""Labelers in groups, for cross-validation over them (section 4.1).

One group at a time is left out: a reward model learns from the rankings of the
labelers of all others and is then asked about that group's, which no model has
seen. Which labelers make a group says `groups.json` of the folder.
"""

import collections
import json
from collections.abc import Mapping, Sequence
from typing import Any

from etils import epath
from ml_collections import ConfigDict

from instruct_jax import paper, worlds
from instruct_jax.base import errors, run_folder, storage
from instruct_jax.data.read import kinds
from instruct_jax.parallel import hosts

Groups = tuple[tuple[str, ...], ...]
Records = Sequence[Mapping[str, Any]]


def leave_out(
  config: ConfigDict,
  folder: epath.Path,
  folders: Mapping[str, epath.Path],
) -> tuple[dict[str, float], dict[str, list[dict]]]:
  """Writes folder/{train,validation,test}.jsonl; returns metrics and a table.

  The training rankings are those of the labelers of all groups but number
  `config.folds.held_out`; the others are all there. `folders` hold the data
  set, and the rankings where a stage has made them.

  Raises UserError for rankings that name no labeler, fewer labelers than
  groups, and a group without a ranking in `config.folds.splits`.
  """
  world, folder = worlds.of(config.data), epath.Path(folder)
  rankings: dict[str, Records] = {
    split: world.records(config.data, "rankings", split, folders)
    for split in kinds.SPLITS
  }
  counts = _by_labeler(rankings["train"])
  groups = grouped(counts)
  held_out = [r for name in config.folds.splits for r in rankings[name]]
  _check_each_has_some(groups, held_out, config.folds.splits)
  gone = set(groups[config.folds.held_out - 1])
  kept = rankings | {
    "train": [r for r in rankings["train"] if r["labeler"] not in gone]
  }
  hosts.once("folds", lambda: _write(folder, kept, groups))
  rows = [
    {
      "group": str(number),
      "labelers": ", ".join(names),
      "rankings": sum(counts[name] for name in names),
    }
    for number, names in enumerate(groups, 1)
  ]
  figures = {
    "folds/labelers": float(len(counts)),
    "folds/rankings": float(len(kept["train"])),
    "folds/rankings_left_out": float(
      len(rankings["train"]) - len(kept["train"])
    ),
  }
  return figures, {"folds_groups": rows}


def grouped(counts: Mapping[str, int]) -> Groups:
  """The labelers in `paper.RM_FOLDS` groups of about as many rankings each.

  `counts` are everybody's rankings. Whoever has most goes first, each to the
  group that has least (Graham 1969), of equal ones by name and number: the
  paper does not say how it split its labelers.
  Raises UserError for fewer labelers than groups.
  """
  if len(counts) < paper.RM_FOLDS:
    who = ", ".join(sorted(counts)) or "nobody"
    raise errors.UserError(
      f"the training rankings are of {len(counts)} labelers ({who});"
      f" cross-validation over {paper.RM_FOLDS} groups of labelers needs"
      f' {paper.RM_FOLDS} at least: more rankings, each with its "labeler"'
    )
  groups: list[list[str]] = [[] for _ in range(paper.RM_FOLDS)]
  sizes = [0] * len(groups)
  for name in sorted(counts, key=lambda name: (-counts[name], name)):
    least = sizes.index(min(sizes))
    groups[least].append(name)
    sizes[least] += counts[name]
  return tuple(tuple(sorted(names)) for names in groups)


def read(folder: epath.PathLike) -> Groups:
  """The groups that `leave_out` wrote down."""
  written = storage.read_json(run_folder.files(folder).groups)
  return tuple(tuple(names) for names in written["groups"])


def _by_labeler(rankings: Records) -> dict[str, int]:
  """How many rankings each labeler made; UserError where one has none."""
  nameless = [r for r in rankings if not r.get("labeler")]
  if nameless:
    raise errors.UserError(
      f"{len(nameless)} of {len(rankings)} training rankings do not say whose"
      f" they are, the first that of the prompt {nameless[0]['prompt']!r:.80}:"
      ' cross-validation over labelers needs a "labeler" in every record'
    )
  return dict(collections.Counter(r["labeler"] for r in rankings))


def _check_each_has_some(
  groups: Groups, held_out: Records, splits: Sequence[str]
) -> None:
  """UserError for a group that nothing could be asked about."""
  there = {record.get("labeler") for record in held_out}
  for number, names in enumerate(groups, 1):
    if there.isdisjoint(names):
      raise errors.UserError(
        f"group {number} of the labelers ({', '.join(names)}) has not one"
        f" ranking in config.folds.splits={tuple(splits)}, so nothing can be"
        " asked about it: give more rankings, or hold more of them out"
        " (config.data.validation_fraction, config.data.test_fraction)"
      )


def _write(
  folder: epath.Path, rankings: Mapping[str, Records], groups: Groups
) -> None:
  for split, records in rankings.items():
    lines = (json.dumps(r, sort_keys=True) for r in records)
    storage.write_lines(folder / f"{split}.jsonl", lines)
  storage.write_json(
    run_folder.files(folder).groups, {"groups": [list(x) for x in groups]}
  )
