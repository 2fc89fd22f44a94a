"""Best-of-n: what is kept of each group, who answers, and what is learned."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from experiments import best_of_n as experiment
from experiments import expert_iteration, ppo
from instruct_jax import algorithms
from instruct_jax.algorithms import best_of_n, episodes, sft
from instruct_jax.base import errors
from tests import toys

N = 4
GROUPS = toys.B // N


def context_of(**rl):
  return toys.make_context(
    toys.config_of("best_of_n", rl={"group_size": N} | rl)
  )


def kept_of(ctx, recorded):
  """The part's rows, and which recorded episode each of them is."""
  parts, metrics = best_of_n.minibatches(ctx, recorded, {}, jax.random.key(0))
  assert set(parts) == {"demonstrations"}
  rows = {
    name: np.concatenate(np.asarray(x))
    for name, x in parts["demonstrations"].items()
  }
  known = {
    (np.asarray(p).tobytes(), np.asarray(r).tobytes()): b
    for b, (p, r) in enumerate(zip(recorded.prompt, recorded.response))
  }
  pairs = zip(rows["prompt"], rows["response"])
  return sorted(known[p.tobytes(), r.tobytes()] for p, r in pairs), metrics


@pytest.mark.parametrize("missing_end", ["fixed", "none"])
def test_the_best_of_each_group_is_kept_as_missing_ends_are_marked(missing_end):
  ctx = context_of(missing_end=missing_end)
  recorded = toys.recorded(0)
  scores = np.asarray(recorded.scores)
  if missing_end == "fixed":
    scores = np.where(recorded.ended, scores, -1.0)
  expected = []
  for first in range(0, toys.B, N):
    best = first
    for b in range(first, first + N):
      if scores[b] > scores[best]:
        best = b
    expected.append(best)
  found, metrics = kept_of(ctx, recorded)
  assert found == expected
  raw = np.asarray(recorded.scores)
  total, weight = metrics["best/return"]  # of which none is higher
  np.testing.assert_allclose(
    total / weight, scores.reshape(-1, N).max(axis=1).mean(), rtol=1e-5
  )
  total, weight = metrics["objective/return"]
  np.testing.assert_allclose(total / weight, scores.mean(), rtol=1e-5)
  total, weight = metrics["best/score"]
  np.testing.assert_allclose(total / weight, raw[expected].mean(), rtol=1e-5)
  assert float(weight) == GROUPS
  total, weight = metrics["objective/score"]
  np.testing.assert_allclose(total / weight, raw.mean(), rtol=1e-5)
  bound, _ = metrics["objective/kl_bound"]
  np.testing.assert_allclose(bound, np.log(4) - 3 / 4, rtol=1e-6)


def test_the_modes_of_missing_ends_keep_different_ones():
  """What the case above would not tell apart, if they did not."""
  recorded = toys.recorded(0)
  one, other = (
    kept_of(context_of(missing_end=mode), recorded)[0]
    for mode in ("fixed", "none")
  )
  assert one != other


def test_of_equal_scores_the_first_is_kept_and_they_are_counted():
  recorded = toys.recorded(0)
  scores = np.array(recorded.scores)
  scores[:N] = 0.1
  recorded = recorded.replace(scores=scores, ended=np.ones(toys.B, bool))
  found, metrics = kept_of(context_of(), recorded)
  assert found[0] == 0
  total, weight = metrics["groups/zero_std"]
  assert (float(total), float(weight)) == (1.0, GROUPS)
  warned = [
    best_of_n.ALGORITHM.warning(context_of().config, {"groups/zero_std": share})
    for share in (float(total / weight), 1.0)
  ]
  assert warned[0] == ""
  assert "groups/zero_std in metrics.jsonl" in warned[1]


def test_what_fills_a_batch_up_is_kept_as_no_token():
  recorded = toys.recorded(0)
  half = np.arange(toys.B)[:, None] < toys.B // 2
  filled = recorded.replace(is_response=recorded.is_response & half)
  parts, metrics = best_of_n.minibatches(
    context_of(), filled, {}, jax.random.key(0)
  )
  rows = np.concatenate(parts["demonstrations"]["is_response"])
  assert rows.any(axis=1).sum() == GROUPS // 2
  assert float(metrics["best/score"][1]) == GROUPS // 2
  assert float(metrics["count/episodes"][0]) == toys.B // 2


@pytest.mark.parametrize("sampler", best_of_n.SAMPLERS)
def test_who_answers(sampler, monkeypatch):
  """The current policy, or the one that the run began with; the KL that is
  logged is to the one who answers."""
  ctx = context_of(sampler=sampler)
  asked = []

  def sample(ctx, policy, prompts, key):
    del ctx, key
    asked.append((policy, len(prompts["prompt"])))

  def score(ctx, params, frozen, prompts, generation):
    assert (params, frozen) == (state.params, state.frozen)
    return toys.recorded(0)

  monkeypatch.setattr(episodes, "sample", sample)
  monkeypatch.setattr(episodes, "score", score)
  state = algorithms.State(
    *(jnp.int32(0), {"policy": "now"}, {}, {}),
    *({"reference": "start", "reward": "judge"}, {}, {}),
  )
  prompts = toys.prompts(0, GROUPS)
  _, metrics = best_of_n.collect(
    ctx, state, {"prompts": prompts}, jax.random.key(0)
  )
  assert asked == [({"policy": "now", "start": "start"}[sampler], toys.B)]
  recorded = toys.recorded(0)
  kl = (recorded.logprobs - recorded.ref_logprobs) * recorded.is_response
  expected = kl.sum() / toys.B
  if sampler == "start":
    assert "objective/kl" not in metrics
    expected, (total, weight) = -expected, metrics["objective/kl_reverse"]
  else:
    total, weight = metrics["objective/kl"]
  np.testing.assert_allclose(total / weight, expected, rtol=1e-4)


def test_what_is_kept_is_learned_as_a_demonstration():
  ctx = context_of(ptx_coef=0.5)
  policy = toys.checkpoints(ctx)["policy"]
  rows, text = toys.batch("sft", 0)["demonstrations"], toys.text(0)
  minibatch = {"demonstrations": rows, "ptx": text}
  terms, _ = toys.compiled(best_of_n.loss)(
    ctx, {"policy": policy}, {}, minibatch, None
  )
  for part, kind, coefficient in (
    ("demonstrations", "demonstrations", 1.0),
    ("ptx", "pretraining", 0.5),
  ):
    plain = toys.compiled(sft.PARTS[kind])
    expected = plain(ctx, policy, minibatch[part], None)
    np.testing.assert_allclose(terms[part], (*expected, coefficient), rtol=1e-6)


@pytest.mark.parametrize(
  ("changes", "message"),
  [
    ({"rl.group_size": 1}, "the best of one response is that response"),
    ({"rl.sampler": "polcy"}, "Did you mean 'policy'"),
    ({"rl.missing_end": "fix"}, "Did you mean 'fixed'"),
    ({"rl.ptx_coef": 0.3}, r"config\.batch\.pretraining=0: .* give both"),
    ({"mesh.data": 3}, "config.batch.prompts / "),
  ],
)
def test_what_cannot_be_chosen_from_is_refused(changes, message):
  config = experiment.get_config("test").unlock()
  best_of_n.check(config)
  config.update_from_flattened_dict(changes)
  with pytest.raises(errors.UserError, match=message):
    best_of_n.check(config)


@pytest.mark.parametrize("module", [experiment, expert_iteration])
def test_what_is_shown_is_logged(module):
  config = module.get_config("test")
  sampler = config.rl.sampler
  _, metrics = kept_of(context_of(sampler=sampler), toys.recorded(0))
  assert set(config.show) <= set(metrics)


def test_as_many_episodes_as_ppo():
  for variant in ppo.VARIANTS:
    config, other = experiment.get_config(variant), ppo.get_config(variant)
    each = config.batch.prompts * config.rl.group_size
    assert each == other.batch.prompts
    assert config.steps == other.steps
