"""Our side's worker: `python -m benchmarks.suite.ours WORKLOAD SPEC`.

A spec is what `suite/work.py` writes. Every workload calls the package's public
functions as the training loop does and says what a run gave, beside what the
channel measures.
"""

import dataclasses
import math
import pathlib
from collections.abc import Callable, Iterable
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from benchmarks.peers import channel as channel_lib
from benchmarks.suite import weights, work
from experiments import ppo, ppo_ptx, rm, sft
from instruct_jax import algorithms, tokenizers
from instruct_jax.algorithms import episodes
from instruct_jax.base import compilation
from instruct_jax.data.batch import packing
from instruct_jax.inference import context, continuing, likelihood
from instruct_jax.inference import rows as rows_lib
from instruct_jax.maths import preferences
from instruct_jax.models import forward, heads, lora
from instruct_jax.parallel import sharding
from instruct_jax.runs import reading
from instruct_jax.training import step

EXPERIMENTS = {"ppo": ppo, "ppo_ptx": ppo_ptx, "sft": sft, "rm": rm}
STEPS = 10_000  # more than any benchmark makes
RATE = 1e-6  # the learning rate of all sides


def make(spec: dict, experiment: str, rows: dict[str, int]) -> context.Context:
  """A context of the work's model and lengths; nothing is read from disk."""
  config = EXPERIMENTS[experiment].get_config("test").unlock()
  size = work.size_of(spec)
  config.batch = rows
  config.data.prompt_length = spec["prompt"]
  config.data.response_length = spec["response"]
  if "row" in spec:
    config.data.row_length = spec["row"]
  if "rl" in config:
    config.rl.minibatches = spec["minibatches"]
  config.lora.rank = spec.get("rank", 0)
  for section in config.optimizer.values():
    section.name = "adamw"
    section.learning_rate, section.warmup_steps = RATE, 0
    section.schedule = "constant"
  decoder = weights.decoder_of(size)
  settings = lora.settings(config.lora)
  if settings:
    decoder = dataclasses.replace(decoder, adapters=settings.counted)
  return context.Context(
    config=config.lock(),
    policy=heads.LanguageModel(decoder),
    scalar=heads.ScalarModel(decoder),
    tokenizer=tokenizers.ByteTokenizer(),
    mesh=sharding.make_mesh(**config.mesh),
    folders={},
  )


def load(ctx: context.Context, spec: dict, role: str) -> dict[str, Any]:
  """A role's parameters, from the folder that the peers read, too."""
  name = "policy" if role == "policy" else "reward"
  folder = pathlib.Path(spec["folder"]) / name
  return reading.load_parameters(f"hf:{folder}", ctx, name)


def probed(
  ctx: context.Context, params: dict, role: str = "policy"
) -> list[float]:
  """Some logits, or the score, of `work.PROBE`.

  By one program: those of single operations would take memory in every run.
  """
  if role == "reward":
    response, is_response = _right([work.PROBE], len(work.PROBE))
    nothing = np.zeros((1, 1), np.int32)
    sequences = {
      "prompt": nothing,
      "is_prompt": nothing.astype(bool),
      "response": response,
      "is_response": is_response,
    }
    sequences = jax.tree.map(jnp.asarray, sequences)
    score = jax.jit(forward.scores, static_argnums=0)(
      ctx.scalar, params, sequences
    )
    return np.asarray(score, float).tolist()
  tokens = jnp.asarray([[*work.PROBE, 0]], jnp.int32)
  logits = jax.jit(forward.token_logits, static_argnums=0)(
    ctx.policy, params, tokens, jnp.ones_like(tokens, bool)
  )
  return np.asarray(logits[0, -1, : work.PROBED], float).tolist()


def generate(spec: dict, channel: channel_lib.Channel) -> None:
  """Every prompt's response, by the policy's own sampler."""
  prompts = work.padded_prompts(spec)
  ctx = make(spec, "ppo", {"prompts": len(spec["prompts"])})
  params = load(ctx, spec, "policy")
  with jax.set_mesh(ctx.mesh):
    rows = sharding.global_batch(prompts, ctx.mesh)
    _ready(channel, ctx, spec, params)
    number = 0
    while True:
      made = episodes.sample(ctx, params, rows, jax.random.key(number))
      tokens, is_response = jax.device_get((made.tokens, made.is_response))
      lengths = is_response.sum(axis=1).tolist()
      number += 1
      channel.done(
        lengths=lengths,
        units=sum(lengths),
        tokens_as_told=work.are_as_told(spec, tokens, lengths),
        compile_seconds=compilation.compile_seconds(),
      )


def rl(spec: dict, channel: channel_lib.Channel) -> None:
  """One iteration of PPO, or PPO-ptx where the spec has texts."""
  has_text = "texts" in spec
  rows = {"prompts": len(spec["prompts"])}
  if has_text:
    rows["pretraining"] = len(spec["texts"])
  ctx = make(spec, "ppo_ptx" if has_text else "ppo", rows)
  given = {role: load(ctx, spec, role) for role in ("policy", "reward")}
  batch: dict[str, Any] = {"prompts": work.padded_prompts(spec)}
  if has_text:
    tokens = np.asarray(spec["texts"], np.int32)
    is_token = np.ones_like(tokens, bool)
    batch["pretraining"] = {"tokens": tokens, "is_token": is_token}
  learn(spec, channel, ctx, "ppo", given, [batch])


def supervised(spec: dict, channel: channel_lib.Channel) -> None:
  """An epoch of demonstrations, packed where the spec has a `row`."""
  table = _packed(spec) if "row" in spec else _padded(spec)
  size = spec["batch"]
  ctx = make(spec, "sft", {"demonstrations": size})
  count = -(-len(table["tokens" if "row" in spec else "prompt"]) // size)

  def part(i):
    return {
      name: _filled(x[i * size : (i + 1) * size], size)
      for name, x in table.items()
    }

  batches = [{"demonstrations": part(i)} for i in range(count)]
  given = {"policy": load(ctx, spec, "policy")}
  learn(spec, channel, ctx, "sft", given, batches)


def ranked(spec: dict, channel: channel_lib.Channel) -> None:
  """A step of the reward model on one ranking of K responses."""
  ctx = make(spec, "rm", {"rankings": 1})
  reward = load(ctx, spec, "reward")
  given = {"policy": reward, "reward": reward}  # `init` reads the decoder
  K, R = len(spec["responses"]), spec["response"]
  ranks = np.arange(1, K + 1, dtype=np.int32)[None]
  is_completion = np.ones((1, K), bool)
  response, is_response = _right(spec["responses"], R)
  rankings = {
    "prompt": np.asarray([spec["prompts"][0]], np.int32),
    "is_prompt": np.ones((1, spec["prompt"]), bool),
    "response": response[None],
    "is_response": is_response[None],
    "ranks": ranks,
    "is_completion": is_completion,
    "beats": np.asarray(preferences.pairs(ranks, is_completion)),
  }
  learn(spec, channel, ctx, "rm", given, [{"rankings": rankings}])


def choices(spec: dict, channel: channel_lib.Channel) -> None:
  """The likelihood of every continuation."""
  ctx = make(spec, "sft", {"demonstrations": 1})
  params = load(ctx, spec, "policy")
  reader = likelihood.Reader(ctx.policy, params, ctx.tokenizer, ctx.mesh)
  asked = [
    (tuple(prompt), tuple(one))
    for prompt, some in zip(spec["prompts"], spec["choices"])
    for one in some
  ]
  with jax.set_mesh(ctx.mesh):
    probe = probed(ctx, params)
  channel.ready(probe=probe, weights=work.digest(spec))
  while True:
    said = likelihood.of_tokens(reader, asked)
    mean = sum(one.logprob for one in said) / len(said)
    channel.done(
      units=len(said),
      nats=mean,
      finite=math.isfinite(mean),
      padding=round(rows_lib.laid(asked, ctx.mesh).padding, 4),
      compile_seconds=compilation.compile_seconds(),
    )


class Numbers:
  """A tokenizer whose words are the numbers of the tokens."""

  def __init__(self):
    self._bytes = tokenizers.ByteTokenizer()

  def __getattr__(self, name: str) -> Any:
    return getattr(self._bytes, name)

  def decode(self, ids: Iterable[int]) -> str:
    """What was said, but for its end."""
    return " ".join(str(n) for n in ids if n != work.END)


def says(spec: dict, channel: channel_lib.Channel) -> None:
  """What is said greedily to every prompt, as evaluations ask."""
  ctx = make(spec, "sft", {"demonstrations": 1})
  params = load(ctx, spec, "policy")
  # pyrefly: ignore[bad-argument-type]  # it stands in for a tokenizer
  reader = likelihood.Reader(ctx.policy, params, Numbers(), ctx.mesh)
  request = continuing.Request(max_tokens=spec["response"])
  asked = dict(enumerate(spec["prompts"]))
  with jax.set_mesh(ctx.mesh):
    probe = probed(ctx, params)
  channel.ready(probe=probe, weights=work.digest(spec))
  while True:
    found: dict[int, continuing.Said] = {}
    key = jax.random.key(0)
    for some in continuing.by_batch(reader, asked, key, request):
      found.update(some)
    said = [found[n] for n in asked]
    tokens = [
      [*map(int, one.text.split()), *[work.END] * one.ended] for one in said
    ]
    lengths = [one.tokens for one in said]
    channel.done(
      lengths=lengths,
      units=sum(lengths),
      tokens_as_told=work.are_as_told(spec, tokens, lengths),
      compile_seconds=compilation.compile_seconds(),
    )


def learn(
  spec: dict,
  channel: channel_lib.Channel,
  ctx: context.Context,
  algorithm: str,
  given: dict[str, Any],
  batches: list[dict],
) -> None:
  """Steps on these batches in turn, all of them a run, as `training.loop`."""
  role = "reward" if algorithm == "rm" else "policy"
  probe = probed(ctx, given[role], role)
  run, state = step.setup(ctx, algorithms.named(algorithm), STEPS, given)
  if role == "reward":  # which the peer starts from, head and all
    state = state.replace(params={role: jax.tree.map(jnp.copy, given[role])})
  given.clear()
  update = step.compiled(run)
  with jax.set_mesh(ctx.mesh):
    rows = [sharding.global_batch(batch, ctx.mesh) for batch in batches]
    channel.ready(probe=probe, weights=work.digest(spec, role))
    number = 0
    while True:
      total: dict[str, list[float]] = {}
      for batch in rows:
        keys = jax.random.split(jax.random.fold_in(run.root, number))
        parts, collected = run.algorithm.collect(ctx, state, batch, keys[0])
        state, metrics = update(state, parts, collected, keys[1])
        number += 1
        for name, pair in jax.device_get(metrics).items():
          sums = total.setdefault(name, [0.0, 0.0])
          sums[:] = (a + float(b) for a, b in zip(sums, pair))
      jax.block_until_ready(state)
      channel.done(**_said(total))


def _said(total):
  """A run's units: pairs of a reward model's, tokens of all others'."""
  units = total["count/tokens"][0]
  if "rankings/accuracy" in total:
    units = total["rankings/accuracy"][1]
  losses = {
    name: s / max(w, 1e-9)
    for name, (s, w) in total.items()
    if name.endswith("/loss")
  }
  return {
    "units": round(units),
    "losses": losses,
    "finite": bool(losses) and all(map(math.isfinite, losses.values())),
    "skipped": total["count/skipped"][0],
    "compile_seconds": compilation.compile_seconds(),
  }


def _ready(channel, ctx, spec, params):
  channel.ready(probe=probed(ctx, params), weights=work.digest(spec))


def _padded(spec):
  prompt, is_prompt = work.left(spec["prompts"], spec["prompt"])
  response, is_response = _right(spec["responses"], spec["response"])
  return {
    "prompt": prompt,
    "is_prompt": is_prompt,
    "response": response,
    "is_response": is_response,
  }


def _packed(spec):
  """Rows of several demonstrations, as the data pipeline packs them."""
  both = list(zip(spec["prompts"], spec["responses"]))
  joined = [[*prompt, *response] for prompt, response in both]
  lengths = np.asarray([len(x) for x in joined])
  row = packing.first_fit(lengths, spec["row"])
  order = np.argsort(row, kind="stable")
  first = np.searchsorted(row[order], np.arange(row.max() + 2))
  pieces = packing.Pieces(
    streams=(np.concatenate(joined).astype(np.int32),),
    stream=np.zeros(len(both), np.int32),
    start=(np.cumsum(lengths) - lengths)[order],
    length=lengths[order].astype(np.int32),
    context=np.asarray([len(p) for p, _ in both], np.int32)[order],
    first=first.astype(np.int64),
    row_length=spec["row"],
    pad_id=0,
    is_packed=True,
  )
  return pieces.take(slice(None))


def _right(rows, width):
  tokens, is_token = work.left([x[::-1] for x in rows], width)
  return tokens[:, ::-1].copy(), is_token[:, ::-1].copy()


def _filled(x, size):
  """With rows of nothing where there are fewer than `size`."""
  return np.concatenate([x, np.zeros((size - len(x), *x.shape[1:]), x.dtype)])


WORKLOADS: dict[str, Callable] = {
  "generate": generate,
  "rl": rl,
  "sft": supervised,
  "rm": ranked,
  "choices": choices,
  "says": says,
}

if __name__ == "__main__":
  compilation.enable_cache()
  channel_lib.serve(WORKLOADS)
