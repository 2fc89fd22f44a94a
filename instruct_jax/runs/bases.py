"""What a checkpoint lacks that holds only what was trained, and where it is.

A run with adapters, or with frozen parameters, stores the rest of them nowhere:
they are those of the checkpoint that it started from. Each step's manifest says
which that was, under "bases":

  {"policy": {"from": "policy", "digest": "...", "lora": {"rank": 8, ...}}}

"from" is the need that handed them on, "digest" what its parameters were then,
and "lora" the settings of the adapters (null where there are none).
"""

import dataclasses
import hashlib
import json
from typing import Any

from etils import epath

from instruct_jax.base import errors
from instruct_jax.hf import folder as hf_folder
from instruct_jax.hf import load as hf_load
from instruct_jax.models import lora
from instruct_jax.parallel import checkpoint
from instruct_jax.runs import records


@dataclasses.dataclass(frozen=True)
class Base:
  """The run that holds the rest of a role's parameters."""

  folder: epath.Path  # or hf:/path
  role: str  # that it hands on
  lora: lora.Settings | None  # of the adapters that were trained on it


def digest(folder: epath.PathLike) -> str:
  """What names the parameters that a run hands on, bit for bit.

  A checkpoint's digest of its arrays, with that of what they lack; raises as
  `records.product`.
  """
  if hf_folder.is_reference(folder):
    return hf_load.digest(hf_folder.path_of(folder))
  handed_on = records.product(folder)
  return of_checkpoint(handed_on.run, handed_on.step, handed_on.item)


def of_checkpoint(run: epath.Path, step: int, item: str) -> str:
  """As `digest`, of one item of one step."""
  arrays = checkpoint.load_item(run, step, item)["digest"]
  lacking = _written(run, step).get(item.rpartition(".")[2])
  if lacking is None:
    return arrays
  text = json.dumps([arrays, lacking], sort_keys=True)
  return hashlib.sha256(text.encode()).hexdigest()[:32]


def find(run: epath.Path, step: int, role: str) -> Base | None:
  """What a step of a run lacks of a role; None where it holds all.

  Raises UserError where that is not there any more, or is another model now.
  """
  lacking = _written(run, step).get(role)
  if lacking is None:
    return None
  folder = records.read_needs(run)[lacking["from"]]
  folder = folder if hf_folder.is_reference(folder) else folder.resolve()
  try:
    now = digest(folder)
  except errors.UserError as error:
    raise errors.UserError(
      f"{run} holds only what was trained on top of {folder}, which cannot be"
      f" read: {error}"
    ) from None
  if now != lacking["digest"]:
    raise errors.UserError(
      f"{run} holds only what was trained on top of {folder} as it was then"
      f" (parameters {lacking['digest'][:12]}); now it holds others"
      f" ({now[:12]}). Put the ones from before there again, or train anew."
    )
  settings = lacking["lora"] and lora.Settings(**lacking["lora"])
  return Base(folder, lacking["from"], settings)


def holders(folder: epath.PathLike) -> list[epath.Path]:
  """The runs whose checkpoints hold the parameters that a run hands on."""
  if hf_folder.is_reference(folder):
    return [epath.Path(folder)]
  handed_on = records.product(folder)
  base = find(handed_on.run, handed_on.step, handed_on.role)
  return [handed_on.run, *(holders(base.folder) if base else ())]


def _written(run: epath.Path, step: int) -> dict[str, Any]:
  return checkpoint.load_extra(run, step).get("bases", {})
