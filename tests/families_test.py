"""Sizes by name, and config sections that are complete and locked."""

import jax
import numpy as np
import pytest
from etils import epath

from experiments import ppo
from instruct_jax import paper, tokenizers
from instruct_jax.base import errors
from instruct_jax.inference import context
from instruct_jax.models import config as model_config
from instruct_jax.models import forward, heads, sizes
from instruct_jax.parallel import sharding

GIVEN = {"vocab_size": 64, "context_length": 32}


def parameters(config) -> int:
  model = heads.LanguageModel(config)
  shapes = jax.eval_shape(lambda: forward.init_params(model, jax.random.key(0)))
  return sum(x.size for x in jax.tree.leaves(shapes))


@pytest.mark.parametrize("name", sizes.SIZES)
def test_every_size_is_a_complete_section(name):
  section = sizes.section(name)
  config = sizes.decoder_config(section, **GIVEN)
  assert config.vocab_size == 64
  assert config.context_length == 32
  assert config.width == config.heads * config.head_size
  fields = {*model_config.DecoderConfig.__dataclass_fields__}
  assert {*section} == fields - {*model_config.NO_KEYS}
  section.dropout = 0.25  # Sections can be changed, but not extended.
  with pytest.raises(AttributeError, match='instead of "dropuot"'):
    section.lock().dropuot = 0.5


@pytest.mark.parametrize(
  ("name", "millions"),
  [
    ("gpt2", 124.4),  # as published
    ("gpt2-xl", 1557.6),
    ("125m", 125),
    ("350m", 356),
    ("760m", 760),
    ("1.3b", 1316),
    ("2.7b", 2652),
    ("6b", 6658),
    ("13b", 12853),
    ("175b", 174600),
  ],
)
def test_sizes_have_the_published_number_of_parameters(name, millions):
  context = 1024 if name.startswith("gpt2") else paper.CONTEXT_LENGTH
  config = sizes.decoder_config(
    sizes.section(name), vocab_size=50257, context_length=context
  )
  np.testing.assert_allclose(parameters(config) / 1e6, millions, rtol=0.01)


@pytest.mark.parametrize("name", paper.GPT3)
def test_gpt3_is_the_papers(name):
  section, size = sizes.section(name), paper.GPT3[name]
  assert section.layers == size.layers
  assert section.width == size.width
  assert section.heads == section.kv_heads == size.heads
  assert section.head_size == size.head_size
  assert section.mlp_width == size.mlp_width
  assert section.dtype == paper.COMPUTE_DTYPE
  assert (section.norm, section.mlp) == ("layernorm", "gelu")
  assert section.positions == "learned"


def test_unknown_and_missing_keys_are_named():
  with pytest.raises(errors.UserError, match="Did you mean 'tiny'"):
    sizes.section("tinny")
  section = dict(sizes.section("tiny"))
  with pytest.raises(errors.UserError, match="Did you mean 'dropout'"):
    sizes.decoder_config(section | {"dropuot": 0.1}, **GIVEN)
  del section["layers"]
  with pytest.raises(errors.UserError, match="lacks layers"):
    sizes.decoder_config(section, **GIVEN)


@pytest.mark.parametrize(("once", "now"), [(True, "full"), (False, "none")])
def test_remat_may_be_as_configs_had_it_once(once, now):
  section = dict(sizes.section("test").items()) | {"remat": once}
  found = sizes.decoder_config(section, vocab_size=9, context_length=9)
  assert found.remat == now
  section["remat"] = "ful"
  with pytest.raises(errors.UserError, match="Did you mean 'full'"):
    sizes.decoder_config(section, vocab_size=9, context_length=9)


def test_what_the_host_cannot_keep_is_refused(monkeypatch):
  config = ppo.get_config("test").unlock()
  config.reward_model.remat = "offload"
  tokenizer = tokenizers.ByteTokenizer()
  config.data.start = tokenizer.start
  monkeypatch.setattr(context.tokenizers, "load", lambda _: tokenizer)
  found = context.make(config.lock(), {"data": epath.Path("data")})
  assert found.scalar.config.remat == "offload"
  monkeypatch.setattr(sharding, "HOST_MEMORY", "attic")
  with pytest.raises(errors.UserError, match=r"reward_model\.remat=off"):
    context.make(config, {"data": epath.Path("data")})


def test_a_pretrained_section_has_its_own_sizes():
  section = dict(sizes.section("tiny")) | {
    "vocab_size": 100,
    "context_length": 48,
  }
  config = sizes.decoder_config(section, **GIVEN)
  assert (config.vocab_size, config.context_length) == (100, 48)
  with pytest.raises(errors.UserError, match="vocab_size = 50 is less than"):
    sizes.decoder_config(section | {"vocab_size": 50}, **GIVEN)
  with pytest.raises(errors.UserError, match="context_length = 16 is less"):
    sizes.decoder_config(section | {"context_length": 16}, **GIVEN)
  # A window limits what is attended to, not how long a text is.
  assert sizes.decoder_config(section | {"window": 16}, **GIVEN).window == 16
