"""Llama 2 and 3: biases in all of attention or none, no window."""

from instruct_jax.hf import family, keys, rms
from instruct_jax.models import config as model_config


def _read(reader: keys.Reader) -> keys.Json:
  bias = reader.get("attention_bias", bool, False)
  mlp = reader.get("mlp_bias", bool, False)
  return rms.read(reader) | rms.biases(inputs=bias, output=bias, mlp=mlp)


def _write(model: model_config.DecoderConfig) -> keys.Json:
  return rms.write(model) | {
    "attention_bias": model.attention_bias,
    "mlp_bias": model.mlp_bias,
  }


def _misfit(model: model_config.DecoderConfig) -> str:
  uneven = model.attention_bias != model.output_bias
  return rms.misfit(model) or family.first(
    ("has no query/key norm", model.qk_norm),
    family.windowless(model),
    ("has biases in all of attention or none", uneven),
  )


LLAMA = rms.make("Llama", _read, _write, _misfit)
