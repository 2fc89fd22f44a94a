"""Qwen 2 (biases of query, key and value) and Qwen 3 (query and key norms)."""

from instruct_jax.hf import family, keys, rms, windows
from instruct_jax.models import config as model_config


def _read2(reader: keys.Reader) -> keys.Json:
  values = rms.read(reader, kv_heads=32) | rms.biases(inputs=True)
  return values | _windows(reader, values["layers"])


def _read3(reader: keys.Reader) -> keys.Json:
  values = rms.read(reader, kv_heads=32, head=128)
  bias = reader.get("attention_bias", bool, False)
  biases = rms.biases(inputs=bias, output=bias)
  values |= _windows(reader, values["layers"])
  return values | biases | {"qk_norm": True}


def _windows(reader: keys.Reader, layers: int) -> keys.Json:
  """The fields of the window, which the first layers do without."""
  window = reader.nullable("sliding_window", int, 4096, null=0)
  first = reader.get("max_window_layers", int, 28)
  if not reader.get("use_sliding_window", bool, False):
    window, first = 0, layers
  return windows.read(reader, window, layers, lambda i: i >= first)


def _write2(model: model_config.DecoderConfig) -> keys.Json:
  if not model.window:
    return rms.write(model) | {"use_sliding_window": False}
  return rms.write(model) | {
    "use_sliding_window": True,
    "sliding_window": model.window,
    "max_window_layers": model.slides.index(True),
    **windows.write(model),
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
