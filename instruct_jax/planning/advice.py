"""What can be changed where a program does not fit, the cheapest first."""

import math
from typing import Any

from instruct_jax import algorithms
from instruct_jax.base import errors
from instruct_jax.parallel import layouts
from instruct_jax.planning import jobs


def of(job: jobs.Job, found: dict[str, Any], state: Any) -> list[str]:
  """Changes of the config that make a program smaller; never none."""
  config, sizes = job.config, found["bytes"]
  changes = []
  if job.program in ("update", "score"):
    more = _more_microbatches(config)
    if more:
      changes.append(f"--config.microbatches={more}")
  if job.program == "update":
    changes += [
      f"--config.{name}.remat=full"
      for name in ("model", "reward_model")
      if config[name].remat != "full"
    ]
  if found.get("from_copy") or job.program == "decoding_copy":
    changes.append("--config.layout.rollout=train: no copy for decoding then")
  if config.mesh.data > 1:
    ways = config.mesh.data * config.mesh.fsdp
    changes.append(
      f"--config.mesh.data=1 --config.mesh.fsdp={ways}: what is copied"
      f" {config.mesh.data} times is divided then"
    )
  held = layouts.device_bytes(state)
  total = sizes["total"]
  chips = math.prod(config.mesh.values())
  needed = 2 ** math.ceil(math.log2(max(2, total / sizes["hbm"]))) * chips
  why = "the state alone" if held > sizes["hbm"] else "the program"
  changes.append(
    f"more chips: {why} is divided by --config.mesh.fsdp, and {needed} would"
    " be about enough"
  )
  return changes


def too_much(found: dict[str, Any]) -> int:
  """Bytes a device by which a program does not fit."""
  return max(0, found["bytes"]["total"] - found["bytes"]["hbm"])


def _more_microbatches(config: Any) -> int:
  """The next number of microbatches that divides the rows; 0: there is none."""
  ways = config.mesh.data * config.mesh.fsdp
  algorithm = algorithms.named(config.algorithm)
  try:
    rows = algorithm.minibatch_rows(config, algorithms.rows_of(config.batch))
  except errors.UserError:
    return 0
  most = math.gcd(*rows.values()) // ways
  return next(
    (
      n
      for n in range(config.microbatches + 1, most + 1)
      if most % n == 0 and n % config.microbatches == 0
    ),
    0,
  )
