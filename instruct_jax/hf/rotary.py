"""Rotary positions in a config.json: their base, share and scaling."""

from instruct_jax.hf import keys
from instruct_jax.models import config as model_config


def read(reader: keys.Reader, base: float, share: float) -> keys.Json:
  """The rotary fields of a DecoderConfig.

  Older files have "rope_scaling", newer ones "rope_parameters"; `base` and
  `share` are those of the keys beside them.
  """
  if reader.has("rope_scaling") and reader.has("rope_parameters"):
    raise reader.error('has both "rope_scaling" and "rope_parameters".')
  name = "rope_parameters" if reader.has("rope_parameters") else "rope_scaling"
  return fields(reader.section(name), base, share)


def fields(rope: keys.Reader, base: float, share: float) -> keys.Json:
  """The rotary fields that a section of a config.json gives."""
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


def write(model: model_config.DecoderConfig) -> keys.Json:
  """The scaling as older and newer libraries read it; {} without one."""
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
