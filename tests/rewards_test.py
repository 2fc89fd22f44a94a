"""The terms of the reward: each by hand, their sum, and through all of PPO."""

import dataclasses
import sys

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from etils import epath

from experiments import dpo as dpo_experiment
from experiments import overoptimization, sft_epochs
from experiments import ppo as ppo_experiment
from instruct_jax.algorithms import episodes, ppo
from instruct_jax.base import errors
from instruct_jax.inference import respond, rewards, score
from instruct_jax.models import heads
from instruct_jax.parallel import sharding
from instruct_jax.runs import answers, digests, needed, plan
from instruct_jax.training import loop, step
from tests import toys

OFF = {"reward.model.weight": 0.0}
BY_WORDS = OFF | {"reward.words.weight": 1.0, "reward.words.words": ("happy",)}


def config_of(changes, **sections):
  config = toys.config_of("ppo", **sections).unlock()
  config.update_from_flattened_dict(changes)
  return config.lock()


def context_of(changes, **sections):
  return toys.make_context(config_of(changes, **sections))


def sequences(ctx, texts, width=32):
  """The texts as responses to the prompt 'x', right-padded."""
  rows = [ctx.tokenizer.encode(text) for text in texts]
  response = np.zeros((len(rows), width), np.int32)
  for row, ids in zip(response, rows):
    row[: len(ids)] = ids
  lengths = np.asarray([len(ids) for ids in rows])
  prompt = np.asarray([ctx.tokenizer.encode("x")] * len(rows), np.int32)
  return {
    "prompt": prompt,
    "is_prompt": np.ones(prompt.shape, bool),
    "response": response,
    "is_response": np.arange(width) < lengths[:, None],
  }


TEXTS = ("a HAPPY dog", "happy happy happy", "unhappy hugs", "hug, happy!", "")


def test_each_listed_word_counts_once():
  ctx = context_of(BY_WORDS | {"reward.words.words": ("happy", "Hug")})
  terms = rewards.scores(ctx, None, sequences(ctx, TEXTS))
  assert set(terms) == {"words"}
  np.testing.assert_array_equal(terms["words"], [1, 1, 0, 2, 0])
  assert terms["words"].dtype == jnp.float32


def test_each_process_judges_its_own_rows(monkeypatch):
  """Two processes share four responses; here speaks the second."""
  ctx = context_of(BY_WORDS)
  judged = rewards.Judged(ctx, None, sequences(ctx, TEXTS[:4]))
  monkeypatch.setattr(rewards.jax, "process_count", lambda: 2)
  monkeypatch.setattr(rewards.jax, "process_index", lambda: 1)
  monkeypatch.setattr(rewards.hosts, "fetch", lambda tree: tree)
  assert judged.texts == (["x", "x"], list(TEXTS[2:4]))
  placed = []
  monkeypatch.setattr(
    rewards.sharding, "global_batch", lambda x, mesh: placed.append((x, mesh))
  )
  judged.by_text([1.0, 2.0])
  ((scores, mesh),) = placed
  np.testing.assert_array_equal(scores, [1.0, 2.0])
  assert mesh is ctx.mesh
  monkeypatch.setattr(rewards.jax, "process_count", lambda: 1)
  np.testing.assert_array_equal(judged.by_text([3.0]), [3.0])
  assert len(placed) == 1


def test_a_reward_of_texts_is_the_sum_of_its_terms():
  """In batches of another size, as evaluations and `sample` ask for it."""
  ctx = context_of(
    BY_WORDS | {"reward.words.weight": 2.0, "reward.length.weight": 1.0}
  )
  batch = sequences(ctx, TEXTS, 20)
  said = respond.Responses(
    TEXTS, np.ones(5, bool), judged=batch["response"], **batch
  )
  terms = score.terms_of(ctx, None, ["x"] * 5, said, rows=3)
  np.testing.assert_array_equal(terms["words"], [1, 1, 0, 1, 0])
  np.testing.assert_allclose(
    score.rewards_of(ctx, None, ["x"] * 5, said, rows=3),
    2 * terms["words"] + terms["length"],
  )
  none = dataclasses.replace(said, judged=said.judged[:0], texts=())
  empty = score.terms_of(ctx, None, [], none, rows=3)
  assert {name: x.shape for name, x in empty.items()} == {
    "words": (0,),
    "length": (0,),
  }


def test_what_is_masked_is_not_read():
  ctx = context_of(BY_WORDS)
  batch = sequences(ctx, ["sad happy"])
  batch["is_response"] = np.arange(32)[None] < 4
  assert float(rewards.scores(ctx, None, batch)["words"][0]) == 0


@pytest.mark.parametrize(
  ("free", "expected"), [(0, [-0.2, -0.6, -1]), (3, [0, 0, -1])]
)
def test_length_by_hand(free, expected):
  """Of 5 tokens at most, the free ones left out: 1, 3 and 5 tokens."""
  ctx = context_of(
    OFF | {"reward.length.weight": 0.1, "reward.length.free": free}
  )
  terms = rewards.scores(ctx, None, sequences(ctx, ("a", "abc", "abcde"), 5))
  np.testing.assert_allclose(terms["length"], expected, rtol=1e-6)
  total = rewards.total(ctx.config.reward, terms)
  np.testing.assert_allclose(total, 0.1 * np.asarray(expected), rtol=1e-6)


@pytest.fixture
def module(tmp_path, monkeypatch):
  """Writes a module of somebody's own: its import path."""
  monkeypatch.syspath_prepend(str(tmp_path))

  def write(body, name="my_rewards"):
    (tmp_path / f"{name}.py").write_text(body)
    monkeypatch.delitem(sys.modules, name, raising=False)
    return name

  return write


def test_the_total_is_the_weighted_sum_of_all_terms(module):
  name = module(
    "def score(prompts, responses):\n"
    "  assert prompts == ['x'] * 5 and isinstance(responses, list)\n"
    "  return [10.0 * len(text) for text in responses]\n"
  )
  ctx = context_of(
    {
      "reward.model.weight": 0.5,
      "reward.words.weight": 2.0,
      "reward.words.words": ("happy",),
      "reward.length.weight": -1.0,
      "reward.function.weight": 3.0,
      "reward.function.path": f"{name}:score",
    }
  )
  params = toys.init_params(ctx.scalar, jax.random.key(0))
  batch = sequences(ctx, TEXTS)
  terms = rewards.scores(ctx, params, batch)
  lengths = np.asarray([len(text) for text in TEXTS])
  alone = toys.scores(ctx.scalar, params, batch)
  np.testing.assert_allclose(terms["model"], alone, rtol=1e-5)
  np.testing.assert_array_equal(terms["function"], 10 * lengths)
  total = rewards.total(ctx.config.reward, terms)
  limit = ctx.config.data.response_length
  words = np.asarray([1, 1, 0, 1, 0])
  expected = 0.5 * alone + 2 * words + lengths / limit + 30 * lengths
  np.testing.assert_allclose(total, expected, rtol=1e-5)
  only = score.model_scores(ctx, params, batch, rows=5)
  np.testing.assert_allclose(only, alone, rtol=1e-5)
  # Batches of all sizes are one program, but where it had to read fewer rows.
  sizes = []
  for rows in (16, 40, rewards.TOGETHER):
    few = score.model_scores(ctx, params, batch, rows=rows)
    np.testing.assert_allclose(few, alone, rtol=1e-5)
    sizes.append(rewards._model_scores._cache_size())
  assert sizes == sizes[:1] * 3


@pytest.mark.parametrize(
  ("body", "message"),
  [
    ("def f(p, r): return [1.0]", r"shape \(1,\) for 5 responses"),
    ("def f(p, r): return [float('nan')] * 5", "returned nan for .*HAPPY"),
    ("def f(p, r): raise KeyError('no')", "failed on 5 .*KeyError: 'no'"),
    ("def f(p, r): return ['good'] * 5", "ValueError: could not convert"),
    ("def f(p): return [0.0] * 5", "TypeError"),
  ],
)
def test_what_a_function_does_wrong_is_named(module, body, message):
  path = f"{module(body)}:f"
  ctx = context_of(OFF | {"reward.function.path": path})
  with pytest.raises(errors.UserError, match=message) as caught:
    rewards.scores(ctx, None, sequences(ctx, TEXTS))
  assert f"config.reward.function.path={path}" in str(caught.value)


@pytest.mark.parametrize(
  ("changes", "message"),
  [
    (OFF, "every weight is 0"),
    ({"reward.model.weight": float("nan")}, "model.weight=nan: must be finite"),
    (OFF | {"reward.words.weight": 1.0}, r"reward\.words\.words is empty"),
    ({"reward.length": {"weight": 1.0, "free": 5}}, "free=5: .*less than .*=5"),
    (
      {"reward.function.path": "a.b"},
      "name a function as my_package",
    ),
    ({"reward.function.path": "no.such:f"}, "there is no module 'no.such'"),
    ({"reward.function.path": "math:squrt"}, "Did you mean 'sqrt'"),
    ({"reward.function.path": "math:pi"}, "is no function but 3.14"),
  ],
)
def test_a_reward_that_cannot_be_is_named(changes, message):
  config = config_of({}).unlock()
  for key, value in changes.items():
    *path, name = key.split(".")
    section = config
    for part in path:
      section = section[part]
    section[name] = value
  with pytest.raises(errors.UserError, match=message):
    rewards.check(config)


def test_a_section_of_old_is_named():
  config = toys.config_of("ppo").unlock()
  config.reward.kind = "words"
  with pytest.raises(errors.UserError, match=r"reward\.kind is no term"):
    rewards.check(config)


def test_a_module_that_cannot_be_imported_is_named(module):
  path = f"{module('raise RuntimeError(1)')}:f"
  with pytest.raises(errors.UserError, match="RuntimeError: 1"):
    rewards.check(config_of({"reward.function.path": path}))


def test_a_weight_of_zero_asks_no_one(module):
  """Neither the function, which would fail, nor the model, without weights."""
  path = f"{module('def f(p, r): raise KeyError')}:f"
  ctx = context_of(
    BY_WORDS | {"reward.function.path": path, "reward.function.weight": 0.0}
  )
  assert not rewards.needs_model(ctx.config.reward)
  assert set(rewards.scores(ctx, None, sequences(ctx, TEXTS))) == {"words"}


def test_ppo_without_a_model_starts_its_values_from_the_policy():
  ctx = context_of(BY_WORDS | {"reward.length.weight": 0.5})
  policy = toys.init_params(ctx.policy, jax.random.key(0))
  params, frozen, _ = toys.compiled(ppo.init)(
    ctx, jax.random.key(1), {"policy": policy}
  )
  jax.tree.map(
    np.testing.assert_array_equal,
    params["value"]["decoder"],
    policy["decoder"],
  )
  assert params["value"]["head"]["kernel"].shape == (16, 1)
  assert set(frozen) == {"reference"}
  prompts = toys.batch("ppo", 0)["prompts"]
  generation = episodes.sample(ctx, policy, prompts, jax.random.key(2))
  word = jnp.asarray(ctx.tokenizer.encode("happy"), jnp.int32)[: toys.R]
  tokens = jnp.broadcast_to(word, generation.tokens.shape)
  spoken = dataclasses.replace(
    generation, tokens=tokens, is_response=jnp.ones(tokens.shape, bool)
  )
  scored = episodes.score(ctx, params, frozen, prompts, spoken)
  np.testing.assert_array_equal(scored.scores, np.full(toys.B, 1 - 0.5))
  _, metrics = ppo.minibatches(
    ctx, scored, jnp.float32(0), {}, jax.random.key(0)
  )
  for name, mean in (("words", 1.0), ("length", -1.0)):
    total, weight = metrics[f"reward/{name}"]
    assert float(total / weight) == mean
  total, weight = metrics["objective/score"]
  assert float(total / weight) == 0.5


def several(ctx, count, batch):
  """As many reward models, by whose biases the rows score 0 on average."""
  found = []
  for seed in range(count):
    tree = toys.init_params(ctx.scalar, jax.random.key(seed))
    mean = np.mean(toys.scores(ctx.scalar, tree, batch))
    head = tree["head"] | {"bias": tree["head"]["bias"] - mean}
    found.append(tree | {"head": head})
  return tuple(found)


WORST = {"reward.model.combine": "worst"}


@pytest.mark.parametrize(
  ("changes", "combined"), [({}, np.mean), (WORST, np.min)]
)
def test_several_models_judge_together(changes, combined):
  ctx = context_of(changes | {"reward.model.weight": 2.0})
  batch = sequences(ctx, TEXTS)
  models = several(ctx, 3, batch)
  each = np.stack([toys.scores(ctx.scalar, x, batch) for x in models])
  assert len(set(each.argmin(axis=0))) > 1  # not one model for all
  terms = rewards.scores(ctx, models, batch)
  np.testing.assert_allclose(
    terms["model"], combined(each, axis=0), rtol=1e-5, atol=1e-6
  )
  total = rewards.total(ctx.config.reward, terms)
  np.testing.assert_allclose(
    total, 2 * combined(each, axis=0), rtol=1e-5, atol=1e-6
  )
  evaluated = score.model_scores(ctx, models, batch, rows=2)
  np.testing.assert_allclose(evaluated, terms["model"], rtol=1e-5, atol=1e-6)


def two_models(ctx):
  """(a run of PPO, its state, what it started from) on two reward models."""
  first, second = several(ctx, 2, toys.recorded(0).sequences)
  policy = toys.init_params(ctx.policy, jax.random.key(7))
  given = {"policy": policy, "reward": first, "reward_2": second}
  return *step.setup(ctx, ppo.ALGORITHM, 3, dict(given)), given


def test_the_score_of_an_episode_is_the_worst_case_of_two():
  """Each model is held once, laid out by the table; the value network starts
  from the first."""
  ctx = context_of(WORST, mesh={"data": 1, "fsdp": 2, "tensor": 2})
  with jax.set_mesh(ctx.mesh):
    _, state, given = two_models(ctx)
    models = given["reward"], given["reward_2"]
    layout = sharding.place(models[0], ctx.mesh, heads.RULES)
    for held, model in zip(state.frozen["reward"], models, strict=True):
      laid_out = jax.tree.map(
        lambda x, s: x.sharding.is_equivalent_to(s, x.ndim), held, layout
      )
      assert all(jax.tree.leaves(laid_out))
      jax.tree.map(np.testing.assert_array_equal, held, model)
    value = state.params["value"]
    jax.tree.map(np.testing.assert_array_equal, value, models[0])
    rows = toys.recorded(0).sequences
    terms = rewards.scores(
      ctx, state.frozen["reward"], sharding.global_batch(rows, ctx.mesh)
    )
  each = [toys.scores(ctx.scalar, x, rows) for x in models]
  np.testing.assert_allclose(terms["model"], np.minimum(*each), atol=1e-4)
  assert (each[0] < each[1]).any()
  assert (each[0] > each[1]).any()


@pytest.mark.slow
def test_ppo_takes_a_step_on_the_worst_case_of_two():
  ctx = context_of(WORST)
  with jax.set_mesh(ctx.mesh):
    run, state, given = two_models(ctx)
    before = jax.device_get(state.params)
    batch = sharding.global_batch(toys.batch("ppo", 0), ctx.mesh)
    key = jax.random.key(0)
    generation = episodes.sample(
      ctx, state.params["policy"], batch["prompts"], key
    )
    scored = episodes.score(
      ctx, state.params, state.frozen, batch["prompts"], generation
    )
    judged = jax.device_get(
      {k: batch["prompts"][k] for k in ("prompt", "is_prompt")}
      | {
        "response": generation.judged,
        "is_response": generation.is_response,
      }
    )
    each = [
      toys.scores(ctx.scalar, given[name], judged)
      for name in ("reward", "reward_2")
    ]
    np.testing.assert_allclose(scored.scores, np.minimum(*each), atol=1e-4)
    collected = ppo.collect(ctx, state, batch, key)
    state, metrics = step.compiled(run)(state, *collected, key)
  assert float(metrics["count/skipped"][0]) == 0
  assert all(np.isfinite(float(total)) for total, _ in metrics.values())
  moved = jax.tree.map(
    lambda a, b: np.abs(a - b).sum(), before, jax.device_get(state.params)
  )
  assert all(sum(jax.tree.leaves(moved[role])) > 0 for role in before)


def test_reward_models_are_named_with_commas(tmp_path):
  config = ppo_experiment.get_config("test").unlock()
  config.needs.reward = "rm.py:test, rm_folds.py:rm-test-fold1"
  source = epath.Path(ppo_experiment.__file__)

  def planned(**changes):
    config.update_from_flattened_dict(changes)
    return plan.plan(
      config.copy_and_resolve_references(), source, epath.Path(tmp_path), {}
    )

  mean = planned()
  folders = {name: need.folder.name for name, need in mean.needs.items()}
  assert folders["reward"] == "rm-test"
  assert folders["reward_2"] == "rm-test-fold1"
  worst = planned(**WORST)
  assert worst.digest != mean.digest
  config.needs.reward = "rm.py:test"
  one = planned(**WORST)
  assert one.digest == planned(**{"reward.model.combine": "mean"}).digest


@pytest.mark.parametrize(
  ("changes", "message"),
  [
    ({"needs.reward": "rm.py:test,sft.py:test"}, r"sft\.py:test: hands on pol"),
    ({"needs.reward": "rm.py:test,,"}, r"config\.needs\.reward .* is empty"),
    ({"needs.reward": "rm.py:test,/no/run"}, r"config\.needs\.reward.*/no/run"),
    (
      {"needs.reward": "rm.py:test,rm.py:test"}
      | {"reward.model.combine": "wurst"},
      "Did you mean 'worst'",
    ),
  ],
)
def test_reward_models_that_cannot_judge_together(changes, message, tmp_path):
  config = ppo_experiment.get_config("test").unlock()
  config.update_from_flattened_dict(changes)
  source = epath.Path(ppo_experiment.__file__)
  with pytest.raises(errors.UserError, match=message):
    plan.plan(config, source, epath.Path(tmp_path), {})


def test_reward_models_that_only_the_evaluation_asks(tmp_path):
  """DPO learns from rankings: how scores are combined trains nothing anew."""
  config = dpo_experiment.get_config("test").unlock()
  config.needs.reward = "rm.py:test,rm_folds.py:rm-test-fold1"
  source = epath.Path(ppo_experiment.__file__)
  found = {}
  for how in ("mean", "worst"):
    config.reward.model.combine = how
    given = config.copy_and_resolve_references()
    stage = plan.plan(given, source, epath.Path(tmp_path), {})
    assert {"reward", "reward_2"} <= needed.needs_of_evaluation(stage.config)
    found[how] = stage.digest, digests.of_evaluation(stage.config, stage.needs)
  assert found["mean"][0] == found["worst"][0]
  assert found["mean"][1] != found["worst"][1]


@pytest.mark.parametrize("module", [sft_epochs, overoptimization])
def test_what_is_measured_with_several_depends_on_how(module, tmp_path):
  config = module.get_config("test").unlock()
  config.needs.reward = "rm.py:test,rm_folds.py:rm-test-fold1"
  source = epath.Path(ppo_experiment.__file__)
  found = set()
  for how in ("mean", "worst"):
    config.reward.model.combine = how
    given = config.copy_and_resolve_references()
    found.add(plan.plan(given, source, epath.Path(tmp_path), {}).digest)
  assert len(found) == 2


@pytest.mark.parametrize("weight", [0.0, 1.0])
def test_a_reward_model_is_needed_where_it_has_a_weight(tmp_path, weight):
  config = ppo_experiment.get_config("test").unlock()
  config.reward.length.weight = 0.1
  config.reward.model.weight = weight
  source = epath.Path(ppo_experiment.__file__)
  stage = plan.plan(config, source, epath.Path(tmp_path), {})
  assert ("reward" in stage.needs) == bool(weight)


def test_a_reward_model_that_is_missing_is_named():
  config = toys.config_of("ppo").unlock()
  del config.needs.reward
  with pytest.raises(
    errors.UserError, match=r"config\.reward\.model\.weight=0"
  ):
    loop.check(config)


def test_several_terms_are_shown_beside_their_sum():
  response = answers.Response(
    "yes", True, 1.25, {"model": 1.5, "length": -0.25}
  )
  assert str(response) == "yes  (+1.25 = model +1.50, length -0.25)"
  assert (
    str(answers.Response("yes", True, 1.5, {"model": 1.5})) == "yes  (+1.50)"
  )
  assert str(answers.Response("yes", True)) == "yes"
