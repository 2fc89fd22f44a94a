"""DPO against a loop over pairs; its reference, computed once for the data."""

import functools
import weakref

import jax
import numpy as np
import pytest
from etils import epath
from ml_collections import ConfigDict

from experiments import dpo as experiment
from instruct_jax import algorithms
from instruct_jax.algorithms import dpo
from instruct_jax.base import errors, interrupt, logged
from instruct_jax.data.batch import loader
from instruct_jax.data.batch import rows as rows_lib
from instruct_jax.models import forward
from instruct_jax.parallel import digest
from instruct_jax.runs import config_checks, digests, needed
from instruct_jax.training import loop, save
from tests import processes, toys

BETA = 0.3


def make(mesh=(1, 1), **section):
  """A context of a toy run, with these keys of `config.dpo`."""
  config = toys.config_of("dpo").unlock()
  config.dpo.beta = BETA
  config.dpo.update(section)
  config.mesh.data, config.mesh.fsdp = mesh
  return toys.make_context(config.lock())


def table(seed=0, rows=toys.B, **arrays):
  """The rankings of a toy batch as a whole data set."""
  batch = toys.batch("rm", seed, rows)["rankings"]
  kept = {name: batch[name] for name in ("prompt", "response", "ranks")}
  kept["prompt_length"] = batch["is_prompt"].sum(axis=1)
  kept["response_length"] = batch["is_response"].sum(axis=2)
  kept["response_length"] *= batch["is_completion"]
  kept["beats"] = batch["beats"]
  index = np.arange(rows, dtype=np.int32)
  return rows_lib.Rows(
    "rankings", rows_lib.Padded(kept | arrays), index, {}, ()
  )


@pytest.fixture(scope="module")
def run():
  ctx = make()
  return ctx, toys.checkpoints(ctx)["policy"]


@functools.cache
def _logits_of(ctx):
  return jax.jit(functools.partial(forward.response_logits, ctx.policy))


def alone(ctx, policy, rows):
  """log π [B][K] of every completion, beside its own copy of the prompt."""
  found = np.zeros(rows["is_completion"].shape)
  for b, k in zip(*np.nonzero(rows["is_completion"])):
    one = {name: rows[name][b : b + 1] for name in ("prompt", "is_prompt")}
    one |= {n: rows[n][b, k][None] for n in ("response", "is_response")}
    logits = np.asarray(_logits_of(ctx)(policy, one), np.float64)[0]
    for t in np.flatnonzero(rows["is_response"][b, k]):
      row = logits[t] - logits[t].max()
      found[b, k] += row[rows["response"][b, k, t]] - np.log(np.exp(row).sum())
  return found


def with_circles(rows):
  """Two prompts whose labelers gave pairs: a circle, and the same both ways."""
  beats = rows["beats"].copy()
  b, c = np.flatnonzero(rows["is_completion"].sum(axis=1) > 2)[:2]
  beats[b], beats[c] = False, False
  beats[b, [0, 1, 2], [1, 2, 0]] = True
  beats[c, [0, 1], [1, 0]] = True
  return rows | {"beats": beats}


def log_sigmoid(x):
  return -np.log1p(np.exp(-x))


PAIRS = {  # loss and smoothing -> of h, TRL's `logits` of a pair
  ("sigmoid", 0.0): lambda h: -log_sigmoid(BETA * h),
  ("sigmoid", 0.2): lambda h: (
    -0.8 * log_sigmoid(BETA * h) - 0.2 * log_sigmoid(-BETA * h)
  ),
  ("ipo", 0.0): lambda h: (h - 1 / (2 * BETA)) ** 2,
}


@pytest.mark.parametrize("per_token", [False, True])
@pytest.mark.parametrize(("name", "smoothing"), PAIRS)
def test_the_loss_by_a_loop_over_pairs(run, name, smoothing, per_token):
  policy = run[1]
  ctx = make(loss=name, label_smoothing=smoothing, per_token=per_token)
  rows = with_circles(toys.batch("dpo", 0)["rankings"])
  terms, metrics = jax.jit(dpo.loss, static_argnums=0)(
    ctx, {"policy": policy}, {}, {"rankings": rows}, None
  )
  logprobs = alone(run[0], policy, rows)
  ratios = (logprobs - rows["ref_logprobs"]) * rows["is_completion"]
  lengths = np.maximum(rows["is_response"].sum(axis=2), 1)
  h = ratios / lengths if per_token else ratios
  total, pairs, right, won, lost, likely = 0.0, 0, 0.0, 0.0, 0.0, 0.0
  log_loss = 0.0
  for b in range(toys.B):
    count = rows["is_completion"][b].sum()
    for w, l in zip(*np.nonzero(rows["beats"][b])):
      pair = PAIRS[name, smoothing](h[b, w] - h[b, l])
      total += pair / (count * (count - 1) / 2)
      pairs, right = pairs + 1, right + (h[b, w] > h[b, l])
      won, lost = won + BETA * h[b, w], lost + BETA * h[b, l]
      likely += logprobs[b, w]
      log_loss -= log_sigmoid(BETA * (h[b, w] - h[b, l]))
  assert terms["rankings"][1] == toys.B
  np.testing.assert_allclose(terms["rankings"][0], total, rtol=1e-4)
  found = {name: float(s) for name, (s, _) in metrics.items()}
  weights = {name: float(w) for name, (_, w) in metrics.items()}
  assert {x.dtype for x in jax.tree.leaves(metrics)} == {np.dtype("float32")}
  assert weights["rewards/margin"] == weights["rewards/accuracy"] == pairs
  np.testing.assert_allclose(
    [found[f"rewards/{x}"] for x in ("accuracy", "chosen", "rejected")],
    [right, won, lost],
    rtol=1e-4,
  )
  np.testing.assert_allclose(found["rewards/margin"], won - lost, rtol=1e-3)
  np.testing.assert_allclose(found["logprobs/chosen"], likely, rtol=1e-4)
  assert weights["rankings/log_loss"] == pairs
  np.testing.assert_allclose(found["rankings/log_loss"], log_loss, rtol=1e-4)
  np.testing.assert_allclose(
    found["policy/forward_kl"], -ratios.sum(), rtol=1e-3
  )
  assert weights["policy/forward_kl"] == rows["is_completion"].sum()
  tokens = rows["is_response"].sum()
  assert weights["policy/forward_kl_per_token"] == tokens
  assert found["count/tokens"] == tokens + rows["is_prompt"].sum()


def test_each_completion_is_computed_once(run, monkeypatch):
  """One pass over B prompts with K completions each, whatever the pairs."""
  ctx, policy = run
  shapes = []
  model = ctx.policy.__class__
  apply = model.apply

  def counted(self, params, tokens, *rest, **more):
    shapes.append(tokens.shape)
    return apply(self, params, tokens, *rest, **more)

  monkeypatch.setattr(model, "apply", counted)
  rows = {"rankings": toys.batch("dpo", 0)["rankings"]}
  jax.eval_shape(lambda p: dpo.loss(ctx, {"policy": p}, {}, rows, None), policy)
  assert shapes == [(toys.B, toys.P + toys.K * toys.R)]


def test_what_stands_in_the_padding_changes_nothing(run):
  ctx, policy = run
  rows = toys.batch("dpo", 0)["rankings"]
  real = rows["is_completion"]
  noise = np.random.default_rng(9).integers(3, toys.V, rows["response"].shape)
  other = rows | {
    "response": np.where(rows["is_response"], rows["response"], noise),
    "prompt": np.where(rows["is_prompt"], rows["prompt"], 5),
    "ref_logprobs": np.where(real, rows["ref_logprobs"], np.nan),
  }
  other = {
    n: x.astype(rows[n].dtype) if n in rows else x for n, x in other.items()
  }
  loss = jax.jit(dpo.loss, static_argnums=0)
  found = [
    loss(ctx, {"policy": policy}, {}, {"rankings": x}, None)
    for x in (rows, other)
  ]
  for one, two in zip(*map(jax.tree.leaves, found)):
    np.testing.assert_allclose(one, two, rtol=1e-5)


def test_text_is_mixed_in_by_its_coefficient():
  ctx = make(ptx_coef=0.7)
  policy = toys.checkpoints(ctx)["policy"]
  rows = {"pretraining": toys.text(0)}
  terms, _ = toys.compiled(dpo.loss)(ctx, {"policy": policy}, {}, rows, None)
  total, weight, coefficient = terms["pretraining"]
  assert (float(weight), coefficient) == (toys.B * (toys.T - 1), 0.7)
  logits = toys.token_logits(ctx.policy, policy, *rows["pretraining"].values())
  logprobs = np.asarray(jax.nn.log_softmax(logits))
  tokens = rows["pretraining"]["tokens"][:, 1:]
  plain = -np.take_along_axis(
    np.asarray(logprobs), tokens[..., None], axis=2
  ).sum()
  np.testing.assert_allclose(total, plain, rtol=1e-5)


# The reference, computed once.


@pytest.mark.parametrize("mesh", [(1, 1), (4, 2)])
def test_columns_are_what_the_reference_says_of_each_completion(run, mesh):
  """Also in batches that do not divide the rows."""
  ctx = make(mesh)
  rows = table(rows=11)
  found = dpo.columns(ctx, toys.checkpoints(ctx), {"rankings": rows})
  expected = alone(run[0], run[1], rows.take(slice(None)))
  assert list(found) == ["rankings"]
  assert list(found["rankings"]) == ["ref_logprobs"]
  np.testing.assert_allclose(
    found["rankings"]["ref_logprobs"], expected, rtol=1e-4, atol=1e-5
  )
  assert dpo.columns(ctx, {}, {}) == {}


def spread_out():
  """What the reference says, on all devices of all processes."""
  ctx = make((jax.device_count(), 1))
  rows = {"rankings": table(rows=11)}
  found = dpo.columns(ctx, toys.checkpoints(ctx), rows)
  return found["rankings"]["ref_logprobs"].round(3).tolist()


@pytest.mark.slow
def test_two_processes_have_the_same_columns():
  program = "from tests import dpo_test\nprint(dpo_test.spread_out())"
  said = processes.together(program, devices=2)
  one, two = (text.splitlines()[-1] for text in said)  # below Gloo's lines
  assert one == two
  here = make()
  found = dpo.columns(
    here, toys.checkpoints(here), {"rankings": table(rows=11)}
  )
  np.testing.assert_allclose(
    np.asarray(eval(one)), found["rankings"]["ref_logprobs"], atol=2e-3
  )


def test_rankings_without_a_pair_are_refused(run):
  ctx, policy = run
  rows = table(beats=np.zeros((toys.B, toys.K, toys.K), bool))
  with pytest.raises(errors.UserError, match="not one of 16 rankings prefers"):
    dpo.columns(ctx, {"policy": policy}, {"rankings": rows})


def train(monkeypatch, folder, stop_at=0):
  """Four steps of a toy run: (its state, what of the start was left)."""
  config = make().config.copy_and_resolve_references().unlock()
  config.epochs, config.samples, config.save_every = 2, 0, 1
  config.batch.rankings = config.validation.rankings = toys.B // 2
  ctx = toys.make_context(config.lock())
  monkeypatch.setattr(
    loader,
    "make",
    lambda _, __, kind, split, *___, **____: table(
      {"train": 0, "validation": 5}[split]
    ),
  )
  checkpoints = toys.checkpoints(ctx)
  held = [weakref.ref(x) for x in jax.tree.leaves(checkpoints)]
  left, after = [], save.Saver.__call__

  def look(self, done):
    left.append(sum(x() is not None and not x().is_deleted() for x in held))
    monkeypatch.setattr(interrupt, "requested", lambda: done.number == stop_at)
    after(self, done)

  with monkeypatch.context() as patch:
    patch.setattr(save.Saver, "__call__", look)
    outcome = loop.train(ctx, epath.Path(folder), checkpoints)
  assert checkpoints == {}
  return outcome.state, left


@pytest.mark.slow
def test_training_keeps_no_reference_and_resumes_bit_for_bit(
  monkeypatch, tmp_path
):
  whole, left = train(monkeypatch, tmp_path / "whole")
  assert left == [0] * 4
  assert whole.frozen == {}
  with pytest.raises(interrupt.Interrupted):
    train(monkeypatch, tmp_path / "twice", stop_at=2)
  monkeypatch.setattr(interrupt, "requested", lambda: False)
  again, left = train(monkeypatch, tmp_path / "twice")
  assert len(left) == 2
  assert digest.of(whole.params) == digest.of(again.params)
  one, two = (
    logged.read_metrics(epath.Path(tmp_path / name))
    for name in ("whole", "twice")
  )
  timed = ("seconds/", "rate/", "memory/")
  for a, b in zip(one, two, strict=True):
    for name in a:
      assert name.startswith(timed) or a[name] == b[name], name
  assert one[0]["rewards/margin"] == pytest.approx(0, abs=1e-5)
  assert one[1]["validation/rewards/margin"] != 0
  assert one[-1]["rewards/margin"] > 1e-4


# What cannot be.


@pytest.mark.parametrize(
  ("changes", "message"),
  [
    ({}, ""),
    ({"dpo.label_smoothing": 0.1}, ""),
    ({"dpo.loss": "ipo"}, ""),
    ({"dpo.beta": 0.0}, r"config\.dpo\.beta=0.0: must be above 0"),
    ({"dpo.beta": -0.1}, r"config\.dpo\.beta=-0.1: must be above 0"),
    ({"dpo.label_smoothing": 0.6}, r"label_smoothing=0.6: must be .* most 0.5"),
    ({"dpo.label_smoothing": -0.1}, "label_smoothing=-0.1: must be at least 0"),
    ({"dpo.loss": "sigmoit"}, r"config\.dpo\.loss .*Did you mean 'sigmoid'"),
    (
      {"dpo.loss": "ipo", "dpo.label_smoothing": 0.1},
      "label_smoothing=0.1: the loss 'ipo' has none",
    ),
    (
      {"lora.rank": 2, "lora.dropout": 0.1},
      "lora.dropout=0.1: there is no dropout with config.algorithm=dpo",
    ),
    ({"dpo.ptx_coef": 0.1}, r"config\.dpo\.ptx_coef=0.1: text is mixed in"),
    ({"batch": {}}, r"epoch_of|config\.batch\.rankings is missing"),
    (
      {"batch": {"rankings": 8, "pretraining": 8}},
      r"config\.dpo\.ptx_coef=0.0: text is mixed in",
    ),
    (
      {"batch": {"rankings": 8, "pretraining": 8}, "dpo.ptx_coef": 0.1},
      "",
    ),
    (
      {"validation": {"prompts": 8}},
      r"config\.validation of dpo: 'prompts'",
    ),
  ],
)
def test_what_cannot_be_is_named(changes, message):
  config = experiment.get_config("test").unlock()
  for key, value in changes.items():
    if isinstance(value, dict):
      config[key] = ConfigDict(value)
    else:
      config.update_from_flattened_dict({key: value})
  if not message:
    config_checks.check(config.lock())
    return
  with pytest.raises(errors.UserError, match=message):
    config_checks.check(config.lock())


def test_files_without_rankings_are_refused_before_anything_is_built():
  config = experiment.get_config("files").unlock()
  for kind in ("pretraining", "demonstrations", "prompts"):
    config.data[kind] = __file__
  with pytest.raises(errors.UserError, match=r"data\.rankings is empty"):
    config_checks.check(config.lock())


def test_no_demonstrations_are_needed():
  """The reward model's zero needs them, DPO does not."""
  config = experiment.get_config("files").unlock()
  for kind in ("pretraining", "rankings", "prompts"):
    config.data[kind] = __file__
  config_checks.check(config.lock())


def test_the_reward_model_is_for_the_evaluation_alone():
  config = experiment.get_config("tiny").unlock()
  assert "reward" in needed.needs_of_evaluation(config)
  digest_ = digests.of_stage(config, {})
  config.reward_model.layers += 1
  assert digests.of_stage(config, {}) == digest_
  assert "reward" not in needed.needs_of_evaluation(toys.config_of("ppo"))
  assert algorithms.named("dpo").columns is dpo.columns
