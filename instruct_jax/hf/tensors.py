"""Which tensors of a checkpoint each of our parameters is made of.

Both ways read the same table: a `family.Leaf` for every parameter path.
"""

import dataclasses
from collections.abc import Iterator

import numpy as np

from instruct_jax.hf import families
from instruct_jax.hf import family as hf_family
from instruct_jax.models import config as model_config


def table(
  family: str, model: model_config.DecoderConfig, role: str
) -> dict[str, hf_family.Leaf]:
  """path of our parameter -> its Leaf, for every parameter of the model.

  Stacked layers are named as if they were not: 'decoder/block_3/key/kernel'.
  role is 'policy', 'reward' or 'value'.
  """
  return {
    ours: dataclasses.replace(leaf, shape=_shape(ours, model))
    for ours, leaf in _leaves(families.FAMILIES[family], model, role)
  }


def shape(leaf: hf_family.Leaf) -> tuple[int, ...]:
  """The shape of a leaf's tensor."""
  stored = leaf.shape[::-1] if leaf.transposed else leaf.shape
  if leaf.shared == "columns":
    return (*stored[:-1], 3 * stored[-1])
  return (3 * stored[0], *stored[1:]) if leaf.shared else stored


def cut(leaf: hf_family.Leaf, tensor: np.ndarray, heads: int) -> np.ndarray:
  """The leaf's part of its tensor, not transposed yet."""
  if leaf.shared == "columns":
    size = tensor.shape[-1] // 3
    return tensor[..., leaf.part * size : (leaf.part + 1) * size]
  if leaf.shared == "heads":
    size, rest = tensor.shape[0] // (3 * heads), tensor.shape[1:]
    parts = tensor.reshape(heads, 3, size, *rest)[:, leaf.part]
    return parts.reshape(heads * size, *rest)
  return tensor


def joined(
  leaf: hf_family.Leaf, parts: list[np.ndarray], heads: int
) -> np.ndarray:
  """The inverse of `cut`: the tensor of all its parts."""
  if leaf.shared == "columns":
    return np.concatenate(parts, axis=-1)
  if leaf.shared == "heads":
    rest = parts[0].shape[1:]
    split = [part.reshape(heads, -1, *rest) for part in parts]
    return np.stack(split, axis=1).reshape(-1, *rest)
  return parts[0]


def _leaves(
  family: hf_family.Family, model: model_config.DecoderConfig, role: str
) -> Iterator[tuple[str, hf_family.Leaf]]:
  for ours, leaf in family.trunk_leaves(family.trunk, model):
    yield f"decoder/{ours}", leaf
  for i in range(model.layers):
    layer = f"{family.trunk}.{family.layers}.{i}"
    for ours, leaf in family.layer_leaves(layer, model):
      yield f"decoder/block_{i}/{ours}", leaf
  if role != "policy":
    yield "head/kernel", hf_family.Leaf("score.weight", transposed=True)
  elif not model.tied:
    leaf = hf_family.Leaf(family.unembedding, transposed=True)
    yield "unembedding/kernel", leaf


def _shape(ours, model):
  """The shape of a parameter, by its path."""
  part, kind = ours.split("/")[-2:]
  if part.endswith("_norm"):
    within = part in ("query_norm", "key_norm")
    return (model.head_size if within else model.width,)
  tokens, width = model.vocab_size, model.width
  queries, keys = (n * model.head_size for n in (model.heads, model.kv_heads))
  both = {
    "token_embedding": (tokens, width),
    "position_embedding": (model.context_length, width),
    "query": (width, queries),
    "key": (width, keys),
    "value": (width, keys),
    "output": (queries, width),
    "up": (width, model.mlp_width),
    "gate": (width, model.mlp_width),
    "down": (model.mlp_width, width),
    "unembedding": (width, tokens),
    "head": (width, 1),
  }[part]
  return both[1:] if kind == "bias" else both
