"""A family is one module and one line: nothing else knows its name."""

import dataclasses
import json
import pathlib
import re

import jax
import numpy as np
import pytest
import safetensors.numpy

from instruct_jax import tokenizers
from instruct_jax.base import errors
from instruct_jax.hf import config as hf_config
from instruct_jax.hf import export, families, folder, llama, load
from instruct_jax.models import config as model_config
from instruct_jax.models import forward, heads
from instruct_jax.parallel import sharding
from tests import toys

PACKAGE = pathlib.Path(export.__file__).parents[1]
OF_FAMILIES = {
  f"{name}.py"
  for name in ("families", "gemma", "gpt2", "llama", "mistral", "neox", "qwen")
}
GEMMA = {
  "mlp": "geglu",
  "norm_offset": 1.0,
  "embedding_scale": 8**0.5,
  "tied": True,
}
GEMMA2 = GEMMA | {
  "post_norms": True,
  "window": 8,
  "window_pattern": "sf",
  "query_scalar": 3.0,
  "attention_cap": 50.0,
  "logit_cap": 30.0,
}
GEMMA3 = GEMMA2 | {
  "attention_cap": 0.0,
  "qk_norm": True,
  "rotary_scaling": "linear",
  "rotary_factor": 8.0,
  "rotary_base": 1e6,
  "rotary_local_base": 1e4,
}
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
  params = toys.init_params(model, jax.random.key(0))
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
    "qwen2": {"attention_bias": True, "window": 8, "window_pattern": "fs"},
    "qwen3": {"qk_norm": True},
    "gemma": GEMMA,
    "gemma2": GEMMA2,
    "gemma3_text": GEMMA3,
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


@pytest.mark.parametrize(
  ("name", "change", "reason"),
  [
    ("llama", {"window": 4}, "has no window"),
    ("gpt2", {"window": 4}, "has no window"),
    ("gpt_neox", {"window": 4}, "has no window"),
    ("llama", {"attention_cap": 9.0}, "has no soft caps"),
    ("gpt2", {"logit_cap": 9.0}, "has no soft caps"),
    ("llama", {"norm_offset": 1.0}, "has norms whose scales start at 1"),
    ("gpt_neox", {"query_scalar": 5.0}, "scales scores by the size of a head"),
    (
      "mistral",
      {"window": 4, "window_pattern": "sf"},
      "that all slide or none",
    ),
    ("gemma", GEMMA2, "has no norms after attention and MLP"),
    ("gemma2", GEMMA2 | {"embedding_scale": 3.0}, "by the root of the width"),
    ("gemma2", GEMMA2 | {"query_scalar": 3.5}, "has a whole query_scalar"),
    (
      "gemma3_text",
      GEMMA3 | {"attention_cap": 9.0},
      "has no caps of attention",
    ),
    ("gemma3_text", GEMMA3 | {"rotary_local_base": 0.0}, "for the layers that"),
  ],
)
def test_what_a_family_lacks_is_not_left_out_in_silence(name, change, reason):
  others = {"gpt2": {"positions": "learned"}}.get(name, {})
  if name in ("gpt2", "gpt_neox"):
    others |= {"norm": "layernorm", "mlp": "gelu", "kv_heads": 2}
  family = families.FAMILIES[name]
  assert reason in family.misfit(dataclasses.replace(MODEL, **others | change))


# The config.json of published checkpoints: sizes and what differs.
GEMMA_2_27B = {
  "attention_bias": False,
  "attention_dropout": 0.0,
  "attn_logit_softcapping": 50.0,
  "cache_implementation": "hybrid",
  "final_logit_softcapping": 30.0,
  "head_dim": 128,
  "hidden_act": "gelu_pytorch_tanh",
  "hidden_activation": "gelu_pytorch_tanh",
  "hidden_size": 4608,
  "intermediate_size": 36864,
  "max_position_embeddings": 8192,
  "model_type": "gemma2",
  "num_attention_heads": 32,
  "num_hidden_layers": 46,
  "num_key_value_heads": 16,
  "query_pre_attn_scalar": 144,
  "rms_norm_eps": 1e-06,
  "rope_theta": 10000.0,
  "sliding_window": 4096,
  "sliding_window_size": 4096,
  "torch_dtype": "float32",
  "use_cache": True,
  "vocab_size": 256000,
}
GEMMA_3_4B = {
  "architectures": ["Gemma3ForConditionalGeneration"],
  "boi_token_index": 255999,
  "eoi_token_index": 256000,
  "eos_token_id": [1, 106],
  "image_token_index": 262144,
  "initializer_range": 0.02,
  "mm_tokens_per_image": 256,
  "model_type": "gemma3",
  "text_config": {
    "hidden_size": 2560,
    "intermediate_size": 10240,
    "model_type": "gemma3_text",
    "num_hidden_layers": 34,
    "rope_scaling": {"factor": 8.0, "rope_type": "linear"},
    "sliding_window": 1024,
  },
  "torch_dtype": "bfloat16",
  "vision_config": {"hidden_size": 1152, "model_type": "siglip_vision_model"},
}


def read(config, path):
  (path / "config.json").write_text(json.dumps(config))
  return folder.read_config(path)


def test_a_published_gemma_2(tmp_path):
  model = hf_config.decoder_config(read(GEMMA_2_27B, tmp_path), "here")
  assert (model.window, model.slides) == (4096, (True, False) * 23)
  assert (model.attention_cap, model.logit_cap) == (50, 30)
  assert (model.query_scalar, model.rotary_base) == (144, 10_000)
  assert model.embedding_scale == 4608**0.5
  assert model.tied
  assert model.post_norms
  assert not model.qk_norm
  silent = {k: v for k, v in GEMMA_2_27B.items() if "softcap" not in k}
  assert hf_config.decoder_config(silent, "here") == model
  null = GEMMA_2_27B | {"attn_logit_softcapping": None}
  assert hf_config.decoder_config(null, "here").attention_cap == 0


def test_a_published_gemma_3_that_sees_images(tmp_path):
  config = read(GEMMA_3_4B, tmp_path)
  assert config["eos_token_id"] == [1, 106]
  model = hf_config.decoder_config(config, "here")
  assert (model.heads, model.kv_heads, model.head_size) == (8, 4, 256)
  assert (model.vocab_size, model.context_length) == (262_208, 131_072)
  assert (model.window, model.window_pattern) == (1024, "sssssf")
  assert (model.rotary_base, model.rotary_local_base) == (1e6, 1e4)
  assert (model.rotary_scaling, model.rotary_factor) == ("linear", 8.0)
  assert model.qk_norm
  assert not model.attention_cap
  assert not model.logit_cap


@pytest.mark.parametrize(
  ("base", "change", "message"),
  [
    (GEMMA_3_4B, {"text_config": 3}, '"text_config" should be an object'),
    (GEMMA_3_4B, {"new_option": 3}, '"new_option" = 3 is an option'),
    (GEMMA_3_4B, {"quantization_config": {"bits": 4}}, "quantized weights"),
    (GEMMA_2_27B, {"layer_types": ["odd"] * 46}, "'odd' is not supported"),
    (GEMMA_2_27B, {"layer_types": [{}] * 46}, "{} is not supported"),
    (GEMMA_2_27B, {"layer_types": ["full_attention"]}, "names 1 layers"),
    (GEMMA_2_27B, {"sliding_window": None}, '"sliding_window" is missing'),
    (GEMMA_2_27B, {"num_hidden_layers": 10**12}, "is out of range"),
    (GEMMA_2_27B, {"query_pre_attn_scalar": 0}, "must be above 0"),
    (GEMMA_2_27B, {"use_bidirectional_attention": True}, "is not supported"),
    (GEMMA_2_27B, {"hidden_activation": "gelu"}, "is not supported"),
  ],
)
def test_what_a_gemma_may_not_say(base, change, message, tmp_path):
  with pytest.raises(errors.UserError, match=re.escape(message)):
    hf_config.decoder_config(read(base | change, tmp_path), "here")


@pytest.mark.parametrize(
  "prefix", ["language_model.model", "model.language_model"]
)
def test_the_text_model_of_a_gemma_3_that_sees_images(prefix, tmp_path, caplog):
  """Its tensors are found, those of the tower named and left out."""
  config = dataclasses.replace(MODEL, **GEMMA3)
  model = heads.LanguageModel(config)
  params = toys.init_params(model, jax.random.key(0))
  text = tmp_path / "text"
  export.export(params, config, "policy", tokenizers.ByteTokenizer(), text)
  there = folder.Folder(text)
  tensors = {
    prefix + name.removeprefix("model"): there.read(name)
    for name in there.names
  }
  tower = "model." * prefix.startswith("model") + "vision_tower.patch.weight"
  tensors[tower] = np.full((2, 2), np.nan, np.float32)
  inner = there.config
  outer = {"dtype": inner.pop("dtype", "float32"), "image_token_index": 257}
  both = tmp_path / "both"
  both.mkdir()
  safetensors.numpy.save_file(tensors, both / "model.safetensors")
  whole = {"model_type": "gemma3", "text_config": inner, "vision_config": {}}
  (both / "config.json").write_text(json.dumps(whole | outer))
  found = folder.Folder(both)
  assert load.decoder_config(found) == config
  with caplog.at_level("WARNING"):
    back = load.load(found, abstract(model), "policy")
  jax.tree.map(np.testing.assert_array_equal, back, params)
  assert "1 tensors of vision_tower are left out" in caplog.text
  again = tmp_path / "again"
  export.export(
    back,
    config,
    "policy",
    tokenizers.ByteTokenizer(),
    again,
    original=found.config,
  )
  written = folder.Folder(again)
  assert written.config["architectures"] == ["Gemma3ForCausalLM"]
  assert written.config["model_type"] == "gemma3_text"
  assert sorted(written.names) == sorted(there.names)
  for name in there.names:
    np.testing.assert_array_equal(written.read(name), there.read(name))


@pytest.mark.parametrize(
  ("name", "says", "window", "pattern"),
  [
    ("mistral", {}, 4096, ""),
    ("mistral", {"sliding_window": None}, 0, ""),
    ("mistral", {"sliding_window": 9}, 9, ""),
    ("qwen2", {}, 0, ""),
    ("qwen2", {"sliding_window": 9, "max_window_layers": 1}, 0, ""),
    ("qwen2", {"use_sliding_window": True, "max_window_layers": 1}, 4096, "fs"),
    ("qwen2", {"use_sliding_window": True, "max_window_layers": 0}, 4096, ""),
    ("qwen2", {"use_sliding_window": True}, 0, ""),  # the first 28 do without
    (
      "qwen3",
      {
        "use_sliding_window": True,
        "sliding_window": 9,
        "layer_types": ["sliding_attention", "full_attention"],
      },
      9,
      "sf",
    ),
  ],
)
def test_windows_that_a_config_leaves_out_are_transformers(
  name, says, window, pattern
):
  sizes = {
    "vocab_size": 11,
    "hidden_size": 8,
    "intermediate_size": 12,
    "num_hidden_layers": 2,
    "num_attention_heads": 2,
    "num_key_value_heads": 1,
    "tie_word_embeddings": False,
    "model_type": name,
  }
  model = hf_config.decoder_config(sizes | says, "here")
  assert (model.window, model.window_pattern) == (window, pattern)
