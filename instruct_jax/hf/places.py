"""Which tensor of a folder each parameter is, and whether all are there."""

import re
from typing import Any

import numpy as np

from instruct_jax.base import errors
from instruct_jax.hf import config as hf_config
from instruct_jax.hf import families as hf_families
from instruct_jax.hf import family as hf_family
from instruct_jax.hf import folder as hf_folder
from instruct_jax.hf import tensors
from instruct_jax.models import config as model_config


def weights(folder: hf_folder.Folder) -> list[str]:
  """The names of the model's tensors.

  Neither buffers of older checkpoints nor what else a larger model has.
  """
  name = hf_config.family_of(folder.config, folder.where)
  buffers = re.compile(hf_families.FAMILIES[name].buffers)
  rest = set(outside(folder))
  return [x for x in folder.names if x not in rest and not buffers.search(x)]


def outside(folder: hf_folder.Folder) -> list[str]:
  """The names of the tensors that a larger model has around the text model."""
  name = hf_config.family_of(folder.config, folder.where)
  pattern = hf_families.FAMILIES[name].outside
  return [x for x in folder.names if pattern and re.search(pattern, x)]


class Places:
  """Where the parameters of one role lie, by our names."""

  def __init__(
    self, folder: hf_folder.Folder, model: model_config.DecoderConfig, role: str
  ):
    self.folder, self.model, self._role = folder, model, role
    family = hf_config.family_of(folder.config, folder.where)
    if model.layers > len(folder.names):  # before a table of them is made
      raise errors.UserError(
        f"{folder.where}: says {model.layers} layers, more than there are"
        f" tensors ({len(folder.names)})."
      )
    self._family, self.leaves = family, tensors.table(family, model, role)
    self._prefix = self._find_prefix()

  def check(self) -> None:
    """UserError unless the tensors are those that the config asks for."""
    wanted = {
      self.tensor(entry): tensors.shape(entry) for entry in self.leaves.values()
    }
    self._check_there(wanted)
    self._check_left_over(wanted)

  def check_fits(self, paths: list[tuple[str, Any]]) -> None:
    """UserError unless (name, leaf) asked for are those of the config."""
    asked = {
      ours: shape
      for name, leaf in paths
      for ours, shape in self.unstacked(name, leaf.shape)
      if ours != "head/bias"
    }
    for ours in asked.keys() ^ self.leaves.keys():
      raise errors.UserError(
        f"{self.folder.where}: this {self._family} checkpoint"
        f" {'has nothing for' if ours in asked else 'has'} {ours}, which the"
        f" model {'has' if ours in asked else 'has no place for'}."
      )
    for ours, shape in asked.items():
      stored = self.leaves[ours].shape
      if stored != shape:
        raise errors.UserError(
          f"{self.folder.where}: {ours} has the shape {list(stored)} there and"
          f" {list(shape)} in the model."
        )

  def unstacked(
    self, name: str, shape: tuple[int, ...]
  ) -> list[tuple[str, tuple[int, ...]]]:
    """(name, shape) of each layer where `name` is stacked, else its own."""
    if "/blocks/" not in name:
      return [(name, shape)]
    layers = range(self.model.layers)
    return [
      (name.replace("/blocks/", f"/block_{i}/"), shape[1:]) for i in layers
    ]

  def tensor(self, entry: hf_family.Leaf) -> str:
    """The name of a leaf's tensor in this folder."""
    trunk = hf_families.FAMILIES[self._family].trunk + "."
    if entry.tensor.startswith(trunk):
      return self._prefix + entry.tensor.removeprefix(trunk)
    return entry.tensor

  def _find_prefix(self):
    """The trunk's prefix; the first GPT-2s were saved without it."""
    family = hf_families.FAMILIES[self._family]
    for prefix in (*family.inner, family.trunk):
      if any(x.startswith(f"{prefix}.") for x in self.folder.names):
        return f"{prefix}."
    return ""

  def _check_there(self, wanted):
    for name, shape in wanted.items():
      if name not in self.folder.names:
        raise errors.UserError(_lacking(self.folder, name, self._role))
      self.folder.dtype(name)
      stored = self.folder.shape(name)
      if stored != shape:
        raise errors.UserError(
          f"{self.folder.file_of(name)}: '{name}' has the shape"
          f" {list(stored)}; {hf_folder.CONFIG} asks for {list(shape)}."
        )

  def _check_left_over(self, wanted):
    for name in weights(self.folder):
      if name in wanted:
        continue
      if self._is_tied_copy(name):
        continue
      raise errors.UserError(
        f"{self.folder.file_of(name)}: '{name}' is a tensor that a"
        f" {self._family} {self._role} has no place for."
      )

  def _is_tied_copy(self, name):
    """Whether a tensor is the token embedding once more."""
    if name != hf_families.FAMILIES[self._family].unembedding:
      return False
    if not self.model.tied or self._role != "policy":
      return False
    entry = self.leaves["decoder/token_embedding/embedding"]
    first = self.folder.read(self.tensor(entry))
    if not np.array_equal(first, self.folder.read(name)):
      raise errors.UserError(
        f"{self.folder.file_of(name)}: '{name}' differs from the token"
        f' embedding, though {hf_folder.CONFIG} says "tie_word_embeddings".'
      )
    return True


def _lacking(folder, name, role):
  if name == "score.weight":
    return (
      f"{folder.path}: has no 'score.weight': this is a language model, where a"
      f" {role} is needed."
    )
  if "score.weight" in folder.names and role == "policy":
    return (
      f"{folder.path}: has a 'score.weight' and no '{name}': this is a reward"
      " model, where a policy is needed."
    )
  return f"{folder.path}: lacks the tensor '{name}'."
