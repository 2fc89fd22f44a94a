"""What a need's reference means, resolved once.

'file.py:variant' is an experiment, to be built; a folder is a finished run and
'hf:/path' a checkpoint in Hugging Face format, both taken as they are: what a
user named is never moved or rebuilt.
"""

import dataclasses
from typing import Any

from etils import epath
from ml_collections import ConfigDict

from instruct_jax.base import errors, experiment_file
from instruct_jax.hf import folder as hf_folder
from instruct_jax.inference import rewards
from instruct_jax.runs import bases, needed, records


@dataclasses.dataclass(frozen=True)
class Given:
  """A finished run, or a checkpoint, that a config names by its path."""

  key: str  # where it is named, such as config.needs.policy
  folder: epath.Path
  digest: str  # of its parameters, or of its config where it has none
  role: str  # 'policy' or 'reward'; '' for data and rankings
  holds: tuple[epath.Path, ...]  # runs whose checkpoints hold its parameters

  def written(self) -> str:
    """How config.json names it."""
    if hf_folder.is_reference(self.folder):
      path = hf_folder.path_of(self.folder).resolve()
      return f"{hf_folder.PREFIX}{path}"
    return str(self.folder.resolve())

  def keeps(self) -> set[str]:
    """The folders that must stay as they are."""
    if hf_folder.is_reference(self.folder):
      return set()
    runs = (x for x in self.holds if not hf_folder.is_reference(x))
    return {str(folder.resolve()) for folder in (self.folder, *runs)}


def is_experiment(reference: str) -> bool:
  """Whether a reference names an experiment's file."""
  return ".py" in reference and not hf_folder.is_reference(reference)


def resolve(need: str, reference: str) -> Given:
  """The run or checkpoint that a reference names.

  Raises UserError where it is none that has finished, or where the need says
  what it should hand on and it hands on something else.
  """
  folder, key = epath.Path(reference), needed.key_of(need)
  try:
    results = records.read_results(folder)
  except errors.UserError as error:
    raise errors.UserError(f"{key}: {error}") from None
  role, holds = "", ()
  if results.get("product"):
    role, holds = records.product(folder).role, tuple(bases.holders(folder))
  wanted = "reward" if need == "labeler" or rewards.is_one(need) else need
  if wanted in ("policy", "reward") and role != wanted:
    raise errors.UserError(
      f"{key}={reference}: hands on {f'a {role}' if role else 'no parameters'},"
      f" where a {wanted} is needed."
    )
  digest = results.get("parameters_digest") or results["config_digest"]
  return Given(key, folder, digest, role, holds)


def load_config(reference: str, beside: epath.Path) -> tuple[ConfigDict, Any]:
  """The default config of 'file.py' or 'file.py:variant', and the file.

  It is looked for in `beside`, then among the experiments of the package.
  Raises UserError for a file that is not there or fails, and for an unknown
  variant.
  """
  name, _, variant = reference.partition(":")
  path = experiment_file.find(name, epath.Path(beside))
  return experiment_file.load(path, variant), path
