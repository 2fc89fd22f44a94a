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

import dataclasses
import json
import zlib
from collections.abc import Iterator, Mapping
from typing import Any

import jax
import numpy as np
from etils import epath
from jax.experimental import multihost_utils

from instruct_jax import context, errors, interrupt, metrics, preferences
from instruct_jax.data import batches
from instruct_jax.labeling import candidates, quality
from instruct_jax.microworld import labelers

SPLITS = ("train", "validation", "test")
TRAINING, HELD_OUT = "training", "held_out"
_KEPT = ("use_case", "spec", "core")  # of a prompt's record


@dataclasses.dataclass(frozen=True)
class Source:
  """Where completions come from."""

  name: str
  policy: str  # one of the policies that the job was given
  temperature: float
  prompted: bool
  share: float  # of the completions


@dataclasses.dataclass(frozen=True)
class _Job:
  ctx: context.Context
  policies: dict[str, dict]
  sources: tuple[Source, ...]
  prompts: dict[str, list[dict]]  # by split
  folder: epath.Path

  def chunks(self, split: str) -> int:
    """How many chunks the split's prompts make."""
    return -(-len(self.prompts[split]) // self.ctx.config.rankings.chunk)


def run(
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
  (folder / "chunks").mkdir(parents=True, exist_ok=True)
  sources = _sources(ctx, policies)
  prompts = {split: _prompts(ctx, split) for split in SPLITS}
  job = _Job(ctx, policies, sources, prompts, folder)
  todo = [(split, n) for split in SPLITS for n in range(job.chunks(split))]
  progress = metrics.Progress(ctx.config.experiment, len(todo))
  there = [_chunk_path(folder, *chunk).exists() for chunk in todo]
  _barrier("chunks_found")  # Before any process writes one.
  for done, (chunk, known) in enumerate(zip(todo, there), start=1):
    if not known:
      text = json.dumps(_chunk(job, *chunk), sort_keys=True)
      _write(_chunk_path(folder, *chunk), text)
      interrupt.check()
    progress.update(done)
  progress.close()
  _barrier("chunks_written")
  for split in SPLITS:
    _assemble(job, split)
  return _summary(job)


def _sources(
  ctx: context.Context, policies: Mapping[str, dict]
) -> tuple[Source, ...]:
  section = ctx.config.rankings
  found = tuple(
    Source(name, x.policy, x.temperature, x.prompted, x.share)
    for name, x in sorted(section.sources.items())
  )
  for source in found:
    if source.policy not in policies:
      raise errors.unknown(
        "policy in config.rankings.sources", source.policy, policies
      )
  total = sum(source.share for source in found)
  if not found or min(s.share for s in found) < 0 or abs(total - 1) > 1e-6:
    raise errors.UserError(
      f"config.rankings.sources: the shares must add up to 1, not {total:g}."
    )
  if not 2 <= section.k_min <= section.k_max <= ctx.config.data.k_max:
    raise errors.UserError(
      f"config.rankings: 2 <= k_min ({section.k_min}) <= k_max "
      f"({section.k_max}) <= data.k_max ({ctx.config.data.k_max}) is needed."
    )
  return found


def _prompts(ctx: context.Context, split: str) -> list[dict]:
  """The first prompts of the split that are short enough."""
  count = ctx.config.rankings[split]
  if not count:
    return []
  rows = batches.make(
    ctx.config.data, ctx.tokenizer, "prompts", split, ctx.folders
  )
  if count > len(rows):
    raise errors.UserError(
      f"config.rankings.{split}={count}, but the split has {len(rows)} "
      "prompts that fit: lower it, or raise data.sizes.prompts."
    )
  found = [dict(rows.source[int(i)]) for i in rows.index[:count]]
  if any("spec" not in record for record in found):
    raise errors.UserError(
      f"data.source={ctx.config.data.source}: these prompts have no 'spec' for "
      "the judge, so nobody here can rank; give rankings (data.rankings)."
    )
  return found


def _chunk(job: _Job, split: str, number: int) -> dict[str, Any]:
  """Records and statistics of one chunk: a function of seed and number."""
  section, seed = job.ctx.config.rankings, job.ctx.config.seed
  start = number * section.chunk
  prompts = job.prompts[split][start : start + section.chunk]
  name = zlib.crc32(f"rankings/{split}/{number}".encode())
  rng = np.random.default_rng((seed, name))
  count = rng.integers(section.k_min, section.k_max + 1, len(prompts))
  shares = np.asarray([source.share for source in job.sources])
  origin = rng.choice(len(shares), int(count.sum()), p=shares / shares.sum())
  owner = np.repeat(np.arange(len(prompts)), count)
  texts, ended = _complete(
    job,
    [prompts[i]["prompt"] for i in owner],
    origin,
    jax.random.fold_in(jax.random.key(seed), name),
  )
  records, statistics, agreements = [], {}, []
  for i, prompt in enumerate(prompts):
    mine = np.flatnonzero(owner == i)
    found = {
      "prompt": prompt["prompt"],
      "responses": [texts[j] for j in mine],
      "ended": [bool(ended[j]) for j in mine],
      "sources": [job.sources[origin[j]].name for j in mine],
      **{key: prompt[key] for key in _KEPT if key in prompt},
    }
    ranked, more = _label(found, split, rng)
    records += ranked
    statistics = quality.add(statistics, more)
    if split != "train":
      agreements.append(_agreements(found))
  return {
    "records": records,
    "statistics": statistics,
    "agreements": agreements,
  }


def _complete(
  job: _Job, prompts: list[str], origin: np.ndarray, key: jax.Array
) -> tuple[list[str], np.ndarray]:
  """Texts and whether they ended, each from the source that `origin` names."""
  texts, ended = [""] * len(prompts), np.zeros(len(prompts), bool)
  for number, source in enumerate(job.sources):
    mine = np.flatnonzero(origin == number)
    template = (
      candidates.PROMPTED_TEMPLATE
      if source.prompted
      else job.ctx.config.data.template
    )
    found = candidates.sample(
      job.ctx,
      job.policies[source.policy],
      [prompts[i] for i in mine],
      jax.random.fold_in(key, number),
      template=template,
      width=candidates.width_of(job.ctx, template),
      temperature=source.temperature,
      rows=job.ctx.config.rankings.batch,
    )
    ended[mine] = found.ended
    for i, text in zip(mine, found.texts):
      texts[i] = text
  return texts, ended


def _label(
  found: dict[str, Any], split: str, rng: np.random.Generator
) -> tuple[list[dict], quality.Statistics]:
  """A record for each labeler, drawn at random: one of each group to test."""
  grades = quality.grade(found["spec"], found["responses"], found["ended"])
  records, statistics = [], {}
  for triple in zip(found["sources"], grades, found["ended"]):
    statistics = quality.add(statistics, quality.of_completion(*triple))
  for group in (TRAINING,) if split == "train" else (TRAINING, HELD_OUT):
    panel = labelers.GROUPS[group]()
    labeler = panel[int(rng.integers(len(panel)))]
    ranks = labelers.rank(labeler, found["prompt"], found["responses"], grades)
    who = {"labeler": labeler.name, "group": group}
    records.append({**found, "ranks": ranks, **who})
    more = quality.of_ranking(group, ranks, grades)
    statistics = quality.add(statistics, more)
  return records, statistics


def _agreements(found: dict[str, Any]) -> dict[str, tuple[int, int]]:
  """(agreeing, all) pairs of each group on one list."""
  grades = quality.grade(found["spec"], found["responses"], found["ended"])
  return {
    group: quality.agreement(group, found["prompt"], found["responses"], grades)
    for group in (TRAINING, HELD_OUT)
  }


def _assemble(job: _Job, split: str) -> None:
  """The split's file, from its chunks in their order."""
  lines = (
    json.dumps(record, sort_keys=True) + "\n"
    for chunk in _read_chunks(job, split)
    for record in chunk["records"]
  )
  _write(job.folder / f"{split}.jsonl", "".join(lines))


def _summary(job: _Job) -> tuple[dict[str, float], dict[str, list[dict]]]:
  """Metrics over all splits, and the agreement with its intervals."""
  found, statistics, agreements = {}, {}, []
  for split in SPLITS:
    pairs = lists = 0
    for chunk in _read_chunks(job, split):
      statistics = quality.add(statistics, chunk["statistics"])
      agreements += chunk["agreements"]
      lists += len(chunk["records"])
      pairs += sum(_untied(record["ranks"]) for record in chunk["records"])
    found[f"rankings/prompts/{split}"] = float(len(job.prompts[split]))
    found[f"rankings/lists/{split}"] = float(lists)
    found[f"rankings/pairs/{split}"] = float(pairs)
  found |= {n: s / w for n, (s, w) in statistics.items() if w}
  rows = [
    _agreement_row(group, np.asarray([a[group] for a in agreements]))
    for group in (TRAINING, HELD_OUT)
    if any(a[group][1] for a in agreements)
  ]
  found |= {f"agreement/{row['labelers']}": row["agreement"] for row in rows}
  return found, {"agreement": rows}


def _agreement_row(group: str, counts: np.ndarray) -> dict[str, Any]:
  """Agreement over all pairs, with an interval clustered by prompt."""
  agreeing, total = counts[:, 0], counts[:, 1]
  votes = np.concatenate(
    [np.repeat([1.0, 0.0], [a, n - a]) for a, n in zip(agreeing, total)]
  )
  interval = preferences.win_rate(
    votes, np.repeat(np.arange(len(total)), total)
  )
  return {
    "labelers": group,
    "agreement": interval.value,
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
  return folder / "chunks" / f"{split}-{number:05d}.json"


def _read_chunks(job: _Job, split: str) -> Iterator[dict[str, Any]]:
  for number in range(job.chunks(split)):
    yield json.loads(_chunk_path(job.folder, split, number).read_text())


def _barrier(name: str) -> None:
  if jax.process_count() > 1:
    multihost_utils.sync_global_devices(name)


def _write(path: epath.Path, text: str) -> None:
  """The file appears under its name when it is complete."""
  if jax.process_index() == 0:
    part = path.with_name(f".{path.name}.part")
    part.write_text(text)
    part.replace(path)
