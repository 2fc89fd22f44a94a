"""Our models against transformers', family by family, on random weights.

Needs torch and transformers (the `parity` extra); skipped without them.
"""

import copy
import dataclasses
import os

os.environ.setdefault("HF_HUB_OFFLINE", "1")

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from instruct_jax import tokenizers
from instruct_jax.hf import config as hf_config
from instruct_jax.hf import export as hf_export
from instruct_jax.hf import folder as hf_folder
from instruct_jax.hf import load as hf_load
from instruct_jax.inference import choice, generate
from instruct_jax.models import forward, heads, sizes
from instruct_jax.parallel import sharding
from tests import tiers, toys

torch = pytest.importorskip("torch", reason="the `parity` extra has torch")
transformers = pytest.importorskip("transformers")

pytestmark = pytest.mark.parity

V, B, T, PAD = 61, 3, 13, 2
ENDS = {"bos_token_id": 1, "eos_token_id": 1, "pad_token_id": PAD}
SIZES = {
  "vocab_size": V,
  "hidden_size": 32,
  "num_hidden_layers": 2,
  "num_attention_heads": 4,
  "intermediate_size": 48,
  "max_position_embeddings": 64,
} | ENDS
GROUPED = SIZES | {"num_key_value_heads": 2}
LLAMA3 = {
  "rope_type": "llama3",
  "rope_theta": 10_000.0,
  "factor": 8.0,
  "low_freq_factor": 1.0,
  "high_freq_factor": 4.0,
  "original_max_position_embeddings": 16,
}
LINEAR = {"rope_type": "linear", "rope_theta": 500.0, "factor": 4.0}
GPT2 = {
  "vocab_size": V,
  "n_positions": 64,
  "n_embd": 24,
  "n_layer": 2,
  "n_head": 3,
} | ENDS
# Windows of 4 tokens, of rows that are longer; caps that bend what is there.
SLIDING = GROUPED | {"sliding_window": 4, "num_hidden_layers": 3}
GEMMA2 = SLIDING | {
  "head_dim": 12,
  "query_pre_attn_scalar": 20,
  "attn_logit_softcapping": 1.5,
  "final_logit_softcapping": 2.0,
}
GEMMA3 = SLIDING | {
  "head_dim": 12,
  "num_hidden_layers": 4,
  "sliding_window_pattern": 3,
  "rope_parameters": {
    "full_attention": LINEAR,
    "sliding_attention": {"rope_type": "default", "rope_theta": 100.0},
  },
}
CASES = {
  "gpt2": ("GPT2Config", GPT2),
  "gpt2_inner": ("GPT2Config", GPT2 | {"n_inner": 40}),
  "neox": ("GPTNeoXConfig", SIZES),
  "neox_in_turn": (
    "GPTNeoXConfig",
    SIZES | {"use_parallel_residual": False, "attention_bias": False},
  ),
  "llama": ("LlamaConfig", GROUPED),
  "llama_tied_biased": (
    "LlamaConfig",
    GROUPED
    | {"tie_word_embeddings": True, "attention_bias": True, "mlp_bias": True},
  ),
  "llama3": ("LlamaConfig", GROUPED | {"rope_parameters": LLAMA3}),
  "llama_linear": (
    "LlamaConfig",
    GROUPED | {"rope_parameters": LINEAR, "head_dim": 12},
  ),
  "mistral": (
    "MistralConfig",
    GROUPED | {"head_dim": 12, "sliding_window": None},
  ),
  "mistral_sliding": ("MistralConfig", SLIDING),
  "qwen2": ("Qwen2Config", GROUPED),
  "qwen2_sliding": (
    "Qwen2Config",
    SLIDING | {"use_sliding_window": True, "max_window_layers": 1},
  ),
  "qwen3_sliding": (
    "Qwen3Config",
    SLIDING
    | {
      "head_dim": 12,
      "use_sliding_window": True,
      "layer_types": [f"{x}_attention" for x in ("sliding", "full", "sliding")],
    },
  ),
  "qwen3": (
    "Qwen3Config",
    GROUPED | {"head_dim": 16, "tie_word_embeddings": True},
  ),
  "gemma": ("GemmaConfig", GROUPED | {"head_dim": 12}),
  "gemma2": ("Gemma2Config", GEMMA2),
  "gemma3": ("Gemma3TextConfig", GEMMA3),
}
REWARDS = ("gpt2", "neox", "llama3", "qwen3", "gemma2", "gemma3")


def perturbed(model):
  """Nothing stays at its default: biases are not 0, norms not 1."""
  generator = torch.Generator().manual_seed(1)
  with torch.no_grad():
    for parameter in model.parameters():
      parameter.add_(0.1 * torch.randn(parameter.shape, generator=generator))
  return model.eval()


def made(case, *, reward=False):
  """A random model of transformers'."""
  name, values = CASES[case]
  config = getattr(transformers, name)(**values)
  torch.manual_seed(0)
  if not reward:
    return perturbed(transformers.AutoModelForCausalLM.from_config(config))
  config.num_labels = 1
  return perturbed(
    transformers.AutoModelForSequenceClassification.from_config(config)
  )


def imported(path, role, *, scan=False):
  """(our model, its parameters) of a folder."""
  folder = hf_folder.Folder(path)
  config = dataclasses.replace(hf_load.decoder_config(folder), scan=scan)
  kind = heads.LanguageModel if role == "policy" else heads.ScalarModel
  model = kind(config)
  return model, hf_load.load(folder, abstract(model), role)


def abstract(model):
  """The parameters' shapes, placed on one device."""
  shapes = jax.eval_shape(
    lambda key: forward.init_params(model, key), jax.random.key(0)
  )
  placed = sharding.place(
    shapes, sharding.make_mesh(data=1, fsdp=1, tensor=1), heads.RULES
  )
  return jax.tree.map(
    lambda x, s: jax.ShapeDtypeStruct(x.shape, x.dtype, sharding=s),
    shapes,
    placed,
  )


@pytest.fixture(scope="module")
def padded():
  """(tokens, is_token) [B, T], padded on the left by 0, 3 and 7."""
  tokens = np.random.default_rng(0).integers(3, V, (B, T))
  is_token = np.arange(T) >= np.asarray([0, 3, 7])[:, None]
  return np.where(is_token, tokens, PAD), is_token


# Each says its tokens from a cache of another kind.
SOME = tiers.often(
  CASES, "gpt2", "neox_in_turn", "llama3", "mistral_sliding", "gemma3"
)


@pytest.fixture(scope="module", params=CASES)
def policies(request, tmp_path_factory):
  """(their policy, our model, our parameters, the folder)."""
  theirs = made(request.param)
  path = tmp_path_factory.mktemp(request.param)
  theirs.save_pretrained(path)
  return theirs, *imported(path, "policy"), path


def logits_of(theirs, tokens, is_token):
  """Their logits, positions counted over real tokens."""
  positions = np.maximum(np.cumsum(is_token, axis=1) - 1, 0)
  with torch.no_grad():
    return theirs(
      input_ids=torch.tensor(tokens),
      attention_mask=torch.tensor(is_token.astype(np.int64)),
      position_ids=torch.tensor(positions),
    ).logits.numpy()


def assert_close(ours, theirs):
  """To 1e-4 of the largest."""
  error = np.abs(np.asarray(ours) - theirs).max()
  assert error < 1e-4 * np.abs(theirs).max()


def test_logits_with_left_padding(policies, padded):
  theirs, model, params, _ = policies
  tokens, is_token = padded
  ours = toys.token_logits(
    model, params, jnp.asarray(tokens), jnp.asarray(is_token)
  )
  expected = logits_of(theirs, tokens, is_token)[:, :-1]
  real = is_token[:, :-1]
  assert_close(np.asarray(ours)[real], expected[real])


@pytest.mark.parametrize("policies", SOME, indirect=True)
def test_greedy_generation_with_a_cache_token_for_token(policies, padded):
  theirs, model, params, _ = policies
  tokens, is_token = padded
  ours = generate.generate(
    model,
    params,
    jnp.asarray(tokens, jnp.int32),
    jnp.asarray(is_token),
    jnp.arange(len(tokens)),
    jax.random.key(0),
    choice.Sampling(max_tokens=10, stop_ids=(1,), pad_id=PAD, temperature=0.0),
  )
  with torch.no_grad():
    expected = theirs.generate(
      input_ids=torch.tensor(tokens),
      attention_mask=torch.tensor(is_token.astype(np.int64)),
      max_new_tokens=10,
      min_new_tokens=10 if not bool(ours.ended.any()) else None,
      do_sample=False,
      bad_words_ids=[[PAD]],  # we never choose the padding token
    ).numpy()[:, T:]
  width = expected.shape[1]
  np.testing.assert_array_equal(np.asarray(ours.tokens)[:, :width], expected)


@pytest.mark.parametrize("policies", SOME, indirect=True)
def test_stacked_layers_load_as_single_ones(policies, padded):
  _, model, params, path = policies
  stacked, there = imported(path, "policy", scan=True)
  tokens, is_token = map(jnp.asarray, padded)
  ours = toys.token_logits(stacked, there, tokens, is_token)
  expected = toys.token_logits(model, params, tokens, is_token)
  real = np.asarray(is_token)[:, :-1]
  assert_close(np.asarray(ours)[real], np.asarray(expected)[real])


@pytest.mark.parametrize("scan", [False, True], ids=["single", "stacked"])
def test_an_exported_policy_loads_there_with_the_same_bits(
  policies, tmp_path, scan
):
  theirs, _, _, path = policies
  model, params = imported(path, "policy", scan=scan)
  hf_export.export(
    params,
    model.config,
    "policy",
    tokenizers.ByteTokenizer(),
    tmp_path / "out",
    original=hf_folder.Folder(path).config,
    shard_bytes=4000,
  )
  again = transformers.AutoModelForCausalLM.from_pretrained(tmp_path / "out")
  before, after = theirs.state_dict(), again.state_dict()
  assert before.keys() == after.keys()
  for name, tensor in before.items():
    assert torch.equal(tensor, after[name]), name
  assert len(list((tmp_path / "out").glob("*.safetensors"))) > 1


@pytest.fixture(scope="module", params=REWARDS)
def rewards(request, tmp_path_factory):
  """(their reward model, our model, our parameters, the folder)."""
  theirs = made(request.param, reward=True)
  path = tmp_path_factory.mktemp(request.param)
  theirs.save_pretrained(path)
  return theirs, *imported(path, "reward"), path


def sequences_of(padded):
  """The rows as prompts of 6 and responses of 7 tokens, all real there."""
  tokens, is_token = padded
  return {
    "prompt": jnp.asarray(tokens[:, :7], jnp.int32),
    "is_prompt": jnp.asarray(is_token[:, :7]),
    "response": jnp.asarray(tokens[:, 7:], jnp.int32),
    "is_response": jnp.asarray(is_token[:, 7:]),
  }


def scores_of(theirs, padded):
  """Their scores at the last token of each row."""
  tokens, is_token = padded
  positions = np.maximum(np.cumsum(is_token, axis=1) - 1, 0)
  with torch.no_grad():
    return theirs(
      input_ids=torch.tensor(tokens),
      attention_mask=torch.tensor(is_token.astype(np.int64)),
      position_ids=torch.tensor(positions),
    ).logits.numpy()[:, 0]


def test_reward_scores(rewards, padded):
  theirs, model, params, _ = rewards
  ours = toys.scores(model, params, sequences_of(padded))
  assert_close(ours, scores_of(theirs, padded))


def test_an_exported_reward_with_a_bias_scores_the_same_there(
  rewards, padded, tmp_path
):
  _, model, params, path = rewards
  has_place = model.config.norm == "layernorm"
  params = params | {
    "head": params["head"] | {"bias": jnp.full(1, 0.7 * has_place)}
  }
  hf_export.export(
    params,
    model.config,
    "reward",
    tokenizers.ByteTokenizer(),
    tmp_path / "out",
    original=hf_folder.Folder(path).config,
  )
  theirs = transformers.AutoModelForSequenceClassification.from_pretrained(
    tmp_path / "out"
  )
  assert theirs.config.num_labels == 1
  ours = toys.scores(model, params, sequences_of(padded))
  assert_close(ours, scores_of(theirs.eval(), padded))


@pytest.mark.parametrize("name", ["test", "gpt2"])
def test_our_own_sizes_load_there(name, padded, tmp_path):
  section = sizes.section(name)
  section.update(layers=2, width=32, mlp_width=40)
  section.update(heads=2, kv_heads=2, head_size=16)
  config = sizes.decoder_config(section, vocab_size=V, context_length=64)
  model = heads.LanguageModel(config)
  params = toys.init_params(model, jax.random.key(0))
  params = jax.tree.map(
    lambda x: x + 0.1 * jax.random.normal(jax.random.key(1), x.shape), params
  )
  hf_export.export(
    params, config, "policy", tokenizers.ByteTokenizer(), tmp_path / "out"
  )
  theirs = transformers.AutoModelForCausalLM.from_pretrained(tmp_path / "out")
  tokens, is_token = padded
  ours = toys.token_logits(
    model, params, jnp.asarray(tokens), jnp.asarray(is_token)
  )
  expected = logits_of(theirs.eval(), tokens, is_token)[:, :-1]
  real = is_token[:, :-1]
  assert_close(np.asarray(ours)[real], expected[real])


@pytest.mark.parametrize("dtype", ["bfloat16", "float16"])
@pytest.mark.parametrize("case", REWARDS)
def test_short_floats_come_back_bit_for_bit(case, dtype, tmp_path):
  theirs = made(case).to(getattr(torch, dtype))
  theirs.save_pretrained(tmp_path / "in", max_shard_size="6KB")
  folder = hf_folder.Folder(tmp_path / "in")
  model, params = imported(tmp_path / "in", "policy")
  hf_export.export(
    params,
    model.config,
    "policy",
    tokenizers.ByteTokenizer(),
    tmp_path / "out",
    dtype=dtype,
    original=folder.config,
  )
  there = hf_folder.Folder(tmp_path / "out")
  assert sorted(there.names) == sorted(folder.names)
  for name in folder.names:
    before, after = folder.read(name), there.read(name)
    assert before.dtype == after.dtype
    assert before.tobytes() == after.tobytes(), name


def test_a_gemma_3_that_sees_images_reads_text_as_it_does(padded, tmp_path):
  vision = transformers.SiglipVisionConfig(
    hidden_size=16,
    intermediate_size=16,
    num_hidden_layers=1,
    num_attention_heads=2,
    image_size=28,
    patch_size=14,
  )
  config = transformers.Gemma3Config(
    text_config=GEMMA3, vision_config=vision.to_dict(), mm_tokens_per_image=4
  )
  theirs = transformers.Gemma3ForConditionalGeneration(config)
  perturbed(theirs).save_pretrained(tmp_path / "both")
  model, params = imported(tmp_path / "both", "policy")
  tokens, is_token = padded
  arrays = jnp.asarray(tokens), jnp.asarray(is_token)
  ours = np.asarray(toys.token_logits(model, params, *arrays))
  expected = logits_of(theirs, tokens, is_token)[:, :-1]
  real = is_token[:, :-1]
  assert_close(ours[real], expected[real])
  hf_export.export(
    params,
    model.config,
    "policy",
    tokenizers.ByteTokenizer(),
    tmp_path / "text",
    original=hf_folder.Folder(tmp_path / "both").config,
  )
  again = transformers.AutoModelForCausalLM.from_pretrained(tmp_path / "text")
  assert type(again).__name__ == "Gemma3ForCausalLM"
  after = logits_of(again.eval(), tokens, is_token)[:, :-1]
  np.testing.assert_array_equal(after[real], expected[real])


@pytest.mark.parametrize("name", ["gemma", "gemma2", "gemma3"])
def test_older_files_say_the_same_of_a_gemma(name, tmp_path):
  """As transformers 4 wrote it: no list of layers, one rotary base a key."""
  theirs = made(name).config
  theirs.save_pretrained(tmp_path)
  newer = hf_folder.read_config(tmp_path)
  older = copy.deepcopy(newer)
  older.pop("layer_types", None)
  rope = older.pop("rope_parameters")
  if name == "gemma3":
    linear = rope["full_attention"]
    older["sliding_window_pattern"] = older.pop("_sliding_window_pattern")
    older["rope_theta"] = linear.pop("rope_theta")
    older["rope_scaling"] = linear
    local = rope["sliding_attention"]["rope_theta"]
    older["rope_local_base_freq"] = local
  else:
    older["rope_theta"] = rope["rope_theta"]
  assert hf_config.decoder_config(older, "") == hf_config.decoder_config(
    newer, ""
  )
  kind = older.pop("model_type")
  again = transformers.AutoConfig.for_model(kind, **older)
  assert getattr(again, "layer_types", 0) == getattr(theirs, "layer_types", 0)
  assert again.rope_parameters == theirs.rope_parameters


@pytest.mark.parametrize("name", ["gemma2", "gemma3", "qwen2_sliding"])
def test_what_is_written_anew_is_read_there_as_meant(name, padded, tmp_path):
  """Without the config.json that it came with."""
  theirs = made(name)
  theirs.save_pretrained(tmp_path / "in")
  model, params = imported(tmp_path / "in", "policy")
  hf_export.export(
    params,
    model.config,
    "policy",
    tokenizers.ByteTokenizer(),
    tmp_path / "out",
  )
  again = transformers.AutoModelForCausalLM.from_pretrained(tmp_path / "out")
  after = logits_of(again.eval(), *padded)
  np.testing.assert_array_equal(after, logits_of(theirs, *padded))


@pytest.mark.parametrize("name", ["mistral_sliding", "gemma2", "gemma3"])
def test_completions_of_one_prompt_score_as_alone_there(name, tmp_path):
  """A row of a prompt and its K responses, longer than the window of 4."""
  theirs = made(name, reward=True)
  theirs.save_pretrained(tmp_path)
  model, params = imported(tmp_path, "reward")
  rng = np.random.default_rng(2)
  B, K, P, R = 2, 3, 6, 5
  prompt, response = (rng.integers(3, V, x) for x in ((B, P), (B, K, R)))
  is_prompt = np.arange(P) >= np.asarray([0, 2])[:, None]
  is_response = np.arange(R) < rng.integers(2, R + 1, (B, K))[..., None]
  prompt = np.where(is_prompt, prompt, PAD)
  response = np.where(is_response, response, PAD)
  rankings = {
    "prompt": prompt,
    "is_prompt": is_prompt,
    "response": response,
    "is_response": is_response,
  }
  ours = toys.completion_scores(
    model, params, jax.tree.map(jnp.asarray, rankings)
  )
  for k in range(K):
    row = np.concatenate([prompt, response[:, k]], axis=1)
    real = np.concatenate([is_prompt, is_response[:, k]], axis=1)
    # All on the left, where their rows begin.
    order = np.argsort(real, axis=1, kind="stable")
    rows = [np.take_along_axis(x, order, axis=1) for x in (row, real)]
    assert_close(ours[:, k], scores_of(theirs, rows))
