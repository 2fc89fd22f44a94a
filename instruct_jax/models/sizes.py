"""The sizes that the decoder comes in, by name.

GPT-3's are the paper's (Brown et al. 2020, table 2.1), GPT-2's are Radford et
al. 2019; 'tiny', 'test' and 'files' are for a laptop. 'tiny' stands between
'tiny-small' and 'tiny-large', as the paper's 6B between 1.3B and 175B. A
config's `model` is one of these sections, complete; any key of it can be
overridden.
"""

import dataclasses
from collections.abc import Mapping, Sequence
from typing import Any

from ml_collections import ConfigDict

from instruct_jax import paper
from instruct_jax.base import errors
from instruct_jax.models import config as model_config

# What a run decides about a model, whatever it starts from.
FREE = ("dropout", "dtype", "remat", "init")
GIVEN = ("vocab_size", "context_length")  # 0: by the tokenizer and the data
_NEEDED_BY = {
  "vocab_size": "the tokenizer",
  "context_length": "config.data (prompt_length + response_length, row_length)",
}


def _sizes(layers: int, width: int, heads: int, head_size: int) -> dict:
  return {
    "layers": layers,
    "width": width,
    "heads": heads,
    "kv_heads": heads,
    "head_size": head_size,
    "mlp_width": 4 * width,
  }


# A small model learns to copy sooner with these: rotary positions, wider
# initial weights, no biases but the MLP's.
_SMALL = {
  "norm_bias": False,
  "positions": "rotary",
  "rotary_base": 1000.0,
  "attention_bias": False,
  "output_bias": False,
  "init": "fan_in",
  "embedding_scale": 8.0,
}
# Layers are stacked and recomputed; 16-bit activations (appendix C).
_LARGE = {"dtype": paper.COMPUTE_DTYPE, "scan": True, "remat": "full"}

# Sizes of the microworld's model by what figures call them, and the paper's.
STAND_INS = {"small": "1.3b", "medium": "6b", "large": "175b"}
SIZES: dict[str, dict[str, Any]] = {
  "test": _sizes(2, 32, 2, 16) | _SMALL,
  "test-small": _sizes(1, 16, 1, 16) | _SMALL,
  "test-large": _sizes(2, 48, 2, 24) | _SMALL,
  "tiny": _sizes(3, 96, 4, 24) | _SMALL,
  "tiny-small": _sizes(2, 64, 4, 16) | _SMALL,
  "tiny-large": _sizes(4, 192, 8, 24) | _SMALL,
  "files": _sizes(3, 96, 4, 24) | _SMALL,
  "gpt2": _sizes(12, 768, 12, 64),
  "gpt2-medium": _sizes(24, 1024, 16, 64),
  "gpt2-large": _sizes(36, 1280, 20, 64),
  "gpt2-xl": _sizes(48, 1600, 25, 64),
} | {
  name: _sizes(size.layers, size.width, size.heads, size.head_size) | _LARGE
  for name, size in paper.GPT3.items()
}


def section(name: str) -> ConfigDict:
  """The `model` section of a config: every field of a DecoderConfig.

  Raises UserError for a name that is not in SIZES.
  """
  if name not in SIZES:
    raise errors.unknown("model size", name, SIZES)
  whole = model_config.DecoderConfig(
    vocab_size=1, context_length=1, **SIZES[name]
  )
  values = dataclasses.asdict(whole)
  for name in model_config.NO_KEYS:
    del values[name]
  return ConfigDict(values | dict.fromkeys(GIVEN, 0))


def of_size(variant: str, size: str) -> str:
  """The name in SIZES of a variant's 'small', 'medium' or 'large' model."""
  if size not in STAND_INS:
    raise errors.unknown("size", size, STAND_INS)
  return variant if size == "medium" else f"{variant}-{size}"


def name_of(model: Mapping[str, Any], *, source: str) -> str:
  """What figures call a model of that shape, '' where it has no name.

  Of the microworld (`source`, as config.data has it) small, medium or large.
  """
  if source == "microworld":
    named = {
      of_size(variant, size): size
      for variant in ("tiny", "test")
      for size in STAND_INS
    }
  else:  # 'files' is of a laptop's size, whatever the words are
    small = {"files", "tiny", "test"}
    named = {n: n for n in SIZES if n.partition("-")[0] not in small}
  there = dict(model.items())
  for name, size in named.items():
    if not differences(section(name).to_dict(), there, but=(*FREE, "scan")):
      return size
  return ""


def differences(
  one: Mapping[str, Any], other: Mapping[str, Any], *, but: Sequence[str]
) -> list[str]:
  """The keys, none of `but`, whose values differ in two sections.

  What only one of them says (vocab_size, context_length) is no difference.
  """
  return [
    name
    for name, value in one.items()
    if name not in but
    and value != other.get(name, value)
    and not (name in GIVEN and not (value and other[name]))
  ]


def decoder_config(
  section: Mapping[str, Any], *, vocab_size: int, context_length: int
) -> model_config.DecoderConfig:
  """The decoder that a config's `model` describes.

  `vocab_size` and `context_length` are what tokenizer and data need; a section
  that says its own (a pretrained model's) must hold them.

  Raises UserError where a key is missing, unknown or out of its range, or the
  model is too small for the tokenizer or the data.
  """
  values = dict(section.items())
  known = [
    field.name
    for field in dataclasses.fields(model_config.DecoderConfig)
    if field.name not in model_config.NO_KEYS
  ]
  for name in values:
    if name not in known:
      raise errors.unknown("model key", name, known)
  missing = [name for name in known if name not in values]
  if missing:
    raise errors.UserError(f"model lacks {', '.join(missing)}.")
  needed = {"vocab_size": vocab_size, "context_length": context_length}
  for name, least in needed.items():
    if values[name] and values[name] < least:
      raise errors.UserError(
        f"model.{name} = {values[name]} is less than the {least} that"
        f" {_NEEDED_BY[name]} needs."
      )
    values[name] = values[name] or least
  if isinstance(values["remat"], bool):  # as configs had it once
    values["remat"] = "full" if values["remat"] else "none"
  return model_config.DecoderConfig(**values)
