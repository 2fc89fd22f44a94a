"""FLOPs of a step, counted row by row; and what they are of a device's peak."""

import types

import jax
import numpy as np
import pytest

from instruct_jax.models import flops
from instruct_jax.training import mfu
from tests import toys

W, N, H, V = 16, 2, 16, toys.V  # width, layers, heads x head_size, vocabulary
# Of the toy: queries, keys, values, output; up and down.
MATRICES = N * (4 * W * H + 2 * W * 32)


def one(tokens, seen, read):
  return 2 * MATRICES * tokens + 4 * N * H * seen + 2 * V * W * read


def text(length, read):
  return one(length, length * length / 2, read)


def lengths(rows, name):
  return np.asarray(rows[f"is_{name}"]).sum(axis=-1)


def of_step(ctx, batch, minibatches, *, frozen=(), metrics=None):
  frozen = dict.fromkeys(frozen)
  found = mfu.of_step(ctx, frozen, batch, minibatches, metrics or {})
  return None if found is None else float(found)


def as_minibatch(rows):
  return jax.tree.map(lambda x: np.asarray(x)[None], rows)


def test_the_matrices_of_a_decoder():
  c = toys.decoder_config()
  assert flops.weights(c) == MATRICES
  gated = toys.decoder_config(mlp="swiglu", kv_heads=1)
  assert flops.weights(gated) == N * (2 * 3 * 8 * W + 3 * W * 32)


def test_sft_row_by_row():
  batch = toys.batch("sft", 0)
  rows = batch["demonstrations"]
  expected = sum(
    text(p + r, r) for p, r in zip(lengths(rows, "prompt"),
                                   lengths(rows, "response"))
  )  # fmt: skip
  expected += toys.B * text(toys.T, toys.T)
  ctx = toys.make_context(toys.config_of("sft"))
  found = of_step(ctx, batch, as_minibatch(batch))
  assert found == pytest.approx(3 * expected, rel=1e-6)


def test_a_ranking_reads_its_prompt_once():
  batch = toys.batch("rm", 0)
  rows, expected = batch["rankings"], 0
  for p, answers in zip(lengths(rows, "prompt"), lengths(rows, "response")):
    expected += text(p, 0)
    expected += sum(one(r, r * p + r * r / 2, 0) for r in answers)
  ctx = toys.make_context(toys.config_of("rm"))
  found = of_step(ctx, batch, as_minibatch(batch))
  assert found == pytest.approx(3 * expected, rel=1e-6)


def test_an_iteration_of_ppo_samples_scores_and_updates():
  batch = toys.batch("ppo", 0)
  p, r = 4, 3  # of all
  batch["prompts"]["is_prompt"] = np.arange(toys.P) >= toys.P - p
  batch["prompts"]["is_prompt"] = np.tile(
    batch["prompts"]["is_prompt"], (toys.B, 1)
  )
  rows = {
    "is_prompt": batch["prompts"]["is_prompt"],
    "is_response": np.tile(np.arange(toys.R) < r, (toys.B, 1)),
  }
  metrics = {
    "count/episodes": (np.float32(toys.B), 1.0),
    "response/length": (np.float32(toys.B * r), np.float32(toys.B)),
  }
  parts = as_minibatch({"policy": rows, "value": rows})
  ctx = toys.make_context(toys.config_of("ppo"))
  found = of_step(
    ctx, batch, parts, frozen=("reference", "reward"), metrics=metrics
  )
  # Sampled, read by policy and reference; by value network and reward model.
  played = 3 * text(p + r, r) + 2 * text(p + r, 0)
  learned = 3 * (text(p + r, r) + text(p + r, 0))
  assert found == pytest.approx(toys.B * (played + learned), rel=1e-6)


def test_adapters_need_no_gradient_of_what_they_stand_beside():
  batch = toys.batch("sft", 0)
  config = toys.config_of("sft").unlock()
  whole = of_step(toys.make_context(config), batch, as_minibatch(batch))
  config.lora.rank = 4
  found = of_step(toys.make_context(config), batch, as_minibatch(batch))
  assert found == pytest.approx(whole * 2 / 3)


def test_of_rows_of_another_kind_nothing_is_said():
  ctx = toys.make_context(toys.config_of("sft"))
  assert of_step(ctx, {}, {"pixels": {"is_red": np.ones((1, 2, 3))}}) is None


def test_the_share_of_a_peak_where_one_is_known():
  def rates(kind):
    return mfu.rates(4e14, 2.0, [types.SimpleNamespace(device_kind=kind)] * 4)

  assert rates("cpu") == {"rate/model_tflops_per_second": 50.0}
  known = rates("TPU v5 lite")
  assert known["rate/model_tflops_per_second"] == 50.0
  assert known["rate/mfu"] == pytest.approx(50 / 197)
  assert rates("NVIDIA H200")["rate/mfu"] == pytest.approx(50 / 989)
