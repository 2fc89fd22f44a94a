"""Plans: where, of what, what is said, what is kept. `:test` sizes, no TPU."""

import json
import math
import os
import subprocess
import sys

import jax
import pytest
from etils import epath

from instruct_jax.base import chips, errors, memory
from instruct_jax.models import flops
from instruct_jax.parallel import layouts, sharding
from instruct_jax.planning import (
  advice,
  jobs,
  measuring,
  programs,
  roofline,
  setting,
  stored,
  table,
  topology,
  whole,
)
from instruct_jax.runs import references

SOURCE = epath.Path("experiments/ppo_ptx.py")


def config_of(reference, **changes):
  config, _ = references.load_config(reference, SOURCE.parent)
  config.unlock()
  config.update_from_flattened_dict(changes)
  return config.lock()


@pytest.fixture(autouse=True)
def cache(tmp_path, monkeypatch):
  monkeypatch.setenv("INSTRUCT_JAX_CACHE", str(tmp_path / "cache"))


@pytest.mark.parametrize(
  ("name", "count", "slices"),
  [("v5e:4x4", 16, 1), ("v5p:4x8x8", 512, 2), ("h100:8", 8, 1)],
)
def test_places_by_name(name, count, slices):
  place = topology.named(name, slices)
  assert place.chips == count
  assert place.is_estimate == name.startswith("h")


@pytest.mark.parametrize(
  ("name", "slices", "words"),
  [
    ("v5e:4x5", 1, "v5e:4x5 v5e:4x4 v5e:4x8"),
    ("v5d:4x4", 1, "v5d:4x4 v5e:4x4 h100:8"),
    ("h100", 1, "=h100: h100:8"),
    ("h100:no", 1, "h100:no h100:8"),
    ("h100:8", 2, "--slices=2 h100:16"),
  ],
)
def test_an_unknown_place_is_named_with_what_is_near(name, slices, words):
  with pytest.raises(errors.UserError) as error:
    topology.named(name, slices)
  for word in words.split():
    assert word in str(error.value)


def test_every_chip_has_rates_that_go_with_each_other():
  for chip in chips.CHIPS.values():
    # No network is as fast as the memory, no memory as products are.
    assert chip.dcn_rate < chip.ici_rate < chip.hbm_rate < chip.flops
    assert 15 * 10**9 < chip.hbm_bytes < 200 * 10**9
    assert bool(chip.shapes) != bool(chip.together)
  assert chips.of_kind("TPU v5 lite") is chips.CHIPS["v5e"]
  assert chips.of_kind("cpu") is None


def test_the_slowest_decides():
  chip = chips.CHIPS["v5e"]
  work = {"flops": 197e12, "hbm_bytes": 819e9, "ici_bytes": 1e12}
  times = roofline.seconds(chip, **work, dcn_bytes=0)
  assert times == {"flops": 1, "hbm": 1, "ici": 5, "dcn": 0}
  assert roofline.bound(times) == "ici"
  unknown = work | {"hbm_bytes": None}
  assert "hbm" not in roofline.seconds(chip, **unknown, dcn_bytes=0)
  assert roofline.mfu(chip, 16 * 197e12, 16, 5.0) == 0.2


def test_a_run_s_programs_and_those_of_what_it_needs():
  place = topology.named("v5e:2x2")
  found = jobs.of(config_of("ppo_ptx.py:test"), SOURCE, place, {})
  assert list(found) == [
    *("decoding_copy", "prefill", "decode_step", "score"),
    *("rm_update", "sft_update"),
    *("ppo_update", "ppo_ptx_update"),
  ]
  assert found["rm_update"].config.experiment == "rm"
  assert found["sft_update"].config.experiment == "sft"
  assert found["ppo_update"].config.rl.ptx_coef == 0
  for job in found.values():
    assert job.config.mesh.to_dict() == {"data": 1, "fsdp": 4, "tensor": 1}


def test_the_paper_s_sizes_need_no_data():
  place = topology.named("v5e:4x4")
  found = jobs.of(config_of("ppo_ptx.py:1.3b"), SOURCE, place, {})
  own, rm = found["ppo_ptx_update"].config, found["rm_update"].config
  # Of 64 episodes and 512 texts a minibatch each device has a row at least.
  assert own.mesh.fsdp == 16
  assert own.microbatches == 4
  assert rm.microbatches == 4
  assert own.reward_model.width == rm.model.width == 4096


@pytest.mark.parametrize(
  ("variant", "topology_name"),
  [
    ("1.3b-on-v5e-4x4", "v5e:4x4"),
    ("1.3b-on-8x80gb", "h100:8"),
    ("6b-on-v5e-8x8", "v5e:8x8"),
    ("175b-on-v5p-4x8x8", "v5p:4x8x8"),
  ],
)
def test_the_placed_variants_have_a_mesh_of_their_place(variant, topology_name):
  place = topology.named(topology_name)
  found = jobs.of(config_of(f"ppo_ptx.py:{variant}"), SOURCE, place, {})
  assert len(found) == 8
  plain = config_of(f"ppo_ptx.py:{variant.partition('-on-')[0]}").model
  for job in found.values():
    assert math.prod(job.config.mesh.values()) == place.chips
  assert found["ppo_ptx_update"].config.model == plain


def test_devices_that_stand_in_have_the_memory_of_what_they_stand_for():
  place, here = topology.named("h100:8"), jax.devices()[0]
  before = memory.of_device(here)
  config = config_of("ppo_ptx.py:1.3b-on-8x80gb")
  mesh = sharding.make_mesh(**config.mesh, devices=jax.devices())
  with place.standing_in():
    assert memory.of_device(here) == place.chip.hbm_bytes == 80 * 10**9
    given = setting.of(config, mesh)
    assert programs.has_copy(given)  # which 16 GB would have no room for
    slots = given.ctx.sampling().slots
  assert memory.of_device(here) == before == 16 * 10**9
  with topology.named("v5e:2x2").standing_in():  # whose devices say it
    assert memory.of_device(here) == before
  assert slots > given.ctx.sampling().slots


def test_slices_divide_data():
  place = topology.named("v5e:2x2", 2)
  found = jobs.of(config_of("sft.py:test"), SOURCE, place, {})
  assert list(found) == ["sft_update"]
  mesh = found["sft_update"].config.mesh.to_dict()
  assert mesh == {"data": 2, "fsdp": 4, "tensor": 1}


@pytest.mark.parametrize(
  ("reference", "changes", "words"),
  [
    ("dataset.py:test", {}, "trains nothing"),
    ("sft.py:test", {"mesh.fsdp": 3}, "takes 3 has 4 --config.mesh.fsdp=4"),
    ("sft.py:test", {"mesh.fsdp": 4, "microbatches": 3}, "microbatches"),
  ],
)
def test_what_cannot_be_planned_is_said(reference, changes, words):
  place = topology.named("v5e:2x2")
  with pytest.raises(errors.UserError) as error:
    jobs.of(config_of(reference, **changes), SOURCE, place, {})
  assert all(word in str(error.value) for word in words.split())


class Slice:
  """A TPU device in a slice."""

  platform = "tpu"

  def __init__(self, number):
    self.slice_index = number


def test_only_data_goes_over_several_slices():
  devices = [Slice(n // 4) for n in range(8)]
  with pytest.raises(errors.UserError, match="2 slices"):
    sharding.make_mesh(1, 8, 1, devices=devices)


def test_a_refusal_says_how_much_was_wanted():
  said = measuring.refusal(
    "RESOURCE_EXHAUSTED: XLA:TPU compile permanent error. Ran out of memory in"
    " memory space hbm. Used 20.50G of 15.75G hbm."
  )
  assert said["bytes"]["temporaries"] == int(20.5 * 2**30)
  older = measuring.refusal(
    "RESOURCE_EXHAUSTED: Ran out of memory on HBM, the total memory required"
    " for HLO temporaries (161.03G) exceeds available HBM (95.74G)."
  )
  assert older["bytes"]["temporaries"] == int(161.03 * 2**30)
  assert not measuring.refusal("INTERNAL: no")["refused"]


def test_a_program_that_cannot_be_read_still_has_its_memory(monkeypatch):
  def unreadable(compiled):
    raise jax.errors.JaxRuntimeError("INTERNAL: RET_CHECK failure")

  monkeypatch.setattr(jax.stages.Compiled, "as_text", unreadable)
  place = topology.named("h100:4")
  every = jobs.of(config_of("sft.py:test"), SOURCE, place, {})
  plan = whole.of(every, place)
  (one,) = plan["programs"].values()
  assert plan["fits"] is one["fits"] is True
  assert one["bytes"]["arguments"] > 0
  assert one["seconds"] is one["mfu"] is plan["run"]["hours"] is None
  table.show(plan)


def test_what_does_not_fit_is_told_what_to_change():
  config = config_of("ppo_ptx.py:test", **{"mesh.data": 2})
  sizes = {"total": 40, "hbm": 16}
  found = {"bytes": sizes}
  job = jobs.Job("update", config)
  changes = advice.of(job, found, {})
  assert advice.too_much(found) == 24
  assert changes[0] == "--config.microbatches=2"
  assert "--config.model.remat=full" in changes
  assert any("--config.mesh.fsdp=2" in change for change in changes)
  assert "more chips" in changes[-1]
  assert "8 would" in changes[-1]  # 2 chips, and 40 / 16 rounded up to 4


def test_kept_values_are_read_and_damaged_ones_made_again(tmp_path):
  assert stored.read("a") is None
  stored.write("a", {"b": [1, 2.5, "c"]})
  assert stored.read("a") == {"b": [1, 2.5, "c"]}
  (path,) = (tmp_path / "cache" / "plans").iterdir()
  path.write_bytes(path.read_bytes()[:-3])
  assert stored.read("a") is None


@pytest.fixture(scope="module")
def planned(tmp_path_factory):
  """The plan of an SFT run on four GPUs that CPU devices stand in for."""
  with pytest.MonkeyPatch.context() as patch:
    folder = tmp_path_factory.mktemp("cache")
    patch.setenv("INSTRUCT_JAX_CACHE", str(folder))
    place = topology.named("h100:4")
    config = config_of("sft.py:test")
    every = jobs.of(config, SOURCE, place, {})
    first = whole.of(every, place)
    patch.setattr(measuring, "measure", None)  # a second time nothing is
    return first, whole.of(every, place), every, place


def test_a_plan_says_what_was_asked(planned):
  plan = json.loads(json.dumps(planned[0]))
  assert plan["fits"] is True
  assert plan["estimate"] is True
  (one,) = plan["programs"].values()
  keys = {"fits", "bytes", "flops", "collective_bytes", "seconds", "mfu"}
  assert keys <= set(one)
  assert "chip_hours" in plan["run"]
  sizes = dict(one["bytes"])
  hbm, total = sizes.pop("hbm"), sizes.pop("total")
  assert total == sum(sizes.values()) <= hbm
  assert one["collective_bytes"] == one["ici_bytes"] + one["dcn_bytes"] > 0
  assert one["seconds"] == max(one["seconds_of"].values())
  assert not one["loops_counted_once"]
  # Nothing is computed again here: at least what the model needs, and not
  # much more than that.
  needed = one["model_flops"] / plan["chips"]
  assert 0.8 * needed < one["flops"] < 1.6 * needed


def test_a_plan_is_kept(planned):
  first, again, _, _ = planned
  assert again == first


def test_the_state_of_a_plan_is_that_of_a_run(planned):
  _, _, every, place = planned
  job = every["sft_update"]
  mesh = sharding.make_mesh(**job.config.mesh, devices=jax.devices()[:4])
  given = setting.of(job.config, mesh)
  sizes = {
    role: sum(x.size for x in jax.tree.leaves(tree))
    for role, tree in given.state.params.items()
  }
  # Parameters and Adam's two moments in 32 bits, over four devices.
  about = 3 * 4 * sum(sizes.values()) / place.chips
  held = layouts.device_bytes(given.state)
  assert about <= held < 1.2 * about


def test_model_flops_are_six_a_weight_and_token():
  config = config_of("sft.py:test")
  mesh = sharding.make_mesh(1, 1, 1, devices=jax.devices()[:1])
  given = setting.of(config, mesh)
  c = given.ctx.policy.config
  blocks = given.state.params["policy"]["decoder"]
  counted = sum(
    x.size
    for path, x in jax.tree_util.tree_leaves_with_path(blocks)
    if "kernel" in jax.tree_util.keystr(path)
  )
  assert flops.weights(c) == counted
  tokens = 100
  needed = 3 * flops.of_text(c, tokens, 0)
  attention = 3 * 4 * c.layers * c.heads * c.head_size * tokens**2 / 2
  assert needed == 6 * counted * tokens + attention


@pytest.mark.slow
def test_slices_have_data_alone_between_them(monkeypatch):
  pytest.importorskip("libtpu")
  for variable, value in topology.QUIET.items():
    monkeypatch.setenv(variable, value)
  place = topology.named("v5e:2x2", 2)
  mesh = sharding.make_mesh(2, 2, 2, devices=topology.devices_of(place))
  assert place.slices_of(mesh) == [0] * 4 + [1] * 4
  assert mesh.shape["data"] == 2


@pytest.mark.slow
def test_a_copy_that_lies_for_decoding_gathers_nothing_for_a_token():
  place, found = topology.named("h100:4"), {}
  for rollout in ("train", "auto"):
    config = config_of("ppo_ptx.py:test", **{"layout.rollout": rollout})
    every = jobs.of(config, SOURCE, place, {})
    plan = whole.of(every, place, ["decoding_copy", "decode_step"])
    found[rollout] = plan["programs"]
  assert list(found["train"]) == ["decode_step"]
  assert list(found["auto"]) == ["decoding_copy", "decode_step"]
  assert found["auto"]["decoding_copy"]["collectives"]["all-gather"] > 0
  before, after = (one["decode_step"] for one in found.values())
  assert after["collective_bytes"] < before["collective_bytes"] / 4
  done = dict.fromkeys(("prefill", "score", "ppo_ptx_update"), before)
  steps = {
    name: whole.run_of(config, programs | done, "ppo_ptx_update", place)
    for name, programs in found.items()
  }
  assert steps["auto"]["seconds_of"]["decoding_copy"] > 0
  assert "decoding_copy" not in steps["train"]["seconds_of"]


@pytest.mark.slow
@pytest.mark.timeout(1200)
def test_several_slices_send_their_gradients_over_the_other_network(tmp_path):
  """As libtpu compiles them; within a slice everything else is sent."""
  pytest.importorskip("libtpu")
  found = {}
  for slices in (1, 2):
    done = subprocess.run(
      [
        *(sys.executable, "-m", "instruct_jax.plan", "--json"),
        *("--config=experiments/sft.py:test", "--topology=v5e:2x2"),
        f"--slices={slices}",
      ],
      capture_output=True,
      text=True,
      env=os.environ | {"INSTRUCT_JAX_CACHE": str(tmp_path)},
    )
    assert done.returncode == 0, done.stderr
    found[slices] = json.loads(done.stdout)
  assert found[2]["mesh"] == {"data": 2, "fsdp": 4, "tensor": 1}
  one, two = (plan["programs"]["sft_update"] for plan in found.values())
  assert one["dcn_bytes"] == 0
  # At least the gradient of a device's share of the parameters, in 32 bits.
  config = config_of("sft.py:test")
  mesh = sharding.make_mesh(1, 1, 1, devices=jax.devices()[:1])
  params = setting.of(config, mesh).state.params
  count = sum(x.size for x in jax.tree.leaves(params))
  assert two["dcn_bytes"] >= 4 * count / 4
  assert two["collective_bytes"] == two["ici_bytes"] + two["dcn_bytes"]


def plan_of_the_smallest(folder, *programs):
  """Of the paper's 1.3B on sixteen chips; by the compiler for TPUs, where it is
  installed: it needs no TPU. Every program fits."""
  pytest.importorskip("libtpu")
  done = subprocess.run(
    [
      *(sys.executable, "-m", "instruct_jax.plan", "--json"),
      "--config=experiments/ppo_ptx.py:1.3b-on-v5e-4x4",
      "--topology=v5e:4x4",
      f"--only={','.join(programs)}",
    ],
    capture_output=True,
    text=True,
    env=os.environ | {"INSTRUCT_JAX_CACHE": str(folder)},
  )
  assert done.returncode == 0, done.stderr
  plan = json.loads(done.stdout)
  assert set(plan["programs"]) == set(programs)
  for name, one in plan["programs"].items():
    assert one["bytes"]["total"] < one["bytes"]["hbm"], name
    assert not one["loops_counted_once"], name
  return plan


@pytest.mark.slow
def test_the_paper_s_smallest_answers_on_sixteen_chips_of_a_v5e(tmp_path):
  """All slots of a rollout beside its weights: the least to be compiled."""
  plan = plan_of_the_smallest(tmp_path, "decode_step")
  assert plan["programs"]["decode_step"]["slots"] > 0


@pytest.mark.long
@pytest.mark.timeout(3600)
def test_the_paper_s_smallest_learns_on_sixteen_chips_of_a_v5e(tmp_path):
  programs = ("prefill", "sft_update", "ppo_ptx_update")
  plan = plan_of_the_smallest(tmp_path, *programs)
  update = plan["programs"]["sft_update"]
  # Layers are computed twice forward and once backward: four for three.
  recomputed = update["flops"] * plan["chips"] / update["model_flops"]
  assert 1.1 < recomputed < 1.5
