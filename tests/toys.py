"""A toy run for tests: small models, random batches, no data on disk."""

import jax
import numpy as np

from experiments import best_of_n, dpo, grpo, ppo_ptx, rloo, rm, sft
from instruct_jax import tokenizers
from instruct_jax.algorithms import episodes
from instruct_jax.inference import context
from instruct_jax.maths import preferences
from instruct_jax.models import config as model_config
from instruct_jax.models import forward, heads
from instruct_jax.parallel import sharding

EXPERIMENTS = {
  "sft": sft,
  "rm": rm,
  "ppo": ppo_ptx,
  "dpo": dpo,
  "rloo": rloo,
  "grpo": grpo,
  "best_of_n": best_of_n,
}
B, K, P, R, T = 16, 4, 6, 5, 12
V = 64


def compiled(function):
  """A function of a context or a model and of arrays, as one program.

  Called as it is, each of its operations is a program: a hundred of them are
  compiled in as many seconds as a whole step.
  """
  return jax.jit(function, static_argnums=0)


init_params = compiled(forward.init_params)
token_logits = compiled(forward.token_logits)
response_logits = compiled(forward.response_logits)
scores = compiled(forward.scores)
completion_scores = compiled(forward.completion_scores)


def config_of(algorithm, **changes):
  """The `:test` config of an algorithm, sized for the batches below."""
  config = EXPERIMENTS[algorithm].get_config("test").unlock()
  config.model.dropout = 0.0
  config.data.prompt_length, config.data.response_length = P, R
  if algorithm == "sft":
    config.loss.pretraining = 0.5
  if "rl" in config:
    config.rl.minibatches = 2
  for section in config.optimizer.values():
    # Some gradients are nothing but rounding (a key's bias shifts no softmax):
    # a large eps keeps Adam from blowing them up to the learning rate.
    section.eps = 1e-3
  config.update(changes)
  return config.lock()


def decoder_config(**changes):
  """16 wide, two layers, two heads."""
  settings = {
    "vocab_size": V,
    "context_length": 64,
    "layers": 2,
    "width": 16,
    "heads": 2,
    "kv_heads": 2,
    "head_size": 8,
    "mlp_width": 32,
    "positions": "rotary",
    "init": "fan_in",
  }
  return model_config.DecoderConfig(**(settings | changes))


def make_context(config, **model):
  """A context on the config's mesh, without folders."""
  return context.Context(
    config=config,
    policy=heads.LanguageModel(decoder_config(**model)),
    scalar=heads.ScalarModel(decoder_config(**model)),
    tokenizer=tokenizers.ByteTokenizer(),
    mesh=sharding.make_mesh(**config.mesh),
    folders={},
  )


def prompts(seed, rows=B):
  """Prompts of 1..P tokens, padded on the left."""
  rng = np.random.default_rng(seed)
  tokens = rng.integers(3, V, (rows, P), dtype=np.int32)
  lengths = rng.integers(1, P + 1, rows)
  is_prompt = np.arange(P) >= P - lengths[:, None]
  return {
    "prompt": np.where(is_prompt, tokens, 0).astype(np.int32),
    "is_prompt": is_prompt,
    "index": np.arange(rows, dtype=np.int32),
  }


def responses(seed, *shape):
  """Responses of 1..R tokens, padded on the right."""
  rng = np.random.default_rng(seed)
  tokens = rng.integers(3, V, (*shape, R), dtype=np.int32)
  lengths = rng.integers(1, R + 1, shape)
  is_response = np.arange(R) < lengths[..., None]
  return {
    "response": np.where(is_response, tokens, 0).astype(np.int32),
    "is_response": is_response,
  }


def text(seed, rows=B):
  """Packed rows of text."""
  tokens = np.random.default_rng(seed).integers(3, V, (rows, T))
  return {
    "tokens": tokens.astype(np.int32),
    "is_token": np.ones((rows, T), bool),
  }


def batch(algorithm, seed, rows=B):
  """A batch as the data pipeline makes it."""
  prompt = prompts(seed, rows)
  pair = {k: prompt[k] for k in ("prompt", "is_prompt")}
  if algorithm == "sft":
    demonstrations = pair | responses(seed + 1, rows)
    return {"demonstrations": demonstrations, "pretraining": text(seed, rows)}
  if algorithm == "rm":
    rng = np.random.default_rng(seed + 2)
    count = rng.integers(2, K + 1, (rows, 1))
    is_completion = np.arange(K) < count
    ranks = np.where(is_completion, rng.integers(1, 4, (rows, K)), 0)
    rankings = pair | responses(seed + 1, rows, K)
    return {
      "rankings": rankings
      | {
        "ranks": ranks.astype(np.int32),
        "is_completion": is_completion,
        "beats": np.asarray(preferences.pairs(ranks, is_completion)),
      }
    }
  if algorithm == "dpo":
    rankings = batch("rm", seed, rows)["rankings"]
    normal = np.random.default_rng(seed + 3).normal(size=(rows, K)) - 8
    real = rankings["is_completion"]
    rankings["is_response"] &= real[..., None]  # as rows.Padded has it
    reference = np.where(real, normal, 0).astype(np.float32)
    return {"rankings": rankings | {"ref_logprobs": reference}}
  return {"prompts": prompt, "pretraining": text(seed, rows)}


def recorded(seed, rows=B):
  """Episodes as a rollout would have recorded them, made of random numbers."""
  prompt, response = prompts(seed, rows), responses(seed + 1, rows)
  rng = np.random.default_rng(seed + 2)
  shape = response["is_response"].shape

  def numbers(scale):
    values = rng.normal(size=shape) * scale
    return np.where(response["is_response"], values, 0).astype(np.float32)

  return episodes.Episodes(
    prompt=prompt["prompt"],
    is_prompt=prompt["is_prompt"],
    response=response["response"],
    is_response=response["is_response"],
    ended=response["is_response"].sum(axis=1) < R,
    logprobs=numbers(0.1) - 4 * response["is_response"],
    ref_logprobs=numbers(0.1) - 4 * response["is_response"],
    values=numbers(1.0),
    scores=rng.normal(size=rows).astype(np.float32),
    terms={},
  )


def checkpoints(ctx, seed=0):
  """Random parameters for the roles that runs start from."""
  keys = jax.random.split(jax.random.key(seed))
  return {
    role: init_params(ctx.model(role), key)
    for role, key in zip(("policy", "reward"), keys)
  }
