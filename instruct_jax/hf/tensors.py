"""Which tensors of a checkpoint each of our parameters is made of.

Both ways read the same table: a `Leaf` for every parameter path. Torch keeps a
linear layer as [outputs, inputs] and ours is [inputs, outputs]; GPT-2's own
layers are [inputs, outputs] already, with query, key and value side by side;
GPT-NeoX has query, key and value in turn within each head.
"""

import dataclasses

import numpy as np

from instruct_jax.hf import families as hf_families
from instruct_jax.models import decoder

PARTS = ("query", "key", "value")


@dataclasses.dataclass(frozen=True)
class Leaf:
  """Where one parameter lies in a checkpoint."""

  tensor: str  # the name there
  transposed: bool = False
  part: int = 0  # of query, key, value that share the tensor
  shared: str = ""  # how they do: 'columns' (GPT-2), 'heads' (GPT-NeoX)
  shape: tuple[int, ...] = ()  # of the parameter


def table(
  family: str, model: decoder.DecoderConfig, role: str
) -> dict[str, Leaf]:
  """path of our parameter -> its Leaf, for every parameter of the model.

  Stacked layers are named as if they were not: 'decoder/block_3/key/kernel'.
  role is 'policy', 'reward' or 'value'.
  """
  return {
    ours: dataclasses.replace(leaf, shape=_shape(ours, model))
    for ours, leaf in _leaves(family, model, role)
  }


def shape(leaf: Leaf) -> tuple[int, ...]:
  """The shape of a leaf's tensor."""
  found = leaf.shape[::-1] if leaf.transposed else leaf.shape
  if leaf.shared == "columns":
    return (*found[:-1], 3 * found[-1])
  return (3 * found[0], *found[1:]) if leaf.shared else found


def cut(leaf: Leaf, tensor: np.ndarray, heads: int) -> np.ndarray:
  """The leaf's part of its tensor, not transposed yet."""
  if leaf.shared == "columns":
    size = tensor.shape[-1] // 3
    return tensor[..., leaf.part * size : (leaf.part + 1) * size]
  if leaf.shared == "heads":
    size, rest = tensor.shape[0] // (3 * heads), tensor.shape[1:]
    parts = tensor.reshape(heads, 3, size, *rest)[:, leaf.part]
    return parts.reshape(heads * size, *rest)
  return tensor


def joined(leaf: Leaf, parts: list[np.ndarray], heads: int) -> np.ndarray:
  """The inverse of `cut`: the tensor of all its parts."""
  if leaf.shared == "columns":
    return np.concatenate(parts, axis=-1)
  if leaf.shared == "heads":
    rest = parts[0].shape[1:]
    split = [part.reshape(heads, -1, *rest) for part in parts]
    return np.stack(split, axis=1).reshape(-1, *rest)
  return parts[0]


def _leaves(family, model, role):
  trunk = hf_families.FAMILIES[family].trunk
  for ours, leaf in _TRUNKS[family](trunk, model):
    yield f"decoder/{ours}", leaf
  for i in range(model.layers):
    for ours, leaf in _BLOCKS[family](f"{trunk}.{_LAYERS[family]}.{i}", model):
      yield f"decoder/block_{i}/{ours}", leaf
  if role != "policy":
    yield "head/kernel", Leaf("score.weight", transposed=True)
  elif not model.tied:
    yield "unembedding/kernel", Leaf(UNEMBEDDING[family], transposed=True)


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


def _dense(ours, theirs, bias, **where):
  yield f"{ours}/kernel", Leaf(f"{theirs}.weight", **where)
  if bias:
    where["transposed"] = False
    yield f"{ours}/bias", Leaf(f"{theirs}.bias", **where)


def _norm(ours, theirs, bias):
  yield f"{ours}/scale", Leaf(f"{theirs}.weight")
  if bias:
    yield f"{ours}/bias", Leaf(f"{theirs}.bias")


def _gpt2_trunk(trunk, model):
  del model
  yield "token_embedding/embedding", Leaf(f"{trunk}.wte.weight")
  yield "position_embedding/embedding", Leaf(f"{trunk}.wpe.weight")
  yield from _norm("final_norm", f"{trunk}.ln_f", True)


def _gpt2_block(layer, model):
  del model
  yield from _norm("attention_norm", f"{layer}.ln_1", True)
  for i, part in enumerate(PARTS):
    attention = f"{layer}.attn.c_attn"
    yield from _dense(part, attention, True, part=i, shared="columns")
  yield from _dense("output", f"{layer}.attn.c_proj", True)
  yield from _norm("mlp_norm", f"{layer}.ln_2", True)
  yield from _dense("up", f"{layer}.mlp.c_fc", True)
  yield from _dense("down", f"{layer}.mlp.c_proj", True)


def _neox_trunk(trunk, model):
  del model
  yield "token_embedding/embedding", Leaf(f"{trunk}.embed_in.weight")
  yield from _norm("final_norm", f"{trunk}.final_layer_norm", True)


def _neox_block(layer, model):
  bias = model.attention_bias or model.output_bias
  yield from _norm("attention_norm", f"{layer}.input_layernorm", True)
  for i, part in enumerate(PARTS):
    yield from _dense(
      part,
      f"{layer}.attention.query_key_value",
      bias,
      part=i,
      shared="heads",
      transposed=True,
    )
  turned = {"transposed": True}
  yield from _dense("output", f"{layer}.attention.dense", bias, **turned)
  yield from _norm("mlp_norm", f"{layer}.post_attention_layernorm", True)
  yield from _dense("up", f"{layer}.mlp.dense_h_to_4h", True, **turned)
  yield from _dense("down", f"{layer}.mlp.dense_4h_to_h", True, **turned)


def _llama_trunk(trunk, model):
  del model
  yield "token_embedding/embedding", Leaf(f"{trunk}.embed_tokens.weight")
  yield from _norm("final_norm", f"{trunk}.norm", False)


def _llama_block(layer, model):
  turned = {"transposed": True}
  attention, mlp = f"{layer}.self_attn", f"{layer}.mlp"
  yield from _norm("attention_norm", f"{layer}.input_layernorm", False)
  for part in PARTS:
    theirs = f"{attention}.{part[0]}_proj"
    yield from _dense(part, theirs, model.attention_bias, **turned)
  if model.qk_norm:
    yield from _norm("query_norm", f"{attention}.q_norm", False)
    yield from _norm("key_norm", f"{attention}.k_norm", False)
  yield from _dense(
    "output", f"{attention}.o_proj", model.output_bias, **turned
  )
  yield from _norm("mlp_norm", f"{layer}.post_attention_layernorm", False)
  # Ours squashes 'gate', as theirs does.
  yield from _dense("gate", f"{mlp}.gate_proj", model.mlp_bias, **turned)
  yield from _dense("up", f"{mlp}.up_proj", model.mlp_bias, **turned)
  yield from _dense("down", f"{mlp}.down_proj", model.mlp_bias, **turned)


_LAYERS = dict.fromkeys(hf_families.FAMILIES, "layers") | {"gpt2": "h"}
_TRUNKS = dict.fromkeys(hf_families.FAMILIES, _llama_trunk) | {
  "gpt2": _gpt2_trunk,
  "gpt_neox": _neox_trunk,
}
_BLOCKS = dict.fromkeys(hf_families.FAMILIES, _llama_block) | {
  "gpt2": _gpt2_block,
  "gpt_neox": _neox_block,
}
UNEMBEDDING = dict.fromkeys(hf_families.FAMILIES, "lm_head.weight") | {
  "gpt_neox": "embed_out.weight"
}
