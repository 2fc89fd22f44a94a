"""What a run's config.json records, and when it no longer fits.

A digest is a hash of all that determines what a stage computes: its config but
the keys that only show or keep, what it was built on, and the content of the
files and modules that it names.
"""

import hashlib
import json
from collections.abc import Callable, Iterable, Mapping
from typing import Any, Protocol

from ml_collections import ConfigDict

from instruct_jax import algorithms, paper, worlds
from instruct_jax.base import keys, outside
from instruct_jax.evals import prefix_file
from instruct_jax.inference import rewards
from instruct_jax.labeling import rankers
from instruct_jax.runs import comparing, evaluating, needed
from instruct_jax.worlds import mixture

# These change what is shown or kept, not what is computed.
UNDIGESTED = (
  "evaluation",
  "layout",
  "log_every",
  "profile",
  "pretrained",  # what is needed counts, by its content
  "samples",
  "samples_every",
  "save_every",
  "show",
  "time_phases",  # of runs that still had it
  "validate_batches",
  "validate_every",
  "validation",
  "wandb",
)


# What a data set depends on, and nothing else does but through it.
_OF_DATA = tuple(
  f"data.{name}"
  for name in (
    "world_seed",
    "quality",
    "sizes",
    "vocab_size",
    "prefix",
    "per_user",
    "remove_pii",
    "validation_fraction",
    "test_fraction",
  )
)
_K_MAX = "data.k_max"
_MESH = ("mesh",)
_COMBINE = "reward.model.combine"
_REMAT = {"model.remat", "reward_model.remat"}
_REMAT_ONCE = {"none": False, "full": True}
# What a job that does not train does not read.
_UNREAD = {
  "rankings": ("reward", "reward_model"),
  "candidates": ("reward", "reward_model"),
  # What they name counts by its content.
  "label": ("reward", "reward_model", "rankings.model", "rankings.file"),
  "select": ("reward",),
  "leave_out": ("model", "reward", "reward_model", "mesh", "seed"),
  "folds": ("model", "reward", "seed"),
  "mixture": ("reward", "reward_model", "model"),
  # What lies in the folder counts by its content.
  "evaluate": ("reward", "reward_model", "measure.data"),
  # Subjects have models of their own; where they lie says the need.
  "compare": ("model", "seed"),
  "join": ("model", "reward", "reward_model", "mesh", "seed"),
}
# By training, which reads them not.
_PASSED_DOWN = ("candidates", "rankings", "mixtures")


class Need(Protocol):
  """A stage, or a run that was given."""

  @property
  def digest(self) -> str:
    """The hash of what it computes, or has computed."""

  def written(self) -> str:
    """How config.json names it."""


Needs = Mapping[str, Need]


def of_stage(config: ConfigDict, needs: Needs) -> str:
  """A hash of all that determines what a stage computes."""
  is_read, flat = _is_read(config), _present(keys.flatten(config))
  flat = {k: v for k, v in flat.items() if is_read(k)}
  # Of any mesh, since none changes an update by more than rounding; as it
  # stands in the digests of before, of one device.
  flat |= {k: 1 for k in flat if _lies_in(k, _MESH)}
  if not is_read(_K_MAX) and config.job != "dataset":
    flat[_K_MAX] = paper.K_MAX  # as it stands in the digests of before
  only = needed.needs_of_evaluation(config)
  flat |= {f"needs.{n}": s.digest for n, s in needs.items() if n not in only}
  return _hash(flat | content_digests(config))


def _is_read(config: ConfigDict) -> Callable[[str], bool]:
  """Whether a stage itself, not what it needs, depends on a key."""
  if config.job == "dataset":
    names = worlds.of(config.data).depends(config.data)
    read = ("job", "data.source", *(f"data.{name}" for name in names))
    return lambda key: _lies_in(key, read)
  unread = _UNREAD.get(config.job, ())
  if config.job == "train":
    unread = (*algorithms.named(config.algorithm).ignores, *_PASSED_DOWN)
  if config.job == "mixture":  # What it names counts by its content.
    named = mixture.names(config, worlds.of(config.data))
    unread = (*unread, *(f"mixtures.{name}" for name in sorted(named)))
  hidden = (*undigested(config.job), "needs", *unread, *_OF_DATA)
  if not _reads_rankings(config):
    hidden = (*hidden, _K_MAX)
  if config.job == "train" and not config.lora.rank:
    hidden = (*hidden, "lora")
  if config.job == "train" and not config.freeze:
    hidden = (*hidden, "freeze")
  combines = _combines(config)
  if not combines:
    hidden = (*hidden, _COMBINE)
  return lambda key: (combines and key == _COMBINE) or not _lies_in(key, hidden)


def undigested(job: str) -> tuple[str, ...]:
  """The sections that change only what is shown or kept of a job's stage."""
  evaluates = job in comparing.JOBS
  return tuple(x for x in UNDIGESTED if not (evaluates and x == "evaluation"))


# The jobs that score with the reward models, beside training.
_SCORING = ("select", "compare", "epochs", "overoptimization")


def _combines(config: ConfigDict) -> bool:
  """Whether a stage's job asks several reward models."""
  if config.job == "train":
    ignored = algorithms.named(config.algorithm).ignores
    return "reward" not in ignored and rewards.several(config)
  return config.job in _SCORING and rewards.several(config)


def _reads_rankings(config: ConfigDict) -> bool:
  """Whether a stage, or the data set that it needs, depends on data.k_max."""
  if "k_max" in worlds.of(config.data).depends(config.data):
    return True
  if config.job != "train":
    return False
  is_ours = config.algorithm in algorithms.MODULES
  sections = config.batch, config.validation
  kinds = {kind for x in sections for kind in algorithms.rows_of(x)}
  return not is_ours or "rankings" in kinds


def _present(flat: dict[str, Any]) -> dict[str, Any]:
  """Without the kinds of data that are no part of a batch, and what is off.

  What is recomputed stands as in the digests of before, a yes or a no.
  """
  off = ("batch", "keep_every")
  flat = {k: v for k, v in flat.items() if v or not _lies_in(k, off)}
  for key in _REMAT & set(flat):
    flat[key] = _REMAT_ONCE.get(flat[key], flat[key])
  return flat


def _lies_in(key: str, sections: Iterable[str]) -> bool:
  return any(f"{key}.".startswith(f"{section}.") for section in sections)


def of_evaluation(config: ConfigDict, needs: Needs) -> str:
  """A hash of what an evaluation depends on but the run's own parameters."""
  flat = keys.flatten(config.evaluation) | prefix_file.digests(config)
  # What a run hands on stands as in the digests of before.
  flat = {k: v for k, v in flat.items() if v or not k.endswith(".step")}
  if rewards.several(config):
    flat[_COMBINE] = config.reward.model.combine
  only = needed.needs_of_evaluation(config)
  return _hash(
    flat | {f"needs.{n}": s.digest for n, s in needs.items() if n in only}
  )


def record_of(config: ConfigDict, needs: Needs) -> dict[str, Any]:
  """What config.json holds."""
  return {
    "digest": of_stage(config, needs),
    "needs": {name: need.written() for name, need in needs.items()},
    "needs_digests": {name: need.digest for name, need in needs.items()},
    "data_digests": content_digests(config),
    "config": config.to_dict(),
  }


def content_digests(config: ConfigDict) -> dict[str, str]:
  """A hash of the content of each file that a stage depends on.

  Those of its world, people's ranks, and the modules of one's own that it is
  trained or ranked by.
  """
  digests = dict(worlds.of(config.data).digests(config.data))
  if config.job == "label":
    return digests | rankers.digests(config.rankings)
  if config.job == "mixture":
    return digests | mixture.digests(config)
  if config.job == "evaluate":
    return digests | evaluating.digests(config)
  if config.job == "compare":
    files = prefix_file.digests(config)
    return digests | comparing.digests(config) | files
  if config.job != "train":
    return digests
  modules = {}
  if config.algorithm not in algorithms.MODULES:
    modules["algorithm"] = config.algorithm
  if "function" in rewards.active(config.reward):
    modules["reward.function.path"] = config.reward.function.path
  return digests | {
    key: outside.digest(path, f"config.{key}") for key, path in modules.items()
  }


def difference(before: dict[str, Any], after: dict[str, Any]) -> str:
  """In words, what changed between two records."""
  parts = []
  # What the evaluation alone reads is no reason to train anew.
  config = ConfigDict(after["config"])
  is_read = _is_read(config)
  compared = needed.needs_of_evaluation(config)
  for section, label, hidden in (
    ("config", "config.", set()),
    ("needs_digests", "what it needs as ", compared),
    ("data_digests", "the content of ", set()),
  ):
    old = keys.flatten(json.loads(json.dumps(before[section], default=str)))
    new = keys.flatten(json.loads(json.dumps(after[section], default=str)))
    if section == "config":
      old, new = _present(old), _present(new)
    for key in sorted(set(old | new) - hidden):
      is_shape = _lies_in(key, _MESH)
      if section == "config" and (is_shape or not is_read(key)):
        continue
      if old.get(key) != new.get(key):
        values = f" ({old.get(key)} -> {new.get(key)})"
        parts.append(f"{label}{key} changed{values}")
  return "; ".join(parts) or "its configuration changed"


def _hash(flat: dict[str, Any]) -> str:
  text = json.dumps(flat, sort_keys=True, default=str)
  return hashlib.sha256(text.encode()).hexdigest()[:16]
