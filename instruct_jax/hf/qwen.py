"""Qwen 2 (biases of query, key and value) and Qwen 3 (query and key norms)."""

from instruct_jax.hf import family, keys, rms
from instruct_jax.models import config as model_config

_SLIDING, _FULL = "sliding_attention", "full_attention"


def _read2(reader: keys.Reader) -> keys.Json:
  values = rms.read(reader, kv_heads=32) | rms.biases(inputs=True)
  return values | {"window": _window(reader)}


def _read3(reader: keys.Reader) -> keys.Json:
  values = rms.read(reader, kv_heads=32, head=128)
  bias = reader.get("attention_bias", bool, False)
  biases = rms.biases(inputs=bias, output=bias)
  return values | biases | {"qk_norm": True, "window": _window(reader)}


def _window(reader: keys.Reader) -> int:
  """The window of those layers that slide; 0 if none does."""
  window = reader.get("sliding_window", int, 0)
  slides = reader.get("use_sliding_window", bool, False)
  layers = reader.get("num_hidden_layers", int, 32)
  first = reader.get("max_window_layers", int, layers)
  kinds = reader.get("layer_types", list, [_FULL] * layers)
  unknown = [kind for kind in kinds if kind not in (_FULL, _SLIDING)]
  if unknown:
    raise reader.error(
      f'"layer_types": {keys.shown(unknown[0])} is not supported.'
    )
  return window if slides and (first < layers or _SLIDING in kinds) else 0


def _write2(model: model_config.DecoderConfig) -> keys.Json:
  if not model.window:
    return rms.write(model) | {"use_sliding_window": False}
  return rms.write(model) | {
    "use_sliding_window": True,
    "sliding_window": model.window,
    "max_window_layers": 0,
  }


def _write3(model: model_config.DecoderConfig) -> keys.Json:
  return _write2(model) | {"attention_bias": model.attention_bias}


def _misfit2(model: model_config.DecoderConfig) -> str:
  has_bias = model.output_bias or model.mlp_bias or not model.attention_bias
  return rms.misfit(model) or family.first(
    ("has no query/key norm", model.qk_norm),
    ("has biases of query, key and value alone", has_bias),
    ("has heads x head_size = width", family.is_wide(model)),
  )


def _misfit3(model: model_config.DecoderConfig) -> str:
  biases = model.mlp_bias or model.attention_bias != model.output_bias
  return rms.misfit(model) or family.first(
    ("has a query/key norm", not model.qk_norm),
    ("has biases in all of attention or none", biases),
  )


QWEN2 = rms.make("Qwen2", _read2, _write2, _misfit2)
QWEN3 = rms.make("Qwen3", _read3, _write3, _misfit3)
