"""The jobs that make rankings: candidates are sampled, and ranked.

Each prompt gets K completions (4 to 9 in section 3.4), each from one of
several policies and temperatures, and somebody ranks them. The result is a file
a split, one JSON object a line, which is all that the reward model reads:

    {"prompt", "responses" [K], "ranks" [K], "ended" [K], "labeler", "group",
     "sources" [K], "use_case", "spec", "core", "messages"}

`rank_prompts` does both with the world's labelers (experiments/rankings.py).
Where steps 2 and 3 are iterated, `write_candidates` samples, for prompts that
were not compared before, and `label` has them ranked by whoever
`config.rankings.labeler` names; it writes the rankings of all rounds so far,
earlier ones first, each of its own with its "round".

The work is done in chunks of prompts. A chunk is a function of the seed, the
split and its number, and its file appears when it is complete: a job that was
killed goes on after the last complete chunk and ends with the same bytes.
"""

import json
import logging
from collections.abc import Callable, Iterable, Iterator, Mapping
from typing import Any

import numpy as np
from etils import epath

from instruct_jax.base import interrupt, progress, run_folder, storage
from instruct_jax.data.read import kinds
from instruct_jax.inference import context
from instruct_jax.inference import score as score_lib
from instruct_jax.labeling import candidates, chunks, people, quality, rankers
from instruct_jax.maths import statistics as intervals
from instruct_jax.parallel import hosts

_log = logging.getLogger(__name__)
SPLITS = candidates.SPLITS
Found = tuple[dict[str, float], dict[str, list[dict]]]  # metrics and tables
_TOGETHER = 100  # lists that are ranked between two saves
_Make = Callable[[str, int], dict[str, Any]]


def rank_prompts(
  ctx: context.Context, policies: dict[str, dict], folder: epath.Path
) -> Found:
  """Writes folder/{train,validation,test}.jsonl; returns metrics and tables.

  Args:
    ctx: its `config.rankings` says how many prompts, K, and the sources.
    policies: parameters by the names that the sources use.
    folder: the run's.

  Raises:
    UserError: an impossible config, or prompts without a judge's spec.
    Interrupted: after SIGTERM; every complete chunk is saved.
  """
  rankers.check_world(ctx.world)
  candidates.check(ctx.config)
  prompts = {split: candidates.first_prompts(ctx, split) for split in SPLITS}
  plan = candidates.make_plan(ctx, policies, prompts)
  rankers.check_specs([r for of_split in prompts.values() for r in of_split])
  rank = rankers.of_world(ctx.world.labelers)

  def make(split, number):
    name = f"rankings/{split}/{number}"
    rng = np.random.default_rng((ctx.config.seed, candidates.seed_of(name)))
    lists = candidates.sample(plan, split, number, name=name, rng=rng)
    return chunks.label(ctx.world, lists, rank, split, rng)

  counts = {split: plan.chunks(split) for split in SPLITS}
  done = _in_chunks(ctx, epath.Path(folder), counts, make)
  hosts.once("rankings", lambda: _write_rankings(epath.Path(folder), done))
  return _summary(ctx, done, {s: len(of) for s, of in prompts.items()})


def write_candidates(
  ctx: context.Context, policies: dict[str, dict], folder: epath.Path
) -> Found:
  """Writes folder/{train,validation,test}.jsonl, lists that nobody has ranked,
  and `to_rank.jsonl` for people; raises as `rank_prompts`.

  `ctx.config.candidates` says how many prompts, at most, K, and the sources.
  """
  folder, round_ = epath.Path(folder), ctx.config.candidates.round
  prompts = {split: candidates.new_prompts(ctx, split) for split in SPLITS}
  plan = candidates.make_plan(ctx, policies, prompts)

  def make(split, number):
    name = f"candidates/{round_}/{split}/{number}"
    rng = np.random.default_rng((ctx.config.seed, candidates.seed_of(name)))
    lists = candidates.sample(plan, split, number, name=name, rng=rng)
    return {"lists": [{**listed, "round": round_} for listed in lists]}

  counts = {split: plan.chunks(split) for split in SPLITS}
  done = _in_chunks(ctx, folder, counts, make)
  lists = {split: _all(done, split, "lists") for split in SPLITS}
  hosts.once("candidates", lambda: _write_lists(folder, lists))
  figures = {}
  for split, of_split in lists.items():
    figures[f"candidates/prompts/{split}"] = float(len(of_split))
  return figures, {"candidates": _by_source(lists)}


def _by_source(lists):
  """How many responses each source gave, over all splits."""
  counts: dict[str, int] = {}
  for listed in (x for of_split in lists.values() for x in of_split):
    for source in listed["sources"]:
      counts[source] = counts.get(source, 0) + 1
  return [{"source": s, "responses": n} for s, n in sorted(counts.items())]


def _write_lists(folder: epath.Path, lists: Mapping[str, list]) -> None:
  for split, of_split in lists.items():
    storage.write_lines(folder / f"{split}.jsonl", map(_line, of_split))
  out = map(_line, people.to_rank(lists))
  storage.write_lines(run_folder.files(folder).to_rank, out)


def label(
  ctx: context.Context,
  folder: epath.Path,
  *,
  score: score_lib.Score | None = None,
  name: str = "",
) -> Found:
  """Has the candidates ranked and writes them after all earlier rankings.

  Args:
    ctx: its folders hold 'candidates' and maybe 'rankings', the earlier ones,
      which else are the data set's if it has any.
    folder: the run's.
    score: of the reward model, where `config.rankings.labeler` is 'reward'.
    name: what rankings call that labeler.

  Raises:
    UserError: as `rankers` and `people`, or people's ranks are not there yet.
    Interrupted: after SIGTERM; every complete chunk is saved.
  """
  folder, source = epath.Path(folder), epath.Path(ctx.folders["candidates"])
  lists = {
    split: [
      kinds.with_prompt(json.loads(line), "rankings")
      for line in (source / f"{split}.jsonl").read_text().splitlines()
    ]
    for split in SPLITS
  }
  rank = _ranker(ctx, source, lists, score, name)

  def make(split, number):
    key = candidates.seed_of(
      f"labels/{ctx.config.rankings.round}/{split}/{number}"
    )
    rng = np.random.default_rng((ctx.config.seed, key))
    mine = lists[split][number * _TOGETHER : (number + 1) * _TOGETHER]
    return chunks.label(ctx.world, mine, rank, split, rng)

  counts = {split: -(-len(lists[split]) // _TOGETHER) for split in SPLITS}
  done = _in_chunks(ctx, folder, counts, make)
  before = {split: _earlier(ctx, split) for split in SPLITS}
  hosts.once("rankings", lambda: _write_rankings(folder, done, before))
  figures, tables = _summary(ctx, done, {s: len(x) for s, x in lists.items()})
  for split in SPLITS:
    figures[f"rankings/earlier_lists/{split}"] = float(len(before[split]))
  who = [{"ranked_by": ctx.config.rankings.labeler, "named": name or "-"}]
  return figures, tables | {"labelers": who}


def _ranker(ctx, source, lists, score, name) -> rankers.Ranker:
  labeler = ctx.config.rankings.labeler
  if labeler == rankers.WORLD:
    return rankers.of_world(ctx.world.labelers)
  if labeler == rankers.REWARD:
    assert score is not None
    _log.warning(
      "warning: the new comparisons of %s are not people's: %s ranks them. What"
      " is learned from them is that model's taste (config.rankings.labeler,"
      " config.rankings.model)",
      *(ctx.config.variant, name),
    )
    return rankers.of_scores(score, name)
  if labeler == rankers.PEOPLE:
    path = rankers.file_of(ctx.config.rankings)
    if not rankers.files_of(path):
      raise people.wait_for(path, run_folder.files(source).to_rank)
    return people.ranker(people.read(path, lists))
  return rankers.of_function(labeler)


def _earlier(ctx: context.Context, split: str) -> list[Mapping[str, Any]]:
  """The rankings of the rounds before, as they were."""
  if not ctx.holds("rankings"):
    return []
  return list(
    ctx.world.records(ctx.config.data, "rankings", split, ctx.folders)
  )


def _in_chunks(
  ctx: context.Context,
  folder: epath.Path,
  counts: Mapping[str, int],
  make: _Make,
) -> dict[str, list[epath.Path]]:
  """Makes the chunks that are missing; the files of all of them, by split."""
  home = run_folder.files(folder).chunks
  home.mkdir(parents=True, exist_ok=True)
  paths = {
    split: [home / f"{split}-{n:05d}.json" for n in range(count)]
    for split, count in counts.items()
  }
  todo = [(s, n) for s, of_split in paths.items() for n in range(len(of_split))]
  missing = [(s, n) for s, n in todo if not paths[s][n].exists()]
  hosts.barrier("chunks_found")  # Before any process writes one.
  there = len(todo) - len(missing)
  with progress.Progress(ctx.config.experiment, len(todo), start=there) as line:
    for done, (split, n) in enumerate(missing, start=there + 1):
      text = _line(make(split, n))
      if hosts.is_writer():
        storage.write(paths[split][n], text)
      interrupt.check()
      line.update(done)
  hosts.barrier("chunks_written")
  return paths


def _line(tree: Any) -> str:
  return json.dumps(tree, sort_keys=True)


def _read(paths: Iterable[epath.Path]) -> Iterator[dict[str, Any]]:
  return map(storage.read_json, paths)


def _all(
  done: Mapping[str, list[epath.Path]], split: str, key: str
) -> list[dict]:
  """What the chunks of a split hold under a key, in their order."""
  return [x for chunk in _read(done[split]) for x in chunk[key]]


def _write_rankings(
  folder: epath.Path,
  done: Mapping[str, list[epath.Path]],
  before: Mapping[str, list[Mapping[str, Any]]] | None = None,
) -> None:
  """Writes each split's file: what was there before, then the chunks."""
  for split, paths in done.items():
    earlier = before[split] if before else ()
    new = (r for chunk in _read(paths) for r in chunk["records"])
    storage.write_lines(folder / f"{split}.jsonl", map(_line, (*earlier, *new)))


def _summary(
  ctx: context.Context,
  done: Mapping[str, list[epath.Path]],
  prompts: Mapping[str, int],
) -> Found:
  """Metrics over all splits, and the agreement with its intervals."""
  figures, statistics, agreements = {}, {}, []
  for split, paths in done.items():
    pairs = lists = 0
    for chunk in _read(paths):
      statistics = quality.add(statistics, chunk["statistics"])
      agreements += chunk["agreements"]
      lists += len(chunk["records"])
      pairs += sum(_untied(record["ranks"]) for record in chunk["records"])
    figures[f"rankings/prompts/{split}"] = float(prompts[split])
    figures[f"rankings/lists/{split}"] = float(lists)
    figures[f"rankings/pairs/{split}"] = float(pairs)
  figures |= {n: s / w for n, (s, w) in statistics.items() if w}
  rows = [
    _agreement_row(group, np.asarray([a[group] for a in agreements]))
    for group in ctx.world.labelers
    if any(a[group][1] for a in agreements)
  ]
  figures |= {f"agreement/{row['labelers']}": row["value"] for row in rows}
  return figures, {"agreement": rows} if ctx.world.labelers else {}


def _agreement_row(group: str, counts: np.ndarray) -> dict[str, Any]:
  """Agreement over all pairs, with an interval clustered by prompt."""
  agreeing, total = counts[:, 0], counts[:, 1]
  votes = np.concatenate(
    [np.repeat([1.0, 0.0], [a, n - a]) for a, n in zip(agreeing, total)]
  )
  interval = intervals.proportion_interval(
    votes, np.repeat(np.arange(len(total)), total)
  )
  return {
    "labelers": group,
    "value": interval.value,
    "low": interval.low,
    "high": interval.high,
    "pairs": interval.n,
    "prompts": interval.clusters,
  }


def _untied(ranks: list[int]) -> int:
  counts = np.unique(ranks, return_counts=True)[1]
  k = len(ranks)
  return k * (k - 1) // 2 - int((counts * (counts - 1) // 2).sum())
