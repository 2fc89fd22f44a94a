"""The config of a checkpoint that no run of ours has made.

A reader of runs asks a run for its config; a Hugging Face folder has none, so
one is made of its config.json, as if a run had just been started from it.
"""

import dataclasses
from typing import Any

from etils import epath
from ml_collections import ConfigDict

from instruct_jax import tokenizers
from instruct_jax.hf import config as hf_config
from instruct_jax.hf import folder as hf_folder
from instruct_jax.hf import load
from instruct_jax.models import config as model_config

_PROMPT, _RESPONSE = 256, 128  # tokens, where the model holds so many

# What a config decides about a model, whatever checkpoint it starts from.
KEPT = ("dropout", "dtype", "scan", "remat", "init", *model_config.NO_KEYS)


def model_section(folder: hf_folder.Folder) -> dict[str, Any]:
  """The `model` section of a checkpoint, all but the `KEPT` keys."""
  values = dataclasses.asdict(load.decoder_config(folder))
  return {name: x for name, x in values.items() if name not in KEPT}


def config(folder: hf_folder.Folder) -> ConfigDict:
  """What reading a checkpoint as a run takes; raises UserError."""
  model = load.decoder_config(folder)
  role = load.role_of(folder)
  length = model.context_length
  response = min(_RESPONSE, length // 2)
  prompt = min(_PROMPT, length - response)
  has_template = bool(tokenizers.load(folder.path).chat_template)
  section = dataclasses.asdict(model)
  section = {k: x for k, x in section.items() if k not in model_config.NO_KEYS}
  return ConfigDict(
    {
      "experiment": "import",
      "variant": "hf",
      "job": "import",
      "seed": 0,
      "product": role,
      "ema": {},
      "data": {
        "source": "files",
        "start": "reference",
        "template": "chat_template" if has_template else "plain",
        "prompt_length": prompt,
        "response_length": response,
        "row_length": prompt + response,
      },
      "model": section,
      "reward_model": section,
      "mesh": dict.fromkeys(("data", "fsdp", "tensor"), 1),
      "evaluation": {"suite": "none"},
    }
  )


def describes(path: epath.Path, model: model_config.DecoderConfig) -> bool:
  """Whether the config.json at `path` is of a decoder like `model`."""
  config = hf_folder.read_config(path.parent)
  there = hf_config.decoder_config(config, str(path))
  kept = {name: getattr(model, name) for name in KEPT}
  return dataclasses.replace(there, **kept) == model
