"""What a model family is: its config both ways, its tensors, its quirks.

A family is a module beside this one that makes a `Family`; `families` lists
them. Torch keeps a linear layer as [outputs, inputs] and ours is [inputs,
outputs]: such a `Leaf` is transposed.
"""

import dataclasses
from collections.abc import Callable, Iterator
from typing import Any

from instruct_jax.hf import keys
from instruct_jax.models import config as model_config

PARTS = ("query", "key", "value")
GELU = {
  "gelu": "gelu_exact",
  "gelu_new": "gelu",
  "gelu_fast": "gelu",
  "gelu_pytorch_tanh": "gelu",
}


@dataclasses.dataclass(frozen=True)
class Leaf:
  """Where one parameter lies in a checkpoint."""

  tensor: str  # the name there
  transposed: bool = False
  part: int = 0  # of query, key, value that share the tensor
  shared: str = ""  # how they do: 'columns' side by side, 'heads' in each head
  shape: tuple[int, ...] = ()  # of the parameter


Leaves = Iterator[tuple[str, Leaf]]  # path of our parameter, where it lies


@dataclasses.dataclass(frozen=True)
class Family:
  """How checkpoints of one "model_type" describe and hold a decoder."""

  causal: str  # the class of its policies
  classifier: str  # the class of its reward models
  read: Callable[[keys.Reader], keys.Json]  # -> fields of a DecoderConfig
  write: Callable[
    [model_config.DecoderConfig], keys.Json
  ]  # -> keys of config.json
  misfit: Callable[[model_config.DecoderConfig], str]  # '' if the family fits
  tied: bool  # the output is the token embedding, where config.json is silent
  trunk: str  # the prefix of the trunk's tensors
  layers: str  # the name of its layers: TRUNK.LAYERS.0
  unembedding: str  # the tensor of an output of its own
  trunk_leaves: Callable[
    [str, model_config.DecoderConfig], Leaves
  ]  # of a prefix
  layer_leaves: Callable[
    [str, model_config.DecoderConfig], Leaves
  ]  # of a prefix
  buffers: str  # a regular expression: what older checkpoints hold besides
  norm_bias: bool  # the last norm has a bias, which can hold a reward's
  scaled: bool = False  # token embeddings are scaled there, as ours are
  inner: tuple[str, ...] = ()  # other prefixes of the trunk, in a larger model
  outside: str = ""  # a regular expression: tensors of the rest of that model


@dataclasses.dataclass(frozen=True)
class Around:
  """How a checkpoint that does more than read text describes what does."""

  text: str  # the "model_type" of the text model
  section: str  # the key that holds its config
  others: frozenset[str]  # keys of what else there is

  def config(self, whole: keys.Json) -> keys.Json:
    """The config.json of the text model alone."""
    kept = {
      key: value
      for key, value in whole.items()
      if key not in (self.section, *self.others)
    }
    return whole[self.section] | kept | {"model_type": self.text}


def dense(ours: str, theirs: str, bias: bool, **where: Any) -> Leaves:
  """The leaves of a linear layer; `where` as in `Leaf`."""
  yield f"{ours}/kernel", Leaf(f"{theirs}.weight", **where)
  if bias:
    yield (
      f"{ours}/bias",
      Leaf(f"{theirs}.bias", **where | {"transposed": False}),
    )


def norm(ours: str, theirs: str, bias: bool) -> Leaves:
  """The leaves of a norm."""
  yield f"{ours}/scale", Leaf(f"{theirs}.weight")
  if bias:
    yield f"{ours}/bias", Leaf(f"{theirs}.bias")


def head_size(reader: keys.Reader, width: int, heads: int) -> int:
  """The width of a head; UserError where heads do not divide the width."""
  if not heads or width % heads:
    raise reader.error(f"{heads} heads do not divide a width of {width}.")
  return width // heads


def is_wide(model: model_config.DecoderConfig) -> bool:
  """Whether the heads together are wider or narrower than the model."""
  return model.heads * model.head_size != model.width


def windowless(model: model_config.DecoderConfig) -> tuple[str, bool]:
  """A condition of `first`: no layer slides."""
  return "has no window", model.window > 0


def capless(model: model_config.DecoderConfig) -> tuple[str, bool]:
  """A condition of `first`: neither scores nor logits are capped."""
  return "has no soft caps", model.attention_cap > 0 or model.logit_cap > 0


def by_head_size(model: model_config.DecoderConfig) -> tuple[str, bool]:
  """A condition of `first`: scores are scaled by the size of a head."""
  own = model.query_scalar not in (0, model.head_size)
  return "scales scores by the size of a head", own


def gemmas(model: model_config.DecoderConfig) -> str:
  """What no family but Gemma has, or ''."""
  return first(
    ("has no gated GELU", model.mlp == "geglu"),
    ("has norms whose scales start at 1", model.norm_offset != 0),
    ("has no norms after attention and MLP", model.post_norms),
    ("has one rotary base", model.rotary_local_base > 0),
    capless(model),
    by_head_size(model),
  )


def first(*conditions: tuple[str, bool]) -> str:
  """The text of the first condition that holds, or ''."""
  return next((text for text, holds in conditions if holds), "")


def spelled(names: dict[str, str], ours: str) -> str:
  """The first of their names for what we call `ours`."""
  return next(name for name, value in names.items() if value == ours)
