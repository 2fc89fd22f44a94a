"""What the families with RMS norms, a gated MLP and rotary positions share."""

import dataclasses
import functools
from collections.abc import Callable

from instruct_jax.hf import family, keys, rotary
from instruct_jax.models import config as model_config


@dataclasses.dataclass(frozen=True)
class Defaults:
  """What holds where config.json says nothing; None: it must say it."""

  vocab_size: int | None = None
  hidden_size: int = 4096
  intermediate_size: int | None = None
  num_hidden_layers: int = 32
  num_attention_heads: int = 32
  num_key_value_heads: int = 0  # as many as heads
  head_dim: int = 0  # the width's share
  max_position_embeddings: int = 2048


def read(reader: keys.Reader, *, kv_heads: int = 0, head: int = 0) -> keys.Json:
  """The fields that all with a SwiGLU have but biases and windows.

  `kv_heads` (0: as many as heads) and `head`, its size (0: the width's share),
  hold where config.json says nothing.
  """
  usual = Defaults(num_key_value_heads=kv_heads, head_dim=head)
  values = shape(reader, usual)
  reader.chosen("hidden_act", {"silu": "swiglu", "swish": "swiglu"}, "silu")
  base = reader.get("rope_theta", float, 10_000.0)
  return values | {"mlp": "swiglu", **rotary.read(reader, base, 1.0)}


def shape(reader: keys.Reader, usual: Defaults) -> keys.Json:
  """The sizes and the norm."""
  width = reader.get("hidden_size", int, usual.hidden_size)
  heads = reader.get("num_attention_heads", int, usual.num_attention_heads)
  keys_ = usual.num_key_value_heads or heads
  head = usual.head_dim
  if not reader.has("head_dim") and not head:
    head = family.head_size(reader, width, heads)
  length = usual.max_position_embeddings
  return {
    "vocab_size": reader.get("vocab_size", int, usual.vocab_size),
    "context_length": reader.get("max_position_embeddings", int, length),
    "layers": reader.get("num_hidden_layers", int, usual.num_hidden_layers),
    "width": width,
    "heads": heads,
    "kv_heads": reader.get("num_key_value_heads", int, keys_),
    "head_size": reader.get("head_dim", int, head),
    "mlp_width": reader.get("intermediate_size", int, usual.intermediate_size),
    "norm": "rmsnorm",
    "norm_bias": False,
    "norm_eps": reader.get("rms_norm_eps", float, 1e-6),
  }


def biases(
  *, inputs: bool, output: bool = False, mlp: bool = False
) -> keys.Json:
  """Which linear layers have one: query, key and value; output; the MLP's."""
  return {"attention_bias": inputs, "output_bias": output, "mlp_bias": mlp}


def write(model: model_config.DecoderConfig) -> keys.Json:
  """The inverse of `read`, or of `shape` with rotary positions."""
  return {
    "vocab_size": model.vocab_size,
    "max_position_embeddings": model.context_length,
    "hidden_size": model.width,
    "num_hidden_layers": model.layers,
    "num_attention_heads": model.heads,
    "num_key_value_heads": model.kv_heads,
    "head_dim": model.head_size,
    "intermediate_size": model.mlp_width,
    "hidden_act": "silu",
    "rms_norm_eps": model.norm_eps,
    "rope_theta": model.rotary_base,
    **rotary.write(model),
  }


def misfit(model: model_config.DecoderConfig, *, mlp: str = "swiglu") -> str:
  """What none of those with this MLP has, or ''."""
  others = "" if mlp == "geglu" else family.gemmas(model)
  return others or family.first(
    ("has rotary positions", model.positions != "rotary"),
    ("turns whole heads", model.rotary_fraction != 1.0),
    ("has RMS norms", model.norm != "rmsnorm"),
    (f"has a {_SPELLED[mlp]}", model.mlp != mlp),
    ("has no parallel residual", model.parallel_residual),
  )


_SPELLED = {"swiglu": "SwiGLU", "geglu": "GeGLU"}


def _trunk(trunk: str, model: model_config.DecoderConfig) -> family.Leaves:
  del model
  embedding = family.Leaf(f"{trunk}.embed_tokens.weight")
  yield "token_embedding/embedding", embedding
  yield from family.norm("final_norm", f"{trunk}.norm", False)


_TWO = {"attention_norm": "input", "mlp_norm": "post_attention"}
_FOUR = {
  "attention_norm": "input",
  "attention_post_norm": "post_attention",
  "mlp_norm": "pre_feedforward",
  "mlp_post_norm": "post_feedforward",
}


def _layer(layer: str, model: model_config.DecoderConfig) -> family.Leaves:
  attention, mlp = f"{layer}.self_attn", f"{layer}.mlp"
  dense = functools.partial(family.dense, transposed=True)
  for part in family.PARTS:
    theirs = f"{attention}.{part[0]}_proj"
    yield from dense(part, theirs, model.attention_bias)
  if model.qk_norm:
    yield from family.norm("query_norm", f"{attention}.q_norm", False)
    yield from family.norm("key_norm", f"{attention}.k_norm", False)
  yield from dense("output", f"{attention}.o_proj", model.output_bias)
  for ours, theirs in (_FOUR if model.post_norms else _TWO).items():
    yield from family.norm(ours, f"{layer}.{theirs}_layernorm", False)
  # Ours squashes 'gate', as theirs does.
  yield from dense("gate", f"{mlp}.gate_proj", model.mlp_bias)
  yield from dense("up", f"{mlp}.up_proj", model.mlp_bias)
  yield from dense("down", f"{mlp}.down_proj", model.mlp_bias)


def make(
  name: str,
  read_: Callable[[keys.Reader], keys.Json],
  write_: Callable[[model_config.DecoderConfig], keys.Json],
  misfit_: Callable[[model_config.DecoderConfig], str],
) -> family.Family:
  """A family whose tensors are named as Llama's are; `name` of its classes."""
  return family.Family(
    causal=f"{name}ForCausalLM",
    classifier=f"{name}ForSequenceClassification",
    read=read_,
    write=write_,
    misfit=misfit_,
    tied=False,
    trunk="model",
    layers="layers",
    unembedding="lm_head.weight",
    trunk_leaves=_trunk,
    layer_leaves=_layer,
    buffers=r"(^|\.)rotary_emb\.inv_freq$",
    norm_bias=False,
  )
