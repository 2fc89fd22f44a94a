"""Gemma 1, 2 and 3: a GeGLU, scales of norms less 1, scaled embeddings.

Gemma 2 norms what attention and MLP give, too, caps scores and logits and lets
every other layer slide. Gemma 3 norms queries and keys instead of capping, and
five of six layers slide, with a rotary base of their own. The text model of a
Gemma 3 that sees images is one, too.
"""

import dataclasses

from instruct_jax.hf import family, keys, rms, rotary, windows
from instruct_jax.models import config as model_config

_GELU = {name: "geglu" for name, ours in family.GELU.items() if ours == "gelu"}
_SCALED = 1_000_000.0  # rope_theta of layers that see everything (Gemma 3)
_LOCAL = 10_000.0  # and of those that slide
_SMALL = rms.Defaults(
  vocab_size=256_000,
  hidden_size=2304,
  intermediate_size=9216,
  num_hidden_layers=26,
  num_attention_heads=8,
  num_key_value_heads=4,
  head_dim=256,
  max_position_embeddings=8192,
)
_FIRST = dataclasses.replace(
  _SMALL,
  hidden_size=3072,
  intermediate_size=24_576,
  num_hidden_layers=28,
  num_attention_heads=16,
  num_key_value_heads=16,
)
_THIRD = dataclasses.replace(
  _SMALL, vocab_size=262_208, max_position_embeddings=131_072
)


def _read1(reader: keys.Reader) -> keys.Json:
  # The first files say "gelu" and mean its tanh form.
  named = _GELU | {"gelu": "geglu"}
  mlp = reader.chosen("hidden_act", named, "gelu_pytorch_tanh")
  reader.chosen("hidden_activation", named, "gelu_pytorch_tanh")
  turned = rotary.read(reader, reader.get("rope_theta", float, _LOCAL), 1.0)
  return _common(reader, _FIRST) | turned | {"mlp": mlp}


def _read2(reader: keys.Reader) -> keys.Json:
  caps = {"attention_cap": _cap(reader, "attn_logit_softcapping", 50.0)}
  turned = rotary.read(reader, reader.get("rope_theta", float, _LOCAL), 1.0)
  values = _second(reader, _SMALL, lambda i: i % 2 == 0, 30.0)
  return values | turned | caps


def _read3(reader: keys.Reader) -> keys.Json:
  reader.must_be("attn_logit_softcapping")  # is not used, whatever it says
  period = reader.get("_sliding_window_pattern", int, 6)
  period = reader.get("sliding_window_pattern", int, period)
  if not period:
    raise reader.error('"sliding_window_pattern" must be above 0.')
  values = _second(reader, _THIRD, lambda i: (i + 1) % period != 0, 0.0)
  turned, base = _turned(reader)
  local = {"rotary_local_base": base if values["window"] else 0.0}
  return values | turned | local | {"qk_norm": True}


def _common(reader, defaults):
  """What all three have."""
  values = rms.shape(reader, defaults)
  bias = reader.get("attention_bias", bool, False)
  reader.must_be("use_bidirectional_attention", False)
  reader.must_be("cache_implementation", "hybrid", "static", "dynamic")
  return values | {
    **rms.biases(inputs=bias, output=bias),
    "norm_offset": 1.0,
    "embedding_scale": _scale(values["width"]),
  }


def _second(reader, defaults, slides, cap):
  """What Gemma 2 and 3 have."""
  values = _common(reader, defaults)
  reader.get("hidden_act", str, "")  # beside "hidden_activation", unread
  mlp = reader.chosen("hidden_activation", _GELU, "gelu_pytorch_tanh")
  window = reader.nullable("sliding_window", int, 4096, null=0)
  reader.get("sliding_window_size", int, 0)  # Gemma 2's say it twice
  scalar = reader.get("query_pre_attn_scalar", float, 256.0)
  if not scalar:
    raise reader.error('"query_pre_attn_scalar" must be above 0.')
  return values | {
    "mlp": mlp,
    "post_norms": True,
    "query_scalar": 0.0 if scalar == values["head_size"] else scalar,
    "logit_cap": _cap(reader, "final_logit_softcapping", cap),
    **windows.read(reader, window, values["layers"], slides),
  }


def _cap(reader, key, usual):
  return reader.nullable(key, float, usual, null=0.0)


def _turned(reader):
  """(rotary fields, base of the layers that slide) of Gemma 3.

  Newer files have a section for either kind of layer.
  """
  base = reader.get("rope_theta", float, _SCALED)
  local = reader.get("rope_local_base_freq", float, _LOCAL)
  if not reader.has("rope_parameters"):
    return rotary.read(reader, base, 1.0), local
  rope = reader.section("rope_parameters")
  turned = rotary.fields(rope.section("full_attention"), base, 1.0)
  own = rope.section("sliding_attention")
  own.must_be("rope_type", "default")
  local = own.get("rope_theta", float, local)
  own.finish()
  rope.finish()
  return turned, local


def _scale(width):
  return float(width) ** 0.5


def _write1(model: model_config.DecoderConfig) -> keys.Json:
  act = "gelu_pytorch_tanh"
  return rms.write(model) | {
    "hidden_act": act,
    "hidden_activation": act,
    "attention_bias": model.attention_bias,
  }


def _write2(model: model_config.DecoderConfig) -> keys.Json:
  scalar = model.query_scalar or model.head_size
  return _write1(model) | {
    "query_pre_attn_scalar": int(scalar),
    "attn_logit_softcapping": model.attention_cap or None,
    "final_logit_softcapping": model.logit_cap or None,
    "sliding_window": model.window or 4096,
    **windows.write(model),
  }


def _write3(model: model_config.DecoderConfig) -> keys.Json:
  local = model.rotary_local_base or _LOCAL
  return _write2(model) | {"rope_local_base_freq": local}


def _misfit1(model: model_config.DecoderConfig) -> str:
  return _misfit(model) or family.first(
    ("has no query/key norm", model.qk_norm),
    ("has no norms after attention and MLP", model.post_norms),
    family.windowless(model),
    family.capless(model),
    family.by_head_size(model),
  )


def _misfit2(model: model_config.DecoderConfig) -> str:
  return _misfit(model) or family.first(
    ("has no query/key norm", model.qk_norm),
    _normed_after(model),
    ("has a whole query_scalar", model.query_scalar % 1 != 0),
    ("has one rotary base", model.rotary_local_base > 0),
  )


def _misfit3(model: model_config.DecoderConfig) -> str:
  is_odd = bool(model.window) != bool(model.rotary_local_base)
  return _misfit(model) or family.first(
    ("has a query/key norm", not model.qk_norm),
    _normed_after(model),
    ("has a whole query_scalar", model.query_scalar % 1 != 0),
    ("has no caps of attention", model.attention_cap > 0),
    ("has a rotary base for the layers that slide", is_odd),
  )


def _misfit(model):
  """What none of the three has, or ''."""
  uneven = model.attention_bias != model.output_bias
  scaled = model.embedding_scale == _scale(model.width)
  return rms.misfit(model, mlp="geglu") or family.first(
    ("has scales of norms less 1", model.norm_offset != 1),
    ("scales its embeddings by the root of the width", not scaled),
    ("has biases in all of attention or none", uneven),
    ("has no biases in the MLP", model.mlp_bias),
  )


def _normed_after(model):
  return "has norms after attention and MLP", not model.post_norms


_MADE = {"tied": True, "scaled": True}
GEMMA = dataclasses.replace(
  rms.make("Gemma", _read1, _write1, _misfit1), **_MADE
)
GEMMA2 = dataclasses.replace(
  rms.make("Gemma2", _read2, _write2, _misfit2), **_MADE
)
GEMMA3 = dataclasses.replace(
  rms.make("Gemma3", _read3, _write3, _misfit3),
  classifier="Gemma3TextForSequenceClassification",
  **_MADE,
  inner=("language_model.model", "model.language_model"),
  outside=r"^(model\.)?(vision_tower|multi_modal_projector)\.",
)
# Of Gemma3ForConditionalGeneration: what its config.json says of images.
GEMMA3_WITH_IMAGES = family.Around(
  text="gemma3_text",
  section="text_config",
  others=frozenset(
    (
      "boi_token_index",
      "eoi_token_index",
      "image_token_index",
      "mm_tokens_per_image",
      "vision_config",
    )
  ),
)
