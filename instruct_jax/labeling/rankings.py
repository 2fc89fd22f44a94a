"""The job of experiments/rankings.py: sample candidates and have them ranked.

Each prompt gets K completions (4 to 9 in section 3.4), each from one of
several policies and temperatures, and a simulated labeler ranks them. The
result is a file a split, one JSON object a line, which is all that the reward
model reads:

    {"prompt", "responses" [K], "ranks" [K], "ended" [K], "labeler", "group",
     "sources" [K], "use_case", "spec", "core"}

The work is done in chunks of prompts. A chunk is a function of the seed, the
split and its number, and its file appears when it is complete: a job that was
killed goes on after the last complete chunk and ends with the same bytes.
"""

import json
from collections.abc import Iterator
from typing import Any

import numpy as np
from etils import epath

from instruct_jax.base import interrupt, progress, run_folder, storage
from instruct_jax.inference import context
from instruct_jax.labeling import chunks, quality
from instruct_jax.maths import statistics as intervals
from instruct_jax.parallel import hosts

SPLITS = chunks.SPLITS


def rank_prompts(
  ctx: context.Context, policies: dict[str, dict], folder: epath.Path
) -> tuple[dict[str, float], dict[str, list[dict]]]:
  """Writes folder/{train,validation,test}.jsonl; returns metrics and tables.

  Args:
    ctx: its `config.rankings` says how many prompts, K, and the sources.
    policies: parameters by the names that the sources use.
    folder: the run's.

  Raises:
    UserError: an impossible config, or prompts without a judge's spec.
    Interrupted: after SIGTERM; every complete chunk is saved.
  """
  folder = epath.Path(folder)
  plan = chunks.make_plan(ctx, policies)
  run_folder.files(folder).chunks.mkdir(parents=True, exist_ok=True)
  todo = [(split, n) for split in SPLITS for n in range(plan.chunks(split))]
  missing = [c for c in todo if not _chunk_path(folder, *c).exists()]
  hosts.barrier("chunks_found")  # Before any process writes one.
  there = len(todo) - len(missing)
  with progress.Progress(ctx.config.experiment, len(todo), start=there) as line:
    for done, chunk in enumerate(missing, start=there + 1):
      text = json.dumps(chunks.make_chunk(plan, *chunk), sort_keys=True)
      if hosts.is_writer():
        storage.write(_chunk_path(folder, *chunk), text)
      interrupt.check()
      line.update(done)
  hosts.barrier("chunks_written")
  hosts.once("rankings", lambda: _assemble(plan, folder))
  return _summary(plan, folder)


def _assemble(plan: chunks.Plan, folder: epath.Path) -> None:
  """Writes each split's file, from its chunks in their order."""
  for split in SPLITS:
    lines = (
      json.dumps(record, sort_keys=True)
      for chunk in _read_chunks(plan, folder, split)
      for record in chunk["records"]
    )
    storage.write_lines(folder / f"{split}.jsonl", lines)


def _summary(
  plan: chunks.Plan, folder: epath.Path
) -> tuple[dict[str, float], dict[str, list[dict]]]:
  """Metrics over all splits, and the agreement with its intervals."""
  figures, statistics, agreements = {}, {}, []
  for split in SPLITS:
    pairs = lists = 0
    for chunk in _read_chunks(plan, folder, split):
      statistics = quality.add(statistics, chunk["statistics"])
      agreements += chunk["agreements"]
      lists += len(chunk["records"])
      pairs += sum(_untied(record["ranks"]) for record in chunk["records"])
    figures[f"rankings/prompts/{split}"] = float(len(plan.prompts[split]))
    figures[f"rankings/lists/{split}"] = float(lists)
    figures[f"rankings/pairs/{split}"] = float(pairs)
  figures |= {n: s / w for n, (s, w) in statistics.items() if w}
  rows = [
    _agreement_row(group, np.asarray([a[group] for a in agreements]))
    for group in plan.ctx.world.labelers
    if any(a[group][1] for a in agreements)
  ]
  figures |= {f"agreement/{row['labelers']}": row["value"] for row in rows}
  return figures, {"agreement": rows}


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


def _chunk_path(folder: epath.Path, split: str, number: int) -> epath.Path:
  return run_folder.files(folder).chunks / f"{split}-{number:05d}.json"


def _read_chunks(
  plan: chunks.Plan, folder: epath.Path, split: str
) -> Iterator[dict[str, Any]]:
  for number in range(plan.chunks(split)):
    yield storage.read_json(_chunk_path(folder, split, number))
