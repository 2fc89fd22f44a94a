"""Runs with adapters, as others read them: base and adapters in one tree."""

import json
import shutil

import jax
import numpy as np
import pytest
import safetensors.numpy

from experiments import ppo_ptx, sft
from instruct_jax import algorithms
from instruct_jax.base import errors
from instruct_jax.inference import context
from instruct_jax.parallel import checkpoint
from instruct_jax.runs import bases, exchange, reading
from instruct_jax.training import step as step_lib
from tests import run_folders, toys

SECTION = {"rank": 2, "alpha": 6.0, "targets": "query|up", "dropout": 0.0}
EXPERIMENTS = {"sft": sft, "ppo_ptx": ppo_ptx}
RNG = np.random.default_rng(0)


def trained(root, experiment, name, *, rank=2, scan=False, freeze="", **needs):
  """A finished run with adapters on `needs`; returns (folder, state).

  What is trained has other numbers than it starts with, so none can be missed.
  """
  config = EXPERIMENTS[experiment].get_config("test").unlock()
  config.lora.update(SECTION | {"rank": rank})
  config.freeze = freeze
  config.model.scan = config.reward_model.scan = scan
  config.lock()
  folder = root / name
  paths = {
    n: f"../{path}" for n, path in ({"data": "dataset-test"} | needs).items()
  }
  record = run_folders.record_of(config, paths)
  run_folders.write_json(folder / "config.json", record)
  ctx = context.make(config, {"data": root / "dataset-test"})
  given = {
    role: reading.load_parameters(root / needs[role], ctx, role)
    for role in ("policy", "reward")
    if role in needs
  }
  algorithm = algorithms.named(config.algorithm)
  run, state = step_lib.setup(ctx, algorithm, 3, given)
  items = {
    item: jax.tree.map(_moved, tree)
    if item.startswith(("params.", "ema."))
    else tree
    for item, tree in step_lib.items_of(run, state).items()
  }
  extra = {
    "bases": step_lib.bases_of(
      run, lambda role: bases.digest(root / needs[role])
    )
  }
  with checkpoint.Checkpointer(folder / "checkpoints", keep_latest=9) as saver:
    saver.save(3, items, extra)
  role = config.product
  item = f"{'ema' if role in config.ema else 'params'}.{role}"
  product = {"run": ".", "step": 3, "item": item}
  run_folders.write_json(folder / "results.json", {"product": product})
  return folder, step_lib.with_items(state, items | {"extra": items["extra"]})


def _moved(x):
  return x + 0.1 * RNG.normal(size=x.shape).astype(np.float32)


def plainly(base, whole):
  """W + alpha / rank A B where a tree has adapters, layer by layer."""
  found = {}
  for name, below in whole.items():
    if not isinstance(below, dict):
      found[name] = np.asarray(below)
    elif "lora_a" in below:
      a, b = np.asarray(below["lora_a"]), np.asarray(below["lora_b"])
      found[name] = {
        "kernel": np.asarray(base[name]["kernel"]) + 3.0 * (a @ b),
        **({"bias": np.asarray(below["bias"])} if "bias" in below else {}),
      }
    else:
      found[name] = plainly(base.get(name, {}), below)
  return found


def assert_same(found, expected):
  assert jax.tree.structure(found) == jax.tree.structure(expected)
  for a, b in zip(jax.tree.leaves(found), jax.tree.leaves(expected)):
    np.testing.assert_allclose(a, b, rtol=1e-5, atol=1e-6)


@pytest.fixture(scope="module")
def root(tmp_path_factory):
  """pretrain <- sft (adapters) <- ppo (adapters), and a reward model."""
  root = tmp_path_factory.mktemp("runs")
  run_folders.dataset(root)
  run_folders.make(root, "sft", name="pretrain-test")
  run_folders.make(root, "rm", seed=5)
  return root


@pytest.fixture(scope="module")
def chain(root):
  states = {}
  _, states["sft"] = trained(root, "sft", "sft-test", policy="pretrain-test")
  _, states["ppo"] = trained(
    root, "ppo_ptx", "ppo-test", policy="sft-test", reward="rm-test"
  )
  return states


def test_a_run_hands_on_its_base_with_the_adapters_in_it(root, chain):
  ctx = reading.open_context(root / "sft-test")
  base = reading.load_parameters(root / "pretrain-test", ctx, "policy")
  found = reading.load_parameters(root / "sft-test", ctx, "policy")
  assert_same(found, plainly(base, chain["sft"].params["policy"]))
  rows = {
    "prompt": np.array([[3, 4, 5]], np.int32),
    "is_prompt": np.ones((1, 3), bool),
    "response": np.array([[6, 7]], np.int32),
    "is_response": np.ones((1, 2), bool),
  }
  # The run's own context counts adapters as it was trained with them.
  unmerged = toys.response_logits(
    ctx.policy, chain["sft"].params["policy"], rows
  )
  merged = toys.response_logits(ctx.policy, found, rows)
  np.testing.assert_allclose(merged, unmerged, rtol=1e-4, atol=1e-5)
  plain = toys.response_logits(ctx.policy, base, rows)
  assert np.abs(plain - unmerged).max() > 1e-3


def test_a_chain_of_adapters_is_read_to_its_end(root, chain):
  """The average of the policy on SFT's adapters on the pretrained model."""
  ctx = reading.open_context(root / "ppo-test")
  below = reading.load_parameters(root / "sft-test", ctx, "policy")
  found = reading.load_parameters(root / "ppo-test", ctx, "policy")
  assert_same(found, plainly(below, chain["ppo"].ema["policy"]))
  value = reading.load_kept(root / "ppo-test", ctx, "value")
  reward = reading.load_parameters(root / "rm-test", ctx, "reward")
  assert_same(value, plainly(reward, chain["ppo"].params["value"]))
  holders = {path.name for path in bases.holders(root / "ppo-test")}
  assert {"ppo-test", "pretrain-test"} <= holders


def test_what_is_stored_is_what_was_trained(root, chain):
  del chain
  stored = checkpoint.load_item(root / "sft-test", None, "params.policy")
  assert {path.rpartition(".")[2] for path in stored["arrays"]} == {
    "lora_a",
    "lora_b",
  }
  value = checkpoint.load_item(root / "ppo-test", None, "params.value")
  assert {p for p in value["arrays"] if "lora" not in p} == {
    "head.kernel",
    "head.bias",
  }


def test_it_is_read_onto_any_mesh(root, chain):
  del chain
  alone = reading.open_context(root / "ppo-test")
  expected = reading.load_parameters(root / "ppo-test", alone, "policy")
  copied = root / "wide"
  shutil.copytree(root / "ppo-test", copied)
  record = json.loads((copied / "config.json").read_text())
  record["config"]["mesh"] = {"data": 2, "fsdp": 2, "tensor": 2}
  (copied / "config.json").write_text(json.dumps(record))
  ctx = reading.open_context(copied)
  assert ctx.mesh.size == 8
  found = reading.load_parameters(copied, ctx, "policy")
  assert_same(jax.device_get(found), jax.device_get(expected))
  assert jax.tree.leaves(found)[0].sharding.mesh == ctx.mesh


def test_an_adapter_of_another_base_is_refused(root, chain):
  del chain
  again = root.parent / "another"
  shutil.copytree(root, again)
  ctx = reading.open_context(again / "ppo-test")
  shutil.rmtree(again / "pretrain-test" / "checkpoints")
  run_folders.make(again, "sft", name="pretrain-test", seed=9)
  for name in ("sft-test", "ppo-test"):
    with pytest.raises(errors.UserError, match="now it holds others"):
      reading.load_parameters(again / name, ctx, "policy")
  shutil.rmtree(again / "pretrain-test")
  with pytest.raises(errors.UserError, match="only what was trained on top"):
    reading.load_parameters(again / "sft-test", ctx, "policy")


def test_a_run_that_froze_a_part_is_whole_again(tmp_path):
  run_folders.dataset(tmp_path)
  run_folders.make(tmp_path, "sft", name="pretrain-test")
  folder, state = trained(
    tmp_path,
    "sft",
    "sft-test",
    rank=0,
    freeze="embedding",
    policy="pretrain-test",
  )
  ctx = reading.open_context(folder)
  found = reading.load_parameters(folder, ctx, "policy")
  assert_same(found, jax.device_get(state.params["policy"]))
  stored = checkpoint.load_item(folder, None, "params.policy")["arrays"]
  assert not [path for path in stored if "embedding" in path]


def test_a_digest_says_what_lies_below(root, chain):
  """Two runs of the same adapters on other bases are not the same."""
  del chain
  names = {bases.digest(root / f"{name}-test") for name in ("sft", "ppo")}
  assert len(names | {bases.digest(root / "pretrain-test")}) == 3
  assert bases.digest(root / "sft-test") in names


def test_stacked_layers_are_merged_in_their_run(tmp_path):
  run_folders.dataset(tmp_path)
  config = sft.get_config("test").unlock()
  config.model.scan = True
  config.lock()
  folder = tmp_path / "pretrain-test"
  record = run_folders.record_of(config, {"data": "../dataset-test"})
  run_folders.write_json(folder / "config.json", record)
  ctx = context.make(config, {"data": tmp_path / "dataset-test"})
  params = toys.init_params(ctx.policy, jax.random.key(0))
  with checkpoint.Checkpointer(folder / "checkpoints") as saver:
    saver.save(3, {"params.policy": params})
  product = {"run": ".", "step": 3, "item": "params.policy"}
  run_folders.write_json(folder / "results.json", {"product": product})
  folder, state = trained(
    tmp_path, "sft", "sft-test", scan=True, policy="pretrain-test"
  )
  ctx = reading.open_context(folder)
  found = reading.load_parameters(folder, ctx, "policy")
  assert_same(found, plainly(params, state.params["policy"]))
  assert found["decoder"]["blocks"]["query"]["kernel"].ndim == 3


def test_adapters_leave_for_peft_with_their_base(root, chain, tmp_path):
  """Of a run whose base is a run: that has to be exported first."""
  del chain
  with pytest.raises(errors.UserError, match="Convert that first"):
    exchange.send_adapters(root / "sft-test", tmp_path / "out")
  exchange.send_out(root / "pretrain-test", tmp_path / "base")
  named = {"base": f"hf:{tmp_path / 'base'}"}
  exchange.send_adapters(root / "sft-test", tmp_path / "out", **named)
  described = json.loads((tmp_path / "out" / "adapter_config.json").read_text())
  assert described["base_model_name_or_path"] == str(tmp_path / "base")
  assert (described["r"], described["lora_alpha"]) == (2, 6.0)
  assert described["task_type"] == "CAUSAL_LM"
  assert (tmp_path / "out" / "adapter_model.safetensors").exists()
  with pytest.raises(errors.UserError, match="no adapters"):
    exchange.send_adapters(root / "pretrain-test", tmp_path / "none", **named)


def test_a_values_bias_takes_the_place_of_its_reward_models(
  root, chain, tmp_path
):
  """A score is w (s x + n) + b: what the files give for w n is all of it."""
  del chain
  folder, saved = run_folders.make(root, "rm", name="biased-test", seed=7)
  reward = saved[3]
  reward["head"]["bias"] = reward["head"]["bias"] + 0.5
  with checkpoint.Checkpointer(folder / "checkpoints", keep_latest=9) as saver:
    saver.save(4, {"params.reward": reward})
  product = {"run": ".", "step": 4, "item": "params.reward"}
  run_folders.write_json(folder / "results.json", {"product": product})
  needs = {"policy": "sft-test", "reward": "biased-test"}
  _, state = trained(root, "ppo_ptx", "of_biased-test", **needs)
  head = jax.tree.map(np.asarray, state.params["value"]["head"])
  exchange.send_out(folder, tmp_path / "base")
  lost = exchange.send_adapters(
    *(root / "of_biased-test", tmp_path / "out"),
    role="value",
    base=f"hf:{tmp_path / 'base'}",
  )
  assert not any("bias" in line for line in lost)
  files = safetensors.numpy.load_file(
    tmp_path / "out" / "adapter_model.safetensors"
  )
  (norm,) = (x for name, x in files.items() if name.endswith("norm.bias"))
  (w,) = (x[0] for name, x in files.items() if name.endswith("score.weight"))
  np.testing.assert_allclose(w, head["kernel"][:, 0])
  np.testing.assert_allclose(
    w @ norm,
    head["bias"][0],
    rtol=1e-4,
    atol=1e-5,  # ours has no bias there
  )
  assert "bias" not in reward["decoder"]["final_norm"]
  assert abs(float(head["bias"][0])) > 0.1


def test_a_base_of_other_numbers_is_refused(root, chain, tmp_path):
  del chain
  exchange.send_out(root / "sft-test", tmp_path / "merged")
  named = {"base": f"hf:{tmp_path / 'merged'}"}
  with pytest.raises(errors.UserError, match=r"is not that of .*pretrain"):
    exchange.send_adapters(root / "sft-test", tmp_path / "out", **named)
  assert not (tmp_path / "out").exists()
