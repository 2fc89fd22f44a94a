"""What each "model_type" says in its config.json, and how ours says it."""

import dataclasses
from collections.abc import Callable

from instruct_jax.hf import keys
from instruct_jax.models import decoder

Json = keys.Json

_GELU = {
  "gelu": "gelu_exact",
  "gelu_new": "gelu",
  "gelu_fast": "gelu",
  "gelu_pytorch_tanh": "gelu",
}


@dataclasses.dataclass(frozen=True)
class Family:
  """How one "model_type" describes a decoder."""

  read: Callable[[keys.Reader], Json]  # -> fields of a DecoderConfig
  write: Callable[[decoder.DecoderConfig], Json]  # -> keys of config.json
  misfit: Callable[[decoder.DecoderConfig], str]  # '' if the family fits
  causal: str  # the class of its policies
  classifier: str  # the class of its reward models
  trunk: str  # the prefix of the trunk's tensors
  tied: bool  # where config.json does not say


def _read_gpt2(reader: keys.Reader) -> Json:
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
    "head_size": _head_size(reader, width, heads),
    "mlp_width": reader.get("n_inner", int, 4 * width),
    "norm_eps": reader.get("layer_norm_epsilon", float, 1e-5),
    "mlp": reader.chosen("activation_function", _GELU, "gelu_new"),
  }


def _write_gpt2(model: decoder.DecoderConfig) -> Json:
  return {
    "vocab_size": model.vocab_size,
    "n_positions": model.context_length,
    "n_ctx": model.context_length,
    "n_embd": model.width,
    "n_layer": model.layers,
    "n_head": model.heads,
    "n_inner": model.mlp_width,
    "activation_function": _spelled(_GELU, model.mlp),
    "layer_norm_epsilon": model.norm_eps,
  }


def _misfit_gpt2(model: decoder.DecoderConfig) -> str:
  return _first(
    ("has learned positions", model.positions != "learned"),
    ("has layer norms", model.norm != "layernorm"),
    ("has a GELU", model.mlp == "swiglu"),
    ("has no grouped heads", model.kv_heads != model.heads),
    ("has heads x head_size = width", _wide(model)),
    ("has no query/key norm", model.qk_norm),
    ("has no parallel residual", model.parallel_residual),
  )


def _read_neox(reader: keys.Reader) -> Json:
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
    "head_size": _head_size(reader, width, heads),
    "mlp_width": reader.get("intermediate_size", int, 24576),
    "norm_eps": reader.get("layer_norm_eps", float, 1e-5),
    "mlp": reader.chosen("hidden_act", _GELU, "gelu"),
    "attention_bias": bias,
    "output_bias": bias,
    "parallel_residual": reader.get("use_parallel_residual", bool, True),
    **_rotary(reader, base, share),
  }


def _write_neox(model: decoder.DecoderConfig) -> Json:
  return {
    "vocab_size": model.vocab_size,
    "max_position_embeddings": model.context_length,
    "hidden_size": model.width,
    "num_hidden_layers": model.layers,
    "num_attention_heads": model.heads,
    "intermediate_size": model.mlp_width,
    "hidden_act": _spelled(_GELU, model.mlp),
    "layer_norm_eps": model.norm_eps,
    "attention_bias": model.attention_bias or model.output_bias,
    "use_parallel_residual": model.parallel_residual,
    "rotary_pct": model.rotary_fraction,
    "rotary_emb_base": model.rotary_base,
    **_rope_scaling(model),
  }


def _misfit_neox(model: decoder.DecoderConfig) -> str:
  return _first(
    ("has rotary positions", model.positions != "rotary"),
    ("has layer norms", model.norm != "layernorm"),
    ("has a GELU", model.mlp == "swiglu"),
    ("has no grouped heads", model.kv_heads != model.heads),
    ("has heads x head_size = width", _wide(model)),
    ("has no query/key norm", model.qk_norm),
  )


def _read_llama(reader: keys.Reader) -> Json:
  values = _read_rms(reader, eps=1e-6)
  bias = reader.get("attention_bias", bool, False)
  return values | {
    "attention_bias": bias,
    "output_bias": bias,
    "mlp_bias": reader.get("mlp_bias", bool, False),
  }


def _read_mistral(reader: keys.Reader) -> Json:
  values = _read_rms(reader, eps=1e-6, kv_heads=8)
  window = reader.get("sliding_window", int, 0)
  return values | _biases(False) | {"window": window}


def _read_qwen2(reader: keys.Reader) -> Json:
  values = _read_rms(reader, eps=1e-6, kv_heads=32)
  return values | _biases(True) | {"window": _qwen_window(reader)}


def _read_qwen3(reader: keys.Reader) -> Json:
  values = _read_rms(reader, eps=1e-6, kv_heads=32, head_size=128)
  bias = reader.get("attention_bias", bool, False)
  return values | {
    "attention_bias": bias,
    "output_bias": bias,
    "mlp_bias": False,
    "qk_norm": True,
    "window": _qwen_window(reader),
  }


def _qwen_window(reader: keys.Reader) -> int:
  """The window of those layers that slide; 0 if none does."""
  window = reader.get("sliding_window", int, 0)
  slides = reader.get("use_sliding_window", bool, False)
  layers = reader.get("num_hidden_layers", int, 32)
  first = reader.get("max_window_layers", int, layers)
  kinds = reader.get("layer_types", list, ["full_attention"] * layers)
  unknown = [k for k in kinds if k not in ("full_attention", _SLIDING)]
  if unknown:
    raise reader.error(
      f'"layer_types": {keys.shown(unknown[0])} is not supported.'
    )
  return window if slides and (first < layers or _SLIDING in kinds) else 0


_SLIDING = "sliding_attention"


def _read_rms(
  reader: keys.Reader, *, eps: float, kv_heads: int = 0, head_size: int = 0
) -> Json:
  """What Llama, Mistral and Qwen share."""
  width = reader.get("hidden_size", int, 4096)
  heads = reader.get("num_attention_heads", int, 32)
  if not reader.has("head_dim") and not head_size:
    head_size = _head_size(reader, width, heads)
  given = reader.get("head_dim", int, head_size)
  reader.chosen("hidden_act", {"silu": "swiglu", "swish": "swiglu"}, "silu")
  base = reader.get("rope_theta", float, 10_000.0)
  return {
    "vocab_size": reader.get("vocab_size", int),
    "context_length": reader.get("max_position_embeddings", int, 2048),
    "layers": reader.get("num_hidden_layers", int, 32),
    "width": width,
    "heads": heads,
    "kv_heads": reader.get("num_key_value_heads", int, kv_heads or heads),
    "head_size": given,
    "mlp_width": reader.get("intermediate_size", int),
    "norm": "rmsnorm",
    "norm_bias": False,
    "norm_eps": reader.get("rms_norm_eps", float, eps),
    "mlp": "swiglu",
    **_rotary(reader, base, 1.0),
  }


def _biases(attention: bool) -> Json:
  return {
    "attention_bias": attention,
    "output_bias": False,
    "mlp_bias": False,
  }


def _rotary(reader: keys.Reader, base: float, share: float) -> Json:
  """The rotary fields: older files have rope_scaling, newer rope_parameters."""
  both = reader.has("rope_scaling") and reader.has("rope_parameters")
  if both:
    raise reader.error('has both "rope_scaling" and "rope_parameters".')
  name = "rope_parameters" if reader.has("rope_parameters") else "rope_scaling"
  rope = reader.section(name)
  kind = "rope_type" if rope.has("rope_type") else "type"
  rope.must_be("rope_type", "default", "linear", "llama3")
  rope.must_be("type", "default", "linear", "llama3")
  scaling = rope.get(kind, str, "default")
  values = {
    "positions": "rotary",
    "rotary_base": rope.get("rope_theta", float, base),
    "rotary_fraction": rope.get("partial_rotary_factor", float, share),
  }
  if scaling != "default":
    values["rotary_scaling"] = scaling
    values["rotary_factor"] = rope.get("factor", float)
  if scaling == "llama3":
    values["rotary_low"] = rope.get("low_freq_factor", float)
    values["rotary_high"] = rope.get("high_freq_factor", float)
    old = rope.get("original_max_position_embeddings", int)
    values["rotary_old_length"] = old
  rope.finish()
  return values


def _write_rms(model: decoder.DecoderConfig) -> Json:
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
    **_rope_scaling(model),
  }


def _rope_scaling(model: decoder.DecoderConfig) -> Json:
  if model.rotary_scaling == "none":
    return {}
  rope = {"rope_type": model.rotary_scaling, "factor": model.rotary_factor}
  if model.rotary_scaling == "llama3":
    rope |= {
      "low_freq_factor": model.rotary_low,
      "high_freq_factor": model.rotary_high,
      "original_max_position_embeddings": model.rotary_old_length,
    }
  return {"rope_scaling": rope}


def _write_llama(model: decoder.DecoderConfig) -> Json:
  biases = {
    "attention_bias": model.attention_bias,
    "mlp_bias": model.mlp_bias,
  }
  return _write_rms(model) | biases


def _write_mistral(model: decoder.DecoderConfig) -> Json:
  return _write_rms(model) | {"sliding_window": model.window or None}


def _write_qwen(model: decoder.DecoderConfig) -> Json:
  if not model.window:
    return _write_rms(model) | {"use_sliding_window": False}
  return _write_rms(model) | {
    "use_sliding_window": True,
    "sliding_window": model.window,
    "max_window_layers": 0,
  }


def _write_qwen3(model: decoder.DecoderConfig) -> Json:
  return _write_qwen(model) | {"attention_bias": model.attention_bias}


def _misfit_rms(model: decoder.DecoderConfig) -> str:
  return _first(
    ("has rotary positions", model.positions != "rotary"),
    ("turns whole heads", model.rotary_fraction != 1.0),
    ("has RMS norms", model.norm != "rmsnorm"),
    ("has a SwiGLU", model.mlp != "swiglu"),
    ("has no parallel residual", model.parallel_residual),
  )


def _misfit_llama(model: decoder.DecoderConfig) -> str:
  return _misfit_rms(model) or _first(
    ("has no query/key norm", model.qk_norm),
    ("has no window", model.window > 0),
    (
      "has biases in all of attention or none",
      model.attention_bias != model.output_bias,
    ),
  )


def _misfit_mistral(model: decoder.DecoderConfig) -> str:
  has_bias = model.attention_bias or model.output_bias or model.mlp_bias
  return _misfit_rms(model) or _first(
    ("has no query/key norm", model.qk_norm), ("has no biases", has_bias)
  )


def _misfit_qwen2(model: decoder.DecoderConfig) -> str:
  has_bias = model.output_bias or model.mlp_bias or not model.attention_bias
  return _misfit_rms(model) or _first(
    ("has no query/key norm", model.qk_norm),
    ("has biases of query, key and value alone", has_bias),
    ("has heads x head_size = width", _wide(model)),
  )


def _misfit_qwen3(model: decoder.DecoderConfig) -> str:
  biases = model.mlp_bias or model.attention_bias != model.output_bias
  return _misfit_rms(model) or _first(
    ("has a query/key norm", not model.qk_norm),
    ("has biases in all of attention or none", biases),
  )


FAMILIES = {
  "gpt2": Family(
    _read_gpt2,
    _write_gpt2,
    _misfit_gpt2,
    "GPT2LMHeadModel",
    "GPT2ForSequenceClassification",
    trunk="transformer",
    tied=True,
  ),
  "gpt_neox": Family(
    _read_neox,
    _write_neox,
    _misfit_neox,
    "GPTNeoXForCausalLM",
    "GPTNeoXForSequenceClassification",
    trunk="gpt_neox",
    tied=False,
  ),
  "llama": Family(
    _read_llama,
    _write_llama,
    _misfit_llama,
    "LlamaForCausalLM",
    "LlamaForSequenceClassification",
    trunk="model",
    tied=False,
  ),
  "mistral": Family(
    _read_mistral,
    _write_mistral,
    _misfit_mistral,
    "MistralForCausalLM",
    "MistralForSequenceClassification",
    trunk="model",
    tied=False,
  ),
  "qwen2": Family(
    _read_qwen2,
    _write_qwen,
    _misfit_qwen2,
    "Qwen2ForCausalLM",
    "Qwen2ForSequenceClassification",
    trunk="model",
    tied=False,
  ),
  "qwen3": Family(
    _read_qwen3,
    _write_qwen3,
    _misfit_qwen3,
    "Qwen3ForCausalLM",
    "Qwen3ForSequenceClassification",
    trunk="model",
    tied=False,
  ),
}


def _head_size(reader: keys.Reader, width: int, heads: int) -> int:
  if not heads or width % heads:
    raise reader.error(f"{heads} heads do not divide a width of {width}.")
  return width // heads


def _wide(model: decoder.DecoderConfig) -> bool:
  return model.heads * model.head_size != model.width


def _first(*conditions: tuple[str, bool]) -> str:
  """The text of the first condition that holds."""
  return next((text for text, holds in conditions if holds), "")


def _spelled(names: dict[str, str], ours: str) -> str:
  return next(name for name, value in names.items() if value == ours)
