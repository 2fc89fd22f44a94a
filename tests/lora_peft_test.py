"""Adapters as `peft` reads them: the same logits and scores, family by family.

Needs torch, transformers and peft (the `parity` extra); skipped without them.
"""

import functools
import os

os.environ.setdefault("HF_HUB_OFFLINE", "1")

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from etils import epath

from instruct_jax import tokenizers
from instruct_jax.base import errors
from instruct_jax.hf import adapters as hf_adapters
from instruct_jax.hf import export as hf_export
from instruct_jax.models import attention, heads, lora
from tests import toys

torch = pytest.importorskip("torch", reason="the `parity` extra has torch")
transformers = pytest.importorskip("transformers")
peft = pytest.importorskip("peft")

pytestmark = pytest.mark.parity

RMS = {
  "norm": "rmsnorm",
  "norm_bias": False,
  "mlp": "swiglu",
  "attention_bias": False,
  "output_bias": False,
  "mlp_bias": False,
  "tied": False,
}
MODELS = {
  "gpt2": {"positions": "learned"},
  "gpt_neox": {
    "rotary_fraction": 0.5,
    "parallel_residual": True,
    "tied": False,
  },
  "llama": RMS | {"kv_heads": 1},
  "llama_stacked": RMS | {"scan": True},
}
ALL = "|".join(lora.LAYERS)
TOKENS = np.random.default_rng(0).integers(3, toys.V, (3, 9), np.int32)


def settings(**changes):
  given = {"rank": 3, "alpha": 6.0, "targets": ALL, "dropout": 0.0}
  return lora.Settings(**(given | changes))


def moved(params, seed=1):
  """The same with other adapters, and another head."""
  rng = np.random.default_rng(seed)

  def one(path, x):
    name = jax.tree_util.keystr(path, simple=True, separator="/")
    is_trained = "lora_" in name or "head/kernel" in name
    return x + is_trained * 0.2 * rng.normal(size=x.shape).astype(np.float32)

  return jax.tree_util.tree_map_with_path(one, params)


def written(tmp_path, name, role="policy", bias=0.0, **changes):
  """(our model, our adapted parameters, folder of the base, of adapters)."""
  given = settings(**changes)
  config = toys.decoder_config(adapters=given.counted, **MODELS[name])
  head = heads.LanguageModel if role == "policy" else heads.ScalarModel
  model, tokenizer = head(config), tokenizers.ByteTokenizer()
  policy = toys.init_params(heads.LanguageModel(config), jax.random.key(0))
  base, folder = tmp_path / "base", tmp_path / "adapters"
  hf_export.export(policy, config, "policy", tokenizer, base)
  params = policy
  if role != "policy":
    fresh = toys.init_params(model, jax.random.key(1))
    params = fresh | {"decoder": policy["decoder"]}
    params["head"]["bias"] = params["head"]["bias"] + bias
  adapted = moved(lora.attach(params, given, jax.random.key(2)))
  trained = _trained(adapted)
  hf_adapters.export(
    *(trained, given, config, role, tokenizer, folder),
    base=epath.Path(base),
    drop_bias=True,
  )
  return model, adapted, folder


def _trained(tree):
  """Adapters, and a scalar head."""
  kept = {}
  for name, below in tree.items():
    if name == "head":
      kept[name] = below
    elif isinstance(below, dict):
      inner = _trained(below)
      if inner:
        kept[name] = inner
    elif name in (lora.A, lora.B):
      kept[name] = below
  return kept


@functools.partial(jax.jit, static_argnums=0)
def outputs(model, params):
  structure = attention.padded(jnp.ones(TOKENS.shape, bool))
  return model.apply({"params": params}, TOKENS, structure)[0]


def ours(model, params):
  return np.asarray(outputs(model, params))


def loaded(folder, kind, **options):
  """The base with its adapters, found by what the adapters' config names."""
  config = peft.PeftConfig.from_pretrained(folder)
  base = getattr(transformers, kind).from_pretrained(
    config.base_model_name_or_path, **options
  )
  return base, peft.PeftModel.from_pretrained(base, folder).eval()


@pytest.mark.parametrize("targets", [ALL, "query|value|down", "block_0/value"])
@pytest.mark.parametrize("name", MODELS)
def test_logits_are_equal(name, targets, tmp_path):
  if MODELS[name].get("scan") and "block_0" in targets:
    pytest.skip("stacked layers have one path")
  model, params, folder = written(tmp_path, name, targets=targets)
  _, theirs = loaded(folder, "AutoModelForCausalLM")
  with torch.no_grad():
    found = theirs(torch.tensor(TOKENS, dtype=torch.long)).logits.numpy()
    plain = theirs.unload()(torch.tensor(TOKENS, dtype=torch.long))
  expected = ours(model, params)
  np.testing.assert_allclose(found, expected, rtol=1e-4, atol=2e-5)
  assert np.abs(plain.logits.numpy() - expected).max() > 1e-2


@pytest.mark.parametrize("name", ["gpt2", "gpt_neox", "llama"])
def test_scores_are_equal(name, tmp_path):
  """The head is one of modules_to_save, as is a norm that holds its bias."""
  model, params, folder = written(tmp_path, name, "reward", bias=0.4)
  lost = 0.4 if name == "llama" else 0.0
  expected = ours(model, params)[:, -1] - lost
  np.testing.assert_allclose(scores(folder), expected, rtol=1e-4, atol=2e-5)


def scores(folder):
  _, theirs = loaded(
    folder, "AutoModelForSequenceClassification", num_labels=1, pad_token_id=0
  )
  with torch.no_grad():
    return theirs(torch.tensor(TOKENS, dtype=torch.long)).logits[:, 0].numpy()


@pytest.mark.parametrize("name", ["gpt2", "gpt_neox"])
def test_a_value_on_a_reward_model_with_a_bias(name, tmp_path):
  """The base's norm holds the reward's bias, the adapters' the value's."""
  given = settings()
  config = toys.decoder_config(adapters=given.counted, **MODELS[name])
  model, tokenizer = heads.ScalarModel(config), tokenizers.ByteTokenizer()
  reward = toys.init_params(model, jax.random.key(0))
  reward["head"]["bias"] = reward["head"]["bias"] + 0.4
  hf_export.export(reward, config, "reward", tokenizer, tmp_path / "base")
  value = moved(lora.attach(reward, given, jax.random.key(2)))
  for n, bias in enumerate((0.4, -0.9, 0.0)):
    value["head"]["bias"] = jnp.full((1,), bias)
    folder = tmp_path / f"adapters{n}"
    hf_adapters.export(
      *(_trained(value), given, config, "value", tokenizer, folder),
      base=epath.Path(tmp_path / "base"),
      below=reward["head"],
    )
    expected = ours(model, value)[:, -1]
    np.testing.assert_allclose(scores(folder), expected, rtol=1e-4, atol=2e-5)


def test_merging_there_is_merging_here(tmp_path):
  model, params, folder = written(tmp_path, "gpt2")
  _, theirs = loaded(folder, "AutoModelForCausalLM")
  merged = theirs.merge_and_unload()
  with torch.no_grad():
    found = merged(torch.tensor(TOKENS, dtype=torch.long)).logits.numpy()
  here = lora.merged(params, settings().scale)
  np.testing.assert_allclose(found, ours(model, here), rtol=1e-4, atol=2e-5)


def test_a_bias_has_no_place(tmp_path):
  given = settings()
  head = {"kernel": np.ones((16, 1), np.float32), "bias": np.ones(1)}
  model, params, folder = written(tmp_path, "llama", "reward")
  trained = _trained(params) | {"head": head}
  with pytest.raises(errors.UserError, match="bias 1 has no place"):
    hf_adapters.export(
      *(trained, given, model.config, "reward", tokenizers.ByteTokenizer()),
      tmp_path / "again",
      base=epath.Path(tmp_path / "base"),
    )
  assert folder.exists()
  assert not (tmp_path / "again").exists()
