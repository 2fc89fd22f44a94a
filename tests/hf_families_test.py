"""A family is one module and one line: nothing else knows its name."""

import dataclasses
import pathlib
import re

import jax
import numpy as np
import pytest

from instruct_jax import tokenizers
from instruct_jax.base import errors
from instruct_jax.hf import config as hf_config
from instruct_jax.hf import export, families, folder, llama, load
from instruct_jax.models import config as model_config
from instruct_jax.models import forward, heads
from instruct_jax.parallel import sharding

PACKAGE = pathlib.Path(export.__file__).parents[1]
OF_FAMILIES = {
  f"{name}.py" for name in ("families", "gpt2", "llama", "mistral", "neox")
} | {"qwen.py"}
MODEL = model_config.DecoderConfig(
  vocab_size=258,
  context_length=16,
  layers=2,
  width=8,
  heads=2,
  kv_heads=1,
  head_size=4,
  mlp_width=12,
  positions="rotary",
  norm="rmsnorm",
  norm_bias=False,
  mlp="swiglu",
  attention_bias=False,
  output_bias=False,
  mlp_bias=False,
  tied=False,
)


@pytest.mark.parametrize("room", ["hf", "runs"])
def test_no_other_module_knows_a_familys_name(room):
  names = [*families.FAMILIES, *(f.causal for f in families.FAMILIES.values())]
  spelled = re.compile("|".join(rf"[\"']{name}[\"']" for name in names))
  for path in (PACKAGE / room).glob("*.py"):
    if path.name not in OF_FAMILIES:
      assert not spelled.search(path.read_text()), path


def abstract(model):
  shapes = jax.eval_shape(
    lambda key: forward.init_params(model, key), jax.random.key(0)
  )
  mesh = sharding.make_mesh(data=1, fsdp=1, tensor=1)
  return jax.tree.map(
    lambda x, s: jax.ShapeDtypeStruct(x.shape, x.dtype, sharding=s),
    shapes,
    sharding.place(shapes, mesh, heads.RULES),
  )


def test_a_family_of_its_own_goes_out_and_comes_back(tmp_path, monkeypatch):
  toy = dataclasses.replace(
    llama.LLAMA,
    causal="ToyForCausalLM",
    trunk="body",
    layers="floors",
    unembedding="mouth.weight",
    buffers=r"\.dust$",
  )
  monkeypatch.setitem(families.FAMILIES, "toy", toy)
  model = heads.LanguageModel(MODEL)
  params = forward.init_params(model, jax.random.key(0))
  family, config = hf_config.to_json(MODEL)
  assert family == "llama"  # the first that fits
  export.export(
    params,
    MODEL,
    "policy",
    tokenizers.ByteTokenizer(),
    tmp_path / "toy",
    original=config | {"model_type": "toy"},
  )
  there = folder.Folder(tmp_path / "toy")
  assert there.config["architectures"] == ["ToyForCausalLM"]
  assert "mouth.weight" in there.names
  assert "body.floors.1.mlp.up_proj.weight" in there.names
  back = load.load(there, abstract(model), "policy")
  jax.tree.map(np.testing.assert_array_equal, back, params)


@pytest.mark.parametrize("name", families.FAMILIES)
def test_each_family_reads_what_it_writes(name):
  """The config of each comes back, whichever way a family differs."""
  family = families.FAMILIES[name]
  changes = {
    "gpt2": {"positions": "learned", "kv_heads": 2, "tied": True},
    "gpt_neox": {"kv_heads": 2, "rotary_fraction": 0.5},
    "llama": {"mlp_bias": True},
    "mistral": {"window": 8},
    "qwen2": {"attention_bias": True},
    "qwen3": {"qk_norm": True},
  }[name]
  if name in ("gpt2", "gpt_neox"):
    changes |= {"norm": "layernorm", "norm_bias": True, "mlp": "gelu"}
    changes |= {"attention_bias": True, "output_bias": True, "mlp_bias": True}
  model = dataclasses.replace(MODEL, **changes)
  assert not family.misfit(model)
  there, config = hf_config.to_json(model)
  assert there == name
  assert hf_config.decoder_config(config, "here") == model
  others = [f for n, f in families.FAMILIES.items() if n != name]
  assert all(f.misfit(model) for f in others)


def test_a_model_of_no_family_is_told_why():
  model = dataclasses.replace(MODEL, parallel_residual=True)
  with pytest.raises(errors.UserError, match="llama has no parallel residual"):
    hf_config.to_json(model)
