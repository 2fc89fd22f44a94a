"""A data set by many workers: `prepare`'s engine, whoever runs the tasks.

Read, cleaned, tokenised and packed are records where they are; here is decided
what hangs together: of records with prompts by the hashes of all (120 bytes a
record, as on one machine), and where pieces begin, by their lengths (9 bytes a
text). Text itself never comes here, but for what a tokenizer learns from. What
the workers leave are the shards that one machine writes, bit for bit.

Three rounds of tasks (`tasks`), each behind the one before: `scan` (of kinds
with prompts), `measure`, `make`; and `sample`, where a tokenizer is trained. A
build that was killed finds what its tasks left.
"""

import collections
import dataclasses
import itertools
import json
import shutil
from collections.abc import Callable, Iterator, Sequence
from typing import Any

import ml_collections
import numpy as np
from etils import epath

from instruct_jax.base import errors, interrupt, progress, run_folder, storage
from instruct_jax.data import building, tasks
from instruct_jax.data.batch import catalogue, shards
from instruct_jax.data.clean import facts, hygiene, pipeline
from instruct_jax.data.read import kinds, sources, spans, specs, unchanged
from instruct_jax.maths import sampling

VERSION = 1  # of what tasks leave
# Bytes of what a task reads: of more the last one is waited for longer, of less
# more is read again by those whose pieces begin before it.
GROUP = 64 << 20
_TRAIN = kinds.SPLITS.index("train")

# Does tasks, in any order, and calls the second now and then meanwhile.
Run = Callable[[Sequence[tasks.Task], Callable[[], None]], None]


class Spread:
  """Builds one data set, in one folder that all workers see under its name.

  Args:
    run: who does the tasks.
    group: bytes of what a task reads.
  """

  def __init__(self, run: Run, *, group: int = GROUP):
    self._run, self._size = run, group

  def scan(
    self, data: ml_collections.ConfigDict, folder: epath.Path
  ) -> pipeline.Plan:
    """As `prepare.Engine`."""
    self._data, self._folder = data, folder
    named = [kind for kind in kinds.KINDS if data[kind]]
    self._begin()
    self._groups = {kind: _grouped(data, kind, self._size) for kind in named}
    self._measured: dict[str, list[dict[str, np.ndarray]]] = {}
    self._cuts: dict[str, dict[str, list[Cut]]] = {}
    self._before = unchanged.states(
      path for kind in named for path in specs.paths(data[kind])
    )
    settings = hygiene.settings_of(data)
    linked = [x for x in named if pipeline.hangs_together(x, settings)]
    found = self._done("scan", linked)
    records = {
      kind: sources.Source(data[kind], kind, k_max=data.k_max) for kind in named
    }
    together = {kind: _joined(of_kind) for kind, of_kind in found.items()}
    plan = pipeline.decide(records, together, settings)
    for kind, of_kind in found.items():
      self._write_verdicts(kind, of_kind, plan.verdicts[kind])
    sides = plan.side_of._asdict()
    tasks.save(folder / tasks.FOLDER / "side_of.npz", sides)
    return plan

  def sample(
    self, data: ml_collections.ConfigDict, plan: pipeline.Plan
  ) -> sampling.Sample[str]:
    """As `prepare.Engine`: which texts, their lengths alone decide."""
    streams = [kind for kind in plan.records if kinds.KINDS[kind].is_stream]
    self._measure()
    groups = [group for kind in streams for group in self._groups[kind]]
    measured = [found for kind in streams for found in self._measured[kind]]
    trained = [np.flatnonzero(found["side"] == _TRAIN) for found in measured]
    lengths = np.concatenate(
      [np.zeros(0, np.uint32)]
      + [x["characters"][own] for x, own in zip(measured, trained)]
    )
    places = sampling.uniform(
      range(len(lengths)), data.tokenizer_sample, lengths.tolist().__getitem__
    )
    ends = np.cumsum([len(own) for own in trained])
    wanted = []
    for group, own, end in zip(groups, trained, ends):
      first, stop = np.searchsorted(places.items, (end - len(own), end))
      chosen = own[np.asarray(places.items[first:stop], int) - end + len(own)]
      if len(chosen):
        task = self._task("sample", group)
        wanted.append(dataclasses.replace(task, chosen=tuple(chosen.tolist())))
    self._do(wanted, "texts for the tokenizer")
    texts = [
      text
      for task in wanted
      for text in storage.read_json(task.folder / task.name)["texts"]
    ]
    sizes = places.size, places.seen, places.seen_size
    return sampling.Sample(texts, *sizes)

  def build(
    self, job: building.Job, plan: pipeline.Plan, kind: str
  ) -> dict[str, catalogue.Split]:
    """As `prepare.Engine`."""
    self._measure()
    measured = self._measured[kind]
    if kinds.KINDS[kind].is_stream:
      read = sum(len(found["side"]) for found in measured)
      plan.counts[kind] = pipeline.counts_of_text(read)
    else:
      self._write_lines(kind)
      pii = collections.Counter()
      for found in measured:
        pii.update(json.loads(str(found["pii"])))
      plan.counts[kind] |= {name: pii[name] for name in sorted(pii)}
    if self._cuts:  # All kinds are made with the first.
      for cut in itertools.chain.from_iterable(self._cuts[kind].values()):
        job.done(cut.size)
    else:
      self._make(job, kind)
    counts = {split: len(found) for split, found in self._cuts[kind].items()}
    return building.finish(job, kind, counts)

  def _begin(self) -> None:
    """Keeps what tasks left of the same input, and nothing else."""
    folder = self._folder / tasks.FOLDER
    of = self._begun()["of"]
    made = {"of": of, "version": VERSION, "group": self._size}
    try:
      is_same = storage.read_json(folder / "of.json") == made
    except errors.UserError:
      is_same = False
    if not is_same:
      if folder.exists():
        folder.rmtree()
      folder.mkdir(parents=True)
      storage.write_json(folder / "of.json", made)

  def _begun(self) -> dict[str, Any]:
    """What the data set is built of, and the digest of its tokenizer."""
    return storage.read_json(run_folder.files(self._folder).begun)

  def _task(self, work: str, *groups: tasks.Group) -> tasks.Task:
    data = self._data.to_dict()
    return tasks.Task(work, str(self._folder), data, groups)

  def _done(
    self, work: str, named: Sequence[str]
  ) -> dict[str, list[dict[str, np.ndarray]]]:
    """What tasks that read each a group of these kinds have left."""
    every = [self._task(work, g) for kind in named for g in self._groups[kind]]
    self._do(every, f"{work} {' '.join(named)}")
    found = {
      kind: [
        tasks.load(task.folder / task.name)
        for task in every
        if task.groups[0].kind == kind
      ]
      for kind in named
    }
    for kind, of_kind in found.items():
      _check_all_have_some(self._groups[kind], of_kind)
    return found

  def _do(self, every: Sequence[tasks.Task], title: str) -> None:
    """Does those tasks that were not done before; raises what went wrong."""
    left = {x.name: x for x in every if not (x.folder / x.name).exists()}
    total = len(left)

    def look():
      interrupt.check()
      for name in list(left):
        if (self._folder / tasks.FOLDER / name).exists():
          del left[name]
      progress.say(f"{title}: {total - len(left)} of {total} parts")

    self._run_all(list(left.values()), look)

  def _run_all(
    self, every: Sequence[tasks.Task], look: Callable[[], None]
  ) -> None:
    for task in every:
      task.error.unlink(missing_ok=True)
    if every:
      look()
      self._run(every, look)
      look()
    for task in every:
      if error := tasks.error_of(task):
        raise error
    unchanged.check(self._before)

  def _measure(self) -> None:
    if not self._measured:
      self._measured = self._done("measure", list(self._groups))

  def _write_verdicts(
    self,
    kind: str,
    found: Sequence[dict[str, np.ndarray]],
    verdicts: pipeline.Verdicts,
  ) -> None:
    before = 0
    for group, some in zip(self._groups[kind], found):
      part = slice(before, before + len(some["name"]))
      own = {name: x[part] for name, x in verdicts._asdict().items()}
      path = self._folder / tasks.FOLDER / group.named("verdicts")
      tasks.save(path, own | {"before": np.array(before)})
      before = part.stop

  def _write_lines(self, kind: str) -> None:
    """The files of a kind's records, from those of its groups."""
    for split in kinds.SPLITS:
      path = building.lines_path(self._folder, kind, split)
      with storage.writing(path, "wb") as to:
        for group in self._groups[kind]:
          name = group.named("measure", f"-{split}.jsonl")
          with (self._folder / tasks.FOLDER / name).open("rb") as file:
            shutil.copyfileobj(file, to)

  def _make(self, job: building.Job, kind: str) -> None:
    """Has all pieces made, of all kinds; tells the job of those of its own."""
    digest = self._begun()["tokenizer"]
    for of, measured in self._measured.items():
      self._cuts[of] = {
        split: _pieces(measured, self._groups[of], side)
        for side, split in enumerate(kinds.SPLITS)
      }
    every = []
    for of, cuts in self._cuts.items():
      groups = self._groups[of]
      for number in range(len(groups)):
        wanted, last = _beginning(cuts, number)
        if wanted:
          task = self._task("make", *groups[number : last + 1])
          task = dataclasses.replace(task, wanted=tuple(wanted))
          every.append(dataclasses.replace(task, tokenizer=digest))
    left = {
      (split, n): cut.size
      for split, found in self._cuts[kind].items()
      for n, cut in enumerate(found)
    }

    def look():
      interrupt.check()
      for split, n in list(left):
        if building.noted(job.root, kind, split, n).exists():
          job.done(left.pop((split, n)))

    for of in self._cuts:
      shards.clear(job.root, of)
    self._run_all(every, look)
    for of in self._cuts:
      shards.clear(job.root, of)


@dataclasses.dataclass(frozen=True)
class Cut:
  """Where a piece lies: groups, and records of its split in its first one."""

  group: int
  last: int  # group
  start: int
  stop: int
  size: int  # bytes


def _beginning(
  cuts: dict[str, list[Cut]], group: int
) -> tuple[list[tasks.Wanted], int]:
  """The pieces that begin in a group, and the last group they reach into."""
  wanted, last = [], group
  for split, found in cuts.items():
    for n, cut in enumerate(found):
      if cut.group == group:
        wanted.append(tasks.Wanted(split, n, cut.start, cut.stop))
        last = max(last, cut.last)
  return wanted, last


def _grouped(
  data: ml_collections.ConfigDict, kind: str, size: int
) -> list[tasks.Group]:
  """The spans of a kind, so many together that a task has enough to do."""
  found: list[list[spans.Span]] = []
  held = 0
  for span in spans.cut(data, kind, size):
    if not found or held + span.stop - span.start > size:
      found.append([])
      held = 0
    found[-1].append(span)
    held += span.stop - span.start
  return [tasks.Group(kind, n, tuple(some)) for n, some in enumerate(found)]


def _joined(found: Sequence[dict[str, np.ndarray]]) -> facts.Facts:
  names = [field.name for field in dataclasses.fields(facts.Facts)]
  return facts.Facts(
    **{name: np.concatenate([x[name] for x in found]) for name in names}
  )


def _check_all_have_some(
  groups: Sequence[tasks.Group], found: Sequence[dict[str, np.ndarray]]
) -> None:
  """Raises UserError for a file without a record, which no span can tell."""
  counts: dict[tuple[int | None, str], int] = {}
  forms = {}
  for group, some in zip(groups, found):
    for span, count in zip(group.spans, some["counts"].tolist()):
      name = span.part, span.unit
      forms[name] = span
      counts[name] = counts.get(name, 0) + count
  for name, count in counts.items():
    if not count:
      span = forms[name]
      raise sources.nothing_in(span.place, of_text=span.form == spans.TEXT)


def _pieces(
  measured: Sequence[dict[str, np.ndarray]],
  groups: Sequence[tasks.Group],
  side: int,
) -> list[Cut]:
  """The pieces of a split, from the sides and sizes of all records."""
  chosen = [found["side"] == side for found in measured]
  sizes = np.concatenate([x["size"][own] for x, own in zip(measured, chosen)])
  ends = np.cumsum([int(own.sum()) for own in chosen])  # of groups
  breaks = list(_breaks(measured, groups, chosen))
  found = []
  most = building.piece_size(kinds.SPLITS[side])
  for start, stop in building.borders(sizes, breaks, most):
    first, last = np.searchsorted(ends, (start, stop - 1), side="right")
    before = int(ends[first - 1]) if first else 0
    size = int(sizes[start:stop].sum(dtype=np.int64))
    place = start - before, stop - before
    found.append(Cut(int(first), int(last), *place, size))
  return found


def _breaks(
  measured: Sequence[dict[str, np.ndarray]],
  groups: Sequence[tasks.Group],
  chosen: Sequence[np.ndarray],
) -> Iterator[int]:
  """The records of a split before which another part of a mixture ends."""
  seen, part = 0, None
  for found, group, own in zip(measured, groups, chosen):
    ends = np.cumsum(found["counts"])
    for span, (start, stop) in zip(
      group.spans, itertools.pairwise((0, *ends.tolist()))
    ):
      count = int(own[start:stop].sum())
      if count and part is not None and span.part != part:
        yield seen
      if count:
        part = span.part
      seen += count
