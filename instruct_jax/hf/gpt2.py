"""GPT-2: learned positions, layer norms, a GELU, tied embeddings.

Its own layers are [inputs, outputs] as ours are, with query, key and value
side by side in one.
"""

from instruct_jax.hf import family, keys
from instruct_jax.models import config as model_config


def _read(reader: keys.Reader) -> keys.Json:
  width, heads = reader.get("n_embd", int, 768), reader.get("n_head", int, 12)
  reader.must_be("scale_attn_weights", True)
  reader.must_be("scale_attn_by_inverse_layer_idx", False)
  return {
    "vocab_size": reader.get("vocab_size", int, 50257),
    "context_length": reader.get("n_positions", int, 1024),
    "layers": reader.get("n_layer", int, 12),
    "width": width,
    "heads": heads,
    "kv_heads": heads,
    "head_size": family.head_size(reader, width, heads),
    "mlp_width": reader.get("n_inner", int, 4 * width),
    "norm_eps": reader.get("layer_norm_epsilon", float, 1e-5),
    "mlp": reader.chosen("activation_function", family.GELU, "gelu_new"),
  }


def _write(model: model_config.DecoderConfig) -> keys.Json:
  return {
    "vocab_size": model.vocab_size,
    "n_positions": model.context_length,
    "n_ctx": model.context_length,
    "n_embd": model.width,
    "n_layer": model.layers,
    "n_head": model.heads,
    "n_inner": model.mlp_width,
    "activation_function": family.spelled(family.GELU, model.mlp),
    "layer_norm_epsilon": model.norm_eps,
  }


def _misfit(model: model_config.DecoderConfig) -> str:
  return family.gemmas(model) or family.first(
    ("has learned positions", model.positions != "learned"),
    ("has layer norms", model.norm != "layernorm"),
    ("has a GELU", model.mlp == "swiglu"),
    ("has no grouped heads", model.kv_heads != model.heads),
    ("has heads x head_size = width", family.is_wide(model)),
    ("has no query/key norm", model.qk_norm),
    ("has no parallel residual", model.parallel_residual),
    family.windowless(model),
  )


def _trunk(trunk: str, model: model_config.DecoderConfig) -> family.Leaves:
  del model
  embeddings = {"token_embedding": "wte", "position_embedding": "wpe"}
  for ours, theirs in embeddings.items():
    yield f"{ours}/embedding", family.Leaf(f"{trunk}.{theirs}.weight")
  yield from family.norm("final_norm", f"{trunk}.ln_f", True)


def _layer(layer: str, model: model_config.DecoderConfig) -> family.Leaves:
  del model
  yield from family.norm("attention_norm", f"{layer}.ln_1", True)
  for i, part in enumerate(family.PARTS):
    attention = f"{layer}.attn.c_attn"
    yield from family.dense(part, attention, True, part=i, shared="columns")
  yield from family.dense("output", f"{layer}.attn.c_proj", True)
  yield from family.norm("mlp_norm", f"{layer}.ln_2", True)
  yield from family.dense("up", f"{layer}.mlp.c_fc", True)
  yield from family.dense("down", f"{layer}.mlp.c_proj", True)


GPT2 = family.Family(
  causal="GPT2LMHeadModel",
  classifier="GPT2ForSequenceClassification",
  read=_read,
  write=_write,
  misfit=_misfit,
  tied=True,
  trunk="transformer",
  layers="h",
  unembedding="lm_head.weight",
  trunk_leaves=_trunk,
  layer_leaves=_layer,
  buffers=r"(^|\.)attn\.(bias|masked_bias)$",
  norm_bias=True,
)
