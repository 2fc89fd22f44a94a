"""Mistral: no biases; attention may reach back over a window alone."""

from instruct_jax.hf import family, keys, rms
from instruct_jax.models import config as model_config


def _read(reader: keys.Reader) -> keys.Json:
  window = reader.nullable("sliding_window", int, 4096, null=0)
  values = rms.read(reader, kv_heads=8) | rms.biases(inputs=False)
  return values | {"window": window}


def _write(model: model_config.DecoderConfig) -> keys.Json:
  return rms.write(model) | {"sliding_window": model.window or None}


def _misfit(model: model_config.DecoderConfig) -> str:
  has_bias = model.attention_bias or model.output_bias or model.mlp_bias
  return rms.misfit(model) or family.first(
    ("has layers that all slide or none", len(set(model.slides)) > 1),
    ("has no query/key norm", model.qk_norm),
    ("has no biases", has_bias),
  )


MISTRAL = rms.make("Mistral", _read, _write, _misfit)
