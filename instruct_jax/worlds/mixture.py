"""The job that mixes tasks: prompts and completions, as FLAN and T0 have them.

Examples-proportional mixing with a cap (Raffel et al. 2020, section 3.5.2; so
do FLAN and T0): of every task as many rows as it has, `config.mixtures.cap` at
most, which are drawn evenly. Its share of the mixture is min(rows, cap) by the
sum of these.

The rows are the world's (`World.mixtures`) or in files, {"prompt", "response"}
or as T0 is published, {"prompt", "completion"}; a row's "task", or the name of
its file, says which task it is of. The result is a file a split,
{"prompt", "response", "task"}, which training reads as demonstrations.
"""

import hashlib
import heapq
import json
import logging
from collections.abc import Iterable, Iterator, Mapping
from typing import Any

from etils import epath
from ml_collections import ConfigDict

from instruct_jax.base import errors, interrupt, progress, storage
from instruct_jax.data.public import formats, t0
from instruct_jax.data.read import files, kinds, sources, specs
from instruct_jax.worlds import interface

_log = logging.getLogger(__name__)

KIND = "demonstrations"
_COUNTED = 1000  # rows between two looks at the clock
_HELD_OUT = ("validation", "test")
Row = Mapping[str, Any]
Found = tuple[dict[str, float], dict[str, list[dict]]]


def names(config: ConfigDict, world: interface.World) -> set[str]:
  """The mixtures that a config or a world may have."""
  named = set(config.mixtures) if "mixtures" in config else set()
  return (named - {"name", "cap", "rows"}) | set(world.mixtures)


def is_there(config: ConfigDict, world: interface.World, name: str) -> bool:
  """Whether there is a mixture of that name, in files or in the world."""
  named = "mixtures" in config and config.mixtures[name]
  return bool(named) or name in world.mixtures


def check(config: ConfigDict, world: interface.World) -> None:
  """UserError for a mixture that is not there; reads no file."""
  name = config.mixtures.name
  if not is_there(config, world, name):
    raise errors.UserError(
      f"config.mixtures.{name} is empty: name the files of its tasks with"
      f" --config.mixtures.{name}=FILES"
    )
  if spec := config.mixtures[name]:
    weighed = [part for part in specs.parts(spec) if part.weight is not None]
    if weighed:
      raise errors.UserError(
        f"config.mixtures.{name}={spec}: the tasks of a mixture have no"
        " weights; how many rows they have, and config.mixtures.cap, say what"
        " share each has"
      )
    specs.paths(spec)


def digests(config: ConfigDict) -> dict[str, str]:
  """{key: a hash of the content} of the files that are mixed."""
  key = f"mixtures.{config.mixtures.name}"
  if not (spec := config.mixtures[config.mixtures.name]):
    return {}
  content = hashlib.sha256()
  for path in specs.paths(spec):
    content.update(path.name.encode() + b"\0")
    for block in storage.blocks(path):
      content.update(block)
  return {key: content.hexdigest()[:16]}


def build(
  config: ConfigDict,
  world: interface.World,
  folder: epath.Path,
  folders: interface.Folders,
) -> Found:
  """Writes folder/{train,validation,test}.jsonl; metrics and a table.

  Prompts that the data set keeps for validation or tests are not trained on.

  Raises:
    UserError: a file that is missing or wrong, or no row to train on or to
      validate with.
    Interrupted: SIGTERM came; nothing is written before the end.
  """
  cap, seed = config.mixtures.cap, config.seed
  held_out = _held_out(config, world, folders)
  found: dict[tuple[str, str], _Drawn] = {}
  lost = {"held out elsewhere": 0}
  with progress.Progress(f"mixture {config.mixtures.name}", None) as line:
    for number, (split, task, row) in enumerate(_rows(config, world), 1):
      if number % _COUNTED == 0:
        interrupt.check()
        line.say(f"{number:,} rows")
      if row is None:
        found[split, task] = _Drawn(cap, seed)
        continue
      if split == "train" and kinds.known_by(dict(row), KIND) in held_out:
        lost["held out elsewhere"] += 1
        continue
      drawn = found.setdefault((split, task), _Drawn(cap, seed))
      drawn.add({**row, "task": task})
  for split in kinds.SPLITS:
    rows = list(_in_order(found, split))
    if not rows and split != "test":
      raise errors.UserError(
        f"the mixture {config.mixtures.name} has no row in its {split} split;"
        " give more rows, or another config.data.validation_fraction"
      )
    if rows:
      lines = (json.dumps(row, ensure_ascii=False) for row in rows)
      storage.write_lines(folder / f"{split}.jsonl", lines)
  return _figures(found, lost)


def _rows(
  config: ConfigDict, world: interface.World
) -> Iterator[tuple[str, str, Row | None]]:
  """(split, task, row) of all that there is to mix; None for an empty file."""
  name, spec = config.mixtures.name, config.mixtures[config.mixtures.name]
  if not spec:
    for split in kinds.SPLITS:
      count = config.mixtures.rows
      count = count if split == "train" else max(1, count // 10)
      seed = config.data.world_seed
      for row in world.mixtures[name](split, count, seed=seed):
        yield split, str(row["task"]), row
    return
  fractions = {
    "validation_fraction": config.data.validation_fraction,
    "test_fraction": config.data.test_fraction,
  }
  for path in specs.paths(spec):
    stem = path.name.partition(".")[0]
    if next(iter(files.unit_rows(path)), None) is None:
      _log.warning("warning: %s: empty, so this task has no row", path)
      yield "train", stem, None
      continue
    for record in _of_file(path):
      row = {key: record[key] for key in ("prompt", "response")}
      split = kinds.split_of(record, KIND, **fractions)
      yield split, str(record.get("task", stem)), row


def _of_file(path: epath.Path) -> Iterator[dict[str, Any]]:
  """The records of a file, in the house's form or in T0's."""
  rows = files.unit_rows(path)
  _, first = next(iter(files.unit_rows(path)))
  if "completion" in first and "response" not in first:
    for asked, said in t0.pairs(rows, formats.Counts()):
      if asked.strip() and said.strip():
        yield {"prompt": asked, "response": said.strip()}
    return
  yield from sources.of_rows(rows, path, KIND)


class _Drawn:
  """As many rows as there may be of a task, each as likely to be among them."""

  def __init__(self, most: int, seed: int):
    self._most, self._seed = most, seed
    self._heap: list[tuple[int, str]] = []  # the highest hash first
    self.read = self.doubles = 0
    self._keys: set[int] = set()

  def add(self, row: Row) -> None:
    """One more row of the task; the same one twice counts once."""
    line = json.dumps(row, sort_keys=True)
    digest = hashlib.blake2b(f"{self._seed}\0{line}".encode(), digest_size=8)
    key = int.from_bytes(digest.digest(), "big")
    self.read += 1
    if key in self._keys:
      self.doubles += 1
      return
    self._keys.add(key)
    heapq.heappush(self._heap, (-key, line))
    if len(self._heap) > self._most:
      gone, _ = heapq.heappop(self._heap)
      self._keys.remove(-gone)

  @property
  def kept(self) -> list[tuple[int, Row]]:
    """(hash, row) of those that were drawn."""
    return [(-key, json.loads(line)) for key, line in self._heap]


def _in_order(
  found: Mapping[tuple[str, str], _Drawn], split: str
) -> Iterable[Row]:
  """The rows of a split's tasks, mixed."""
  kept = [drawn.kept for (of, _), drawn in found.items() if of == split]
  pairs = [pair for of_task in kept for pair in of_task]
  return [row for _, row in sorted(pairs, key=lambda pair: pair[0])]


def _figures(found, lost) -> Found:
  train = {task: x for (split, task), x in found.items() if split == "train"}
  total = sum(len(drawn.kept) for drawn in train.values())
  table = [
    {
      "task": task,
      "rows there": drawn.read - drawn.doubles,
      "taken": len(drawn.kept),
      "share": len(drawn.kept) / total,
    }
    for task, drawn in sorted(train.items())
  ]
  figures = {"mixture/tasks": float(sum(row["taken"] > 0 for row in table))}
  for split in kinds.SPLITS:
    taken = [len(x.kept) for (of, _), x in found.items() if of == split]
    figures[f"mixture/rows/{split}"] = float(sum(taken))
  figures |= {f"mixture/{k.replace(' ', '_')}": float(n)
              for k, n in lost.items()}  # fmt: skip
  return figures, {"mixture": table}


def _held_out(
  config: ConfigDict, world: interface.World, folders: interface.Folders
) -> set[str]:
  """The prompts that the data set keeps for validation and tests."""
  if not world.holds(config.data, "prompts"):
    return set()
  return {
    kinds.known_by(dict(record), "prompts")
    for split in _HELD_OUT
    for record in world.records(config.data, "prompts", split, folders)
  }
