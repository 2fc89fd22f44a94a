"""What certainly cannot run here is refused; what may run is not."""

import dataclasses
import itertools

import jax
import jax.numpy as jnp
import pytest

from instruct_jax.base import errors
from instruct_jax.models import config as model_config
from instruct_jax.models import forward, heads, sizes
from instruct_jax.runs import machine
from tests import experiments_test, toys

LARGE = {"model__width": 2**20, "model__mlp_width": 2**20}


def config_of(experiment, variant="test", **changes):
  config = experiments_test.MODULES[experiment].get_config(variant)
  changes = {key.replace("__", "."): x for key, x in changes.items()}
  config.update_from_flattened_dict(changes)
  return config


def count(tree):
  return sum(x.size for x in jax.tree.leaves(tree))


@pytest.mark.parametrize(
  ("mlp", "tied", "positions"),
  itertools.product(
    ("gelu", "swiglu", "geglu"), (False, True), ("learned", "rotary")
  ),
)
def test_weights_are_a_little_less_than_all(mlp, tied, positions):
  decoder = sizes.decoder_config(
    sizes.section("tiny").to_dict()
    | {"mlp": mlp, "tied": tied, "positions": positions, "kv_heads": 2},
    vocab_size=300,
    context_length=50,
  )
  model = heads.LanguageModel(decoder)
  shapes = jax.eval_shape(
    lambda key: forward.init_params(model, key), jax.random.key(0)
  )
  assert 0.98 * count(shapes) < machine.weights(decoder) <= count(shapes)


@pytest.mark.parametrize("remat", ["none", "full"])
def test_a_row_takes_more_than_is_said(remat):
  decoder = model_config.DecoderConfig(
    **sizes.SIZES["test"] | {"remat": remat, "layers": 4},
    vocab_size=11,
    context_length=256,
  )
  model, rows = heads.LanguageModel(decoder), 6
  tokens = jnp.zeros((rows, 257), jnp.int32)
  params = toys.init_params(model, jax.random.key(0))

  def loss(params):
    return forward.token_logits(model, params, tokens, tokens == 0).sum()

  memory = jax.jit(jax.grad(loss)).lower(params).compile().memory_analysis()
  taken = memory.temp_size_in_bytes
  assert rows * machine.bytes_of_row(decoder, 256) < taken


@pytest.mark.parametrize("name", ["dataset", "pretrain", "sft", "rankings"])
def test_what_fits_is_taken(name):
  machine.check(config_of(name, "tiny"))
  machine.check(config_of(name))


@pytest.mark.parametrize(
  ("experiment", "changes", "message"),
  [
    ("pretrain", LARGE, "config.model: the weights"),
    ("sft", {"model__layers": 1000, "model__width": 2**18}, "config.model"),
    ("ppo", {f"reward_{k}": x for k, x in LARGE.items()}, "and value"),
    ("pretrain", {"data__row_length": 2**20}, "config.batch.pretraining"),
    ("sft", {"data__prompt_length": 2**20}, "config.batch.demonstrations"),
    ("sft", {"batch__demonstrations": 2**30}, "config.batch.demonstrations"),
    ("ppo", {"batch__prompts": 2**30}, "config.batch.prompts"),
    ("ppo", {"evaluation__batch": 2**31 - 1}, "config.evaluation.batch"),
    ("rankings", {"rankings__batch": 2**31 - 1}, "config.rankings.batch"),
    ("select", {"selection__batch": 2**31 - 1}, "config.selection.batch"),
    ("dataset", {"data__sizes__prompts": (2**31 - 1, 1, 1)}, "sizes.prompts"),
    ("sft", {"mesh__data": 9}, "takes 9 devices; there are 8"),
    ("sft", {"mesh__tensor": 5}, "does not divide by config.mesh"),
  ],
)
def test_what_cannot_fit_is_refused_with_its_numbers(
  monkeypatch, experiment, changes, message
):
  monkeypatch.setattr(machine, "host_memory", lambda: 10**11)
  with pytest.raises(errors.UserError) as caught:
    machine.check(config_of(experiment, **changes))
  assert message in str(caught.value)
  if "config.mesh" not in message and "devices" not in message:
    assert "100.0 GB" in str(caught.value)


def test_more_devices_hold_more(monkeypatch):
  monkeypatch.setattr(machine, "memory_of", lambda device, sharing: 10**9)
  large = {"model__width": 4096, "model__mlp_width": 16_384}
  with pytest.raises(errors.UserError, match=r"config\.model: the weights"):
    machine.check(config_of("pretrain", **large))
  machine.check(config_of("pretrain", mesh__fsdp=8, **large))


def test_a_host_has_memory():
  assert machine.host_memory() > 10**8
  assert machine.memory_of(jax.devices()[0], 2) == machine.host_memory() // 2


def test_a_stage_that_cannot_run_stops_the_chain_before_its_first(
  tmp_path, monkeypatch
):
  from etils import epath

  from instruct_jax.runs import build
  from tests import config_checks_test

  stage = config_checks_test.planned(
    "ppo", "test", {"evaluation.batch": 2**31 - 1}, epath.Path(tmp_path)
  )
  with pytest.raises(errors.UserError, match=r"config\.evaluation\.batch"):
    build.build(stage)
  assert list(tmp_path.iterdir()) == []


def test_sizes_of_the_paper_are_known():
  """GPT-3 has 175 thousand million; the smallest of the paper 1.3."""
  for name, least, most in (("1.3b", 1.1e9, 1.4e9), ("175b", 173e9, 176e9)):
    decoder = sizes.decoder_config(
      sizes.section(name).to_dict(), vocab_size=50257, context_length=2048
    )
    assert least < machine.weights(dataclasses.replace(decoder)) < most


def test_adapters_need_no_copies_of_the_weights():
  """A model whose moments would not fit, of which the weights do."""
  decoder = sizes.decoder_config(
    sizes.section("test").to_dict() | {"width": 4096, "mlp_width": 16384},
    vocab_size=1,
    context_length=64,
  )
  numbers = machine.host_memory() / 2.5 / machine.FLOAT
  layers = int(numbers / machine.weights(decoder) * decoder.layers)
  wide = {"model__width": 4096, "model__mlp_width": 16384}
  wide |= {"model__layers": layers}
  with pytest.raises(errors.UserError, match="moments of policy"):
    machine.check(config_of("sft", **wide))
  machine.check(config_of("sft", lora__rank=8, **wide))
  machine.check(config_of("sft", freeze="embedding", **wide))
