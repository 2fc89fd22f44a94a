"""What a run's config.json records, and when it no longer fits.

A digest is a hash of all that determines what a stage computes: its config but
the keys that only show or keep, what it was built on, and the content of the
files and modules that it names.
"""

import hashlib
import json
from collections.abc import Mapping
from typing import Any, Protocol

from ml_collections import ConfigDict

from instruct_jax import algorithms, worlds
from instruct_jax.base import keys, outside
from instruct_jax.inference import rewards
from instruct_jax.runs import stages

# These change what is shown or kept, not what is computed.
UNDIGESTED = (
  "evaluation",
  "log_every",
  "pretrained",  # what is needed counts, by its content
  "samples",
  "samples_every",
  "save_every",
  "show",
  "time_phases",
  "validate_batches",
  "validate_every",
  "validation",
)


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
  flat = {
    key: value
    for key, value in keys.flatten(config).items()
    if key.split(".")[0] not in (*UNDIGESTED, "needs")
  }
  only = stages.needs_of_evaluation(config)
  flat |= {f"needs.{n}": s.digest for n, s in needs.items() if n not in only}
  return _hash(flat | content_digests(config))


def of_evaluation(config: ConfigDict, needs: Needs) -> str:
  """A hash of what an evaluation depends on but the run's own parameters."""
  flat = keys.flatten(config.evaluation)
  only = stages.needs_of_evaluation(config)
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

  Those of its world, and the modules of one's own that it is trained by.
  """
  digests = dict(worlds.of(config.data).digests(config.data))
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
  compared = stages.needs_of_evaluation(ConfigDict(after["config"]))
  for section, label, hidden in (
    ("config", "config.", set()),
    ("needs_digests", "what it needs as ", compared),
    ("data_digests", "the content of ", set()),
  ):
    old = keys.flatten(json.loads(json.dumps(before[section], default=str)))
    new = keys.flatten(json.loads(json.dumps(after[section], default=str)))
    for key in sorted(set(old | new) - hidden):
      top = key.split(".")[0]
      if old.get(key) != new.get(key) and top not in (*UNDIGESTED, "needs"):
        values = f" ({old.get(key)} -> {new.get(key)})"
        parts.append(f"{label}{key} changed{values}")
  return "; ".join(parts) or "its configuration changed"


def _hash(flat: dict[str, Any]) -> str:
  text = json.dumps(flat, sort_keys=True, default=str)
  return hashlib.sha256(text.encode()).hexdigest()[:16]
