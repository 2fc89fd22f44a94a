"""config.json <-> `models.config.DecoderConfig`.

Every key of a config.json is read, required to have the value that the decoder
implements, or known to change nothing in the network; any other key is an
error that names it. What a file leaves out has the default of its family.
"""

from instruct_jax.base import errors
from instruct_jax.hf import families, keys
from instruct_jax.models import config as model_config

Json = keys.Json


def family_of(config: Json, where: str) -> str:
  """The "model_type", if it is one that we know; UserError otherwise."""
  family = config.get("model_type")
  if not isinstance(family, str):
    raise errors.UserError(f'{where}: "model_type" is missing.')
  if family not in families.FAMILIES:
    raise errors.unknown(f'"model_type" in {where}', family, families.FAMILIES)
  if config.get("quantization_config"):
    raise errors.UserError(
      f'{where}: "quantization_config": quantized weights are not supported;'
      " save the model in float32, bfloat16 or float16."
    )
  if config.get("auto_map"):
    raise errors.UserError(
      f'{where}: "auto_map": the model brings code of its own, which is never'
      " run."
    )
  return family


def decoder_config(config: Json, where: str) -> model_config.DecoderConfig:
  """The decoder that a config.json describes.

  Raises UserError, naming the key, for an unknown family or option, a missing
  key or a wrong type. `where` names the file.
  """
  family, reader = family_of(config, where), keys.Reader(config, where)
  values = families.FAMILIES[family].read(reader)
  for key, off in keys.OFF.items():
    reader.must_be(key, *off)
  tied = reader.get("tie_word_embeddings", bool, families.FAMILIES[family].tied)
  reader.finish(keys.NEUTRAL)
  try:
    return model_config.DecoderConfig(**values, tied=tied)
  except errors.UserError as error:
    raise errors.UserError(f"{where}: {error}") from None


def to_json(model: model_config.DecoderConfig) -> tuple[str, Json]:
  """(family, the keys of its config.json) of the family that fits a decoder.

  Raises UserError where no family has this combination of options.
  """
  reasons = []
  for name, family in families.FAMILIES.items():
    reason = family.misfit(model)
    if not reason:
      tied = model.tied and (family.scaled or model.embedding_scale == 1)
      common = {"model_type": name, "tie_word_embeddings": tied}
      return name, common | family.write(model)
    reasons.append(f"{name} {reason}")
  raise errors.UserError(
    f"no Hugging Face family has this model: {'; '.join(reasons)}."
  )
