"""GPT-NeoX and Pythia: rotary positions, attention and MLP side by side.

Query, key and value lie in one layer, in turn within each head.
"""

from instruct_jax.hf import family, keys, rotary
from instruct_jax.models import config as model_config


def _read(reader: keys.Reader) -> keys.Json:
  width = reader.get("hidden_size", int, 6144)
  heads = reader.get("num_attention_heads", int, 64)
  bias = reader.get("attention_bias", bool, True)
  base = reader.get("rotary_emb_base", float, 10_000.0)
  share = reader.get("rotary_pct", float, 0.25)
  return {
    "vocab_size": reader.get("vocab_size", int, 50432),
    "context_length": reader.get("max_position_embeddings", int, 2048),
    "layers": reader.get("num_hidden_layers", int, 44),
    "width": width,
    "heads": heads,
    "kv_heads": heads,
    "head_size": family.head_size(reader, width, heads),
    "mlp_width": reader.get("intermediate_size", int, 24576),
    "norm_eps": reader.get("layer_norm_eps", float, 1e-5),
    "mlp": reader.chosen("hidden_act", family.GELU, "gelu"),
    "attention_bias": bias,
    "output_bias": bias,
    "parallel_residual": reader.get("use_parallel_residual", bool, True),
    **rotary.read(reader, base, share),
  }


def _write(model: model_config.DecoderConfig) -> keys.Json:
  return {
    "vocab_size": model.vocab_size,
    "max_position_embeddings": model.context_length,
    "hidden_size": model.width,
    "num_hidden_layers": model.layers,
    "num_attention_heads": model.heads,
    "intermediate_size": model.mlp_width,
    "hidden_act": family.spelled(family.GELU, model.mlp),
    "layer_norm_eps": model.norm_eps,
    "attention_bias": model.attention_bias or model.output_bias,
    "use_parallel_residual": model.parallel_residual,
    "rotary_pct": model.rotary_fraction,
    "rotary_emb_base": model.rotary_base,
    **rotary.write(model),
  }


def _misfit(model: model_config.DecoderConfig) -> str:
  return family.gemmas(model) or family.first(
    ("has rotary positions", model.positions != "rotary"),
    ("has layer norms", model.norm != "layernorm"),
    ("has a GELU", model.mlp == "swiglu"),
    ("has no grouped heads", model.kv_heads != model.heads),
    ("has heads x head_size = width", family.is_wide(model)),
    ("has no query/key norm", model.qk_norm),
    family.windowless(model),
  )


def _trunk(trunk: str, model: model_config.DecoderConfig) -> family.Leaves:
  del model
  embedding = family.Leaf(f"{trunk}.embed_in.weight")
  yield "token_embedding/embedding", embedding
  yield from family.norm("final_norm", f"{trunk}.final_layer_norm", True)


def _layer(layer: str, model: model_config.DecoderConfig) -> family.Leaves:
  bias, turned = model.attention_bias or model.output_bias, {"transposed": True}
  attention, mlp = f"{layer}.attention", f"{layer}.mlp"
  yield from family.norm("attention_norm", f"{layer}.input_layernorm", True)
  for i, part in enumerate(family.PARTS):
    where = {"part": i, "shared": "heads", **turned}
    together = f"{attention}.query_key_value"
    yield from family.dense(part, together, bias, **where)
  yield from family.dense("output", f"{attention}.dense", bias, **turned)
  norm = f"{layer}.post_attention_layernorm"
  yield from family.norm("mlp_norm", norm, True)
  yield from family.dense("up", f"{mlp}.dense_h_to_4h", True, **turned)
  yield from family.dense("down", f"{mlp}.dense_4h_to_h", True, **turned)


GPT_NEOX = family.Family(
  causal="GPTNeoXForCausalLM",
  classifier="GPTNeoXForSequenceClassification",
  read=_read,
  write=_write,
  misfit=_misfit,
  tied=False,
  trunk="gpt_neox",
  layers="layers",
  unembedding="embed_out.weight",
  trunk_leaves=_trunk,
  layer_leaves=_layer,
  buffers=r"(^|\.)attention\.(bias|masked_bias|rotary_emb\.inv_freq)$",
  norm_bias=True,
)
