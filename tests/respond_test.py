"""The one sampler: its two doors, its batches, and the end that judges see."""

import dataclasses
import functools
import itertools

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from instruct_jax import tokenizers
from instruct_jax.algorithms import episodes as episodes_lib
from instruct_jax.base import interrupt
from instruct_jax.data.batch import loader
from instruct_jax.inference import (
  batching,
  context,
  encode,
  generate,
  respond,
  score,
)
from instruct_jax.models import heads
from instruct_jax.parallel import sharding
from instruct_jax.tokenizers import templates
from tests import data_toys, processes, toys

PROMPTS = ("a", "bc", "abc", "x", "q")
V, END, OTHER_STOP = 258, tokenizers.ByteTokenizer().eot_id, 7
MODELS = {"policy": heads.LanguageModel, "reward": heads.ScalarModel}


class TwoStops(context.Context):
  """A context whose responses also end with another token."""

  @property
  def stop_ids(self):
    return (END, OTHER_STOP)


@functools.cache
def make(**mesh):
  config = toys.config_of("ppo").unlock()
  config.mesh.update(mesh)
  ctx = toys.make_context(config.lock(), vocab_size=V)
  fields = {f.name: getattr(ctx, f.name) for f in dataclasses.fields(ctx)}
  return TwoStops(**fields)


@functools.cache
def params(role="policy"):
  """Parameters of which a policy ends by either stop token, equally likely."""
  model = MODELS[role](toys.decoder_config(vocab_size=V))
  tree = toys.init_params(model, jax.random.key(0))
  if role == "reward":
    return tree
  table = tree["decoder"]["token_embedding"]["embedding"] * 20
  table = table.at[END].multiply(2)
  table = table.at[OTHER_STOP].set(table[END])
  return tree | {
    "decoder": tree["decoder"] | {"token_embedding": {"embedding": table}}
  }


def say(ctx=None, prompts=PROMPTS, seed=0, **changes):
  policy = respond.policy_of(ctx or make(), params(), **({"rows": 4} | changes))
  return respond.respond(policy, prompts, jax.random.key(seed))


@pytest.mark.parametrize(
  "changes", [{}, {"temperature": 0.0}, {"temperature": 2.0, "top_k": 40}]
)
def test_who_looks_on_sees_the_same_responses_grow(changes):
  policy = respond.policy_of(make(), params(), rows=8, **changes)
  clock = iter(range(1000))
  seen = [
    list(respond.grow(policy, PROMPTS, jax.random.key(0), clock=tick))
    # Chunks of 1, 2, 4 ... tokens, and of one each.
    for tick in (lambda: 0.0, lambda: float(next(clock)))
  ]
  whole = say(rows=8, **changes)
  assert len(seen[1]) == whole.lengths.max()
  if changes.get("temperature") != 0.0:
    assert len(seen[0]) < len(seen[1])
  for steps in seen:
    for one, after in itertools.pairwise(steps):
      for n in range(len(PROMPTS)):
        assert after.texts[n].startswith(one.texts[n].rstrip("\ufffd"))
    assert steps[-1].texts == whole.texts
    for name in ("response", "judged", "is_response", "ended"):
      np.testing.assert_array_equal(
        getattr(steps[-1], name), getattr(whole, name)
      )
  ids = np.asarray([3, 4], np.int32)
  (first, *_) = respond.grow(policy, PROMPTS[3:], jax.random.key(0), ids=ids)
  assert first.texts == seen[1][0].texts[3:]


def test_more_responses_to_a_prompt_leave_those_before_as_they_were():
  policy = respond.policy_of(make(), params(), rows=4)
  key = jax.random.key(0)
  whole = respond.respond(policy, PROMPTS, key, n=5)
  assert len(whole.texts) == 5 * len(PROMPTS)
  for n in (1, 3):
    fewer = respond.respond(policy, PROMPTS, key, n=n)
    for p, _ in enumerate(PROMPTS):
      mine = slice(n * p, n * (p + 1))
      first = slice(5 * p, 5 * p + n)
      assert fewer.texts[mine] == whole.texts[first]
      np.testing.assert_array_equal(fewer.response[mine], whole.response[first])
  of_one = [len(set(whole.texts[5 * p : 5 * p + 5])) for p in range(5)]
  assert min(of_one) > 1  # they are draws of their own


def test_ids_of_responses_are_all_different():
  ids = respond.episodes(10_000, 64)
  assert ids.dtype == np.int32
  assert len(np.unique(ids)) == len(ids)
  np.testing.assert_array_equal(ids[::64], np.arange(10_000))
  # The second of the third prompt: 2 + 2654435769, as an int32.
  assert ids[2 * 64 + 1] == 2 + 2654435769 - 2**32
  np.testing.assert_array_equal(
    respond.episodes(7, 3).reshape(7, 3), ids.reshape(-1, 64)[:7, :3]
  )


def test_texts_tokens_and_ends_tell_the_same():
  ctx, said = make(), say()
  template = ctx.config.data.template
  assert len(said.texts) == len(PROMPTS)
  assert said.prompt.shape == (5, toys.P)
  assert said.response.shape == said.judged.shape == (5, toys.R)
  for n, prompt in enumerate(PROMPTS):
    (ids,) = templates.encode([prompt], ctx.tokenizer, template)
    assert said.prompt[n][said.is_prompt[n]].tolist() == ids
    tokens = said.response[n][said.is_response[n]]
    assert said.ended[n] == (tokens[-1] in ctx.stop_ids)
    assert said.texts[n] == ctx.tokenizer.decode(
      [token for token in tokens.tolist() if token not in ctx.stop_ids]
    )
  np.testing.assert_array_equal(said.lengths, said.is_response.sum(axis=1))


def test_both_doors_give_the_same_tokens():
  said = say(seed=3)
  rows = {
    "prompt": jnp.asarray(said.prompt),
    "is_prompt": jnp.asarray(said.is_prompt),
    "episode": jnp.arange(5),
  }
  policy = respond.policy_of(make(), params())
  generation = respond.respond_to_rows(policy, rows, jax.random.key(3))
  np.testing.assert_array_equal(generation.tokens, said.response)
  np.testing.assert_array_equal(generation.ended, said.ended)


@pytest.mark.parametrize("rows", [1, 2, 3, 64])
def test_the_size_of_a_batch_changes_no_sample(rows):
  np.testing.assert_array_equal(say(rows=rows).response, say().response)


def test_lists_of_any_length_share_a_program():
  say(prompts=PROMPTS[:2])
  before = generate._generate._cache_size()
  for prompts in (PROMPTS[:1], PROMPTS * 40):
    say(prompts=prompts, temperature=0.3)
  assert generate._generate._cache_size() == before


def test_rollouts_of_training_share_the_program_of_lists(monkeypatch):
  # Of 64 prompts 16 slots grow at a time, as of fewer.
  monkeypatch.setattr(respond, "QUEUE", 64)
  ctx = make(data=2)
  said = say(ctx, seed=3, rows=0)
  before = generate._generate._cache_size()
  rows = {"prompt": said.prompt, "is_prompt": said.is_prompt}
  rows = {name: np.concatenate([x, x[:1]]) for name, x in rows.items()}
  key = jax.device_put(jax.random.key(3), sharding.replicated(ctx.mesh))
  with jax.set_mesh(ctx.mesh):
    batch = sharding.global_batch(rows, ctx.mesh)
    batch |= {"episode": jnp.arange(6)}
    policy = respond.policy_of(ctx, params())
    rolled = respond.respond_to_rows(policy, batch, key)
  assert generate._generate._cache_size() == before
  assert rolled.tokens.shape == (6, toys.R)
  np.testing.assert_array_equal(rolled.tokens[:5], said.response)


def test_a_template_shares_the_columns_of_a_little_wider_one(monkeypatch):
  ctx = make()
  world = dataclasses.replace(
    ctx.world, prompted_template="1 {prompt}" + ctx.config.data.template[8:]
  )
  monkeypatch.setattr(context.Context, "world", world)
  policy = respond.policy_of(ctx, params(), rows=4)
  assert policy.width == toys.P
  assert policy.columns == toys.P + 2
  before = say()
  # Two columns are more than a sixth of P + R = 11.
  monkeypatch.setattr(encode, "SPARE", 6)
  assert respond.policy_of(ctx, params()).columns == toys.P
  assert before.texts == say().texts
  np.testing.assert_array_equal(before.prompt, say().prompt)


def test_more_prompts_than_are_asked_at_a_time(monkeypatch):
  whole = say(prompts=PROMPTS * 4)
  monkeypatch.setattr(respond, "QUEUE", 16)
  parts = say(prompts=PROMPTS * 4)
  assert parts.texts == whole.texts
  np.testing.assert_array_equal(parts.response, whole.response)
  nothing = say(prompts=())
  assert nothing.texts == ()
  assert nothing.response.shape == (0, toys.R)


def test_what_comes_after_a_prompt_changes_nothing():
  np.testing.assert_array_equal(
    say(prompts=PROMPTS[:3]).response, say().response[:3]
  )
  assert (say(seed=1).response != say().response).any()


def test_eight_devices_and_their_rounding_change_no_sample():
  ctx = make(data=4, fsdp=2)
  np.testing.assert_array_equal(say(ctx, rows=3).response, say().response)


PROCESSES = """
from tests import respond_test
said = respond_test.say(respond_test.make(data=4), rows=3)
print(said.response.tolist(), said.texts)
"""


@pytest.mark.slow
def test_two_processes_change_no_sample():
  said = say()
  expected = f"{said.response.tolist()} {said.texts}"
  outputs = processes.together(PROCESSES, devices=2)
  assert [x.splitlines()[-1] for x in outputs] == [expected] * 2


def test_settings_reach_the_sampler():
  policy = respond.policy_of(
    make(), params(), temperature=0.5, top_k=3, max_tokens=2
  )
  assert policy.sampling.temperature == 0.5
  assert policy.sampling.top_k == 3
  assert policy.sampling.stop_ids == make().stop_ids
  assert say(max_tokens=2).response.shape == (5, 2)
  greedy = say(prompts=["a"] * 6, temperature=0.0).response
  assert len(np.unique(greedy, axis=0)) == 1
  assert len(np.unique(say(prompts=["a"] * 6).response, axis=0)) > 1
  hot, cold = say(temperature=9.0), say(temperature=0.1)
  assert (hot.response != cold.response).any()


# Batches.


@pytest.mark.parametrize("count", [0, 1, 4, 5, 8])
def test_rows_that_fill_a_batch_up_are_dropped(count):
  sizes = []

  def double(batch):
    sizes.append(len(batch["x"]))
    return {"twice": batch["x"] * 2, "sum": batch["x"].sum(axis=1)}

  x = np.arange(2 * count, dtype=np.int32).reshape(count, 2) + 1
  out = batching.in_batches(double, {"x": x}, make().mesh, rows=4)
  np.testing.assert_array_equal(out["twice"], 2 * x)
  np.testing.assert_array_equal(out["sum"], x.sum(axis=1))
  assert set(sizes) == {4}
  assert len(sizes) == max(1, -(-count // 4))


def test_rows_are_rounded_up_to_the_mesh():
  sizes = []

  def same(batch):
    sizes.append(len(batch["x"]))
    return batch["x"]

  x = np.arange(10)
  mesh = sharding.make_mesh(2, 2, 2)
  np.testing.assert_array_equal(
    batching.in_batches(same, {"x": x}, mesh, rows=5), x
  )
  assert sizes == [8, 8]


@pytest.mark.parametrize("count", [1, 4, 5, 8])
def test_all_rows_of_a_kind_go_through_a_function(count):
  """Also where the mesh has more places than the last batch has rows."""
  table = data_toys.rows_of(
    "prompts",
    [{"prompt": "p" * n} for n in range(1, count + 1)],
    prompt_length=20,
  )
  for mesh, size in ((make().mesh, 3), (sharding.make_mesh(2, 2, 2), 4)):
    sizes = []

    def lengths(batch, sizes=sizes):
      sizes.append(len(batch["prompt"]))
      return {"length": batch["is_prompt"].sum(axis=1), "index": batch["index"]}

    out = batching.of_rows(lengths, table, mesh, rows=3, note="test")
    assert (out["length"] - out["length"][0]).tolist() == list(range(count))
    assert out["index"].tolist() == list(range(count))
    assert sizes == [size] * -(-count // size)


def test_what_goes_through_all_rows_stops_when_it_is_asked_to(monkeypatch):
  table = data_toys.rows_of("prompts", [{"prompt": "p"}] * 3)
  monkeypatch.setattr(interrupt, "requested", lambda: True)
  with pytest.raises(interrupt.Interrupted):
    batching.of_rows(lambda x: x, table, make().mesh, rows=1, note="test")


# One end for judges and reward models.


@functools.cache
def both_ends():
  """Responses of which some ended with each of the stop tokens."""
  said = say(prompts=PROMPTS * 12, rows=60)
  last = said.response[np.arange(60), said.lengths - 1]
  assert (last == OTHER_STOP).sum() > 3
  assert (last == END).sum() > 3
  return said


def canonical(said):
  """The responses, their other stop token replaced by hand."""
  response = np.array(said.response)
  response[response == OTHER_STOP] = END
  return response


def test_judged_has_one_end_and_sequences_what_was_sampled():
  said = both_ends()
  np.testing.assert_array_equal(said.judged, canonical(said))
  np.testing.assert_array_equal(said.sequences["response"], said.response)
  assert (said.judged != said.response).any()
  again = loader.decode_responses(
    canonical(said), said.is_response, make().tokenizer
  )
  assert tuple(again) == said.texts


def scores_of(sequences):
  return np.asarray(
    toys.scores(
      make().scalar, params("reward"), jax.tree.map(jnp.asarray, sequences)
    )
  )


def test_the_reward_of_texts_sees_one_end():
  said, ctx = both_ends(), make()
  expected = scores_of(said.sequences | {"response": canonical(said)})
  actual = score.rewards_of(ctx, params("reward"), PROMPTS * 12, said, rows=16)
  np.testing.assert_allclose(actual, expected, atol=1e-5)
  assert np.abs(expected - scores_of(said.sequences)).max() > 1e-3


def test_the_reward_of_a_rollout_sees_one_end():
  said, ctx = both_ends(), make()
  generation = generate.Generation(
    jnp.asarray(said.response),
    jnp.asarray(said.is_response),
    jnp.asarray(said.ended),
    stop_ids=ctx.stop_ids,
  )
  prompts = {
    "prompt": jnp.asarray(said.prompt),
    "is_prompt": jnp.asarray(said.is_prompt),
    "index": jnp.arange(60),
  }
  networks = {"policy": params(), "value": params("reward")}
  frozen = {"reference": params(), "reward": params("reward")}
  episodes = episodes_lib.score(ctx, networks, frozen, prompts, generation)
  expected = scores_of(said.sequences | {"response": canonical(said)})
  np.testing.assert_allclose(episodes.scores, expected, atol=1e-5)
  np.testing.assert_array_equal(episodes.response, said.response)


def test_rollouts_are_numbered_by_their_row():
  ctx, said = make(), say()
  prompts = {k: jnp.asarray(said.sequences[k]) for k in ("prompt", "is_prompt")}
  generation = episodes_lib.sample(ctx, params(), prompts, jax.random.key(0))
  np.testing.assert_array_equal(generation.tokens, said.response)
