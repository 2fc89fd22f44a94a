"""Checkpoints: bit for bit, on any mesh, after any kill or damage."""

import asyncio
import functools
import json
import pathlib
import random
import shutil
import subprocess
import sys
import types

import jax
import jax.numpy as jnp
import ml_dtypes
import numpy as np
import optax
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from jax.sharding import AxisType, NamedSharding
from jax.sharding import PartitionSpec as P

from instruct_jax.base import errors, logged
from instruct_jax.parallel import checkpoint, digest, stored
from tests import processes

ROOT = pathlib.Path(checkpoint.__file__).parents[2]


def tree(seed=0):
  """Arrays of every kind that a run holds."""
  rng = np.random.default_rng(seed)

  def bits(shape, kind):  # any bit pattern: NaNs with payloads, -0, denormals
    size = int(np.prod(shape)) * np.dtype(kind).itemsize
    return rng.integers(0, 256, size, np.uint8).view(kind).reshape(shape)

  params = {
    "embedding": bits((16, 8), "float32"),
    "blocks": {
      "kernel": bits((2, 8, 24), "float32"),
      "half": bits((8, 4), ml_dtypes.bfloat16),
      "tokens": bits((8,), "int32"),
      "words": bits((24,), "uint32"),
      "mask": rng.integers(0, 2, (8, 3)).astype(bool),
      "byte": bits((5,), "int8"),
      "empty": np.zeros((0, 4), "float32"),
      "scalar": bits((), "float32"),
    },
  }
  params = jax.tree.map(jnp.asarray, params)
  weights = {"embedding": params["embedding"]}
  return {
    "params.policy": params,
    "optimizer.policy": optax.adam(1e-3).init(weights),
    "keys": {"root": jax.random.key(seed), "rows": jax.random.split(
      jax.random.key(seed, impl="rbg"), 8)},
    "none": {},
  }  # fmt: skip


def mesh(*shape):
  axes = ("data", "fsdp")
  return jax.make_mesh(shape, axes, axis_types=(AxisType.Auto,) * 2)


def spread(items, over, flip=False):
  """The items with each array spread over a mesh where it divides."""

  def place(leaf):
    axes = ["fsdp", "data"] if flip else ["data", "fsdp"]
    spec = [
      axis if size % over.shape[axis] == 0 and size else None
      for axis, size in zip(axes, leaf.shape)
    ]
    sharding = NamedSharding(over, P(*spec))
    if jnp.issubdtype(leaf.dtype, jax.dtypes.prng_key):
      return jax.device_put(leaf, sharding)
    # No program, which might take one NaN of a short float for another.
    host = np.asarray(leaf)
    return jax.make_array_from_callback(
      leaf.shape, sharding, lambda index: host[index]
    )

  return jax.tree.map(place, items)


def abstract(items):
  return jax.tree.map(
    lambda x: jax.ShapeDtypeStruct(x.shape, x.dtype, sharding=x.sharding), items
  )


def raw(leaf):
  if jnp.issubdtype(leaf.dtype, jax.dtypes.prng_key):
    return str(jax.random.key_impl(leaf)).encode() + raw(
      jax.random.key_data(leaf)
    )
  return f"{leaf.dtype}{leaf.shape}".encode() + np.asarray(leaf).tobytes()


def assert_same(got, want):
  assert jax.tree.structure(got) == jax.tree.structure(want)
  for one, other in zip(jax.tree.leaves(got), jax.tree.leaves(want)):
    assert raw(one) == raw(other)


def save(folder, items, steps=(1,), **options):
  with checkpoint.Checkpointer(folder, **options) as checkpointer:
    for step in steps:
      checkpointer.save(step, items, {"step": step})


# Round trips.


def test_restores_every_bit_and_the_structure(tmp_path):
  items, extra = tree(), {"data": {"epoch": 1, "seen": [1, 2]}, "x": 0.1}
  with checkpoint.Checkpointer(tmp_path) as checkpointer:
    assert checkpointer.restore(abstract(items)) is None
    checkpointer.save(3, items, extra)
    got = checkpointer.restore(abstract(items))
  assert (got.step, got.extra) == (3, extra)
  assert_same(got.items, items)
  jax.random.normal(got.items["keys"]["root"])  # a key, not its data


def test_takes_arrays_for_abstract_ones_and_numbers_for_arrays(tmp_path):
  items = {"a": {"n": 3, "x": np.ones(2, np.float32)}}
  save(tmp_path, items)
  got = checkpoint.Checkpointer(tmp_path).restore(items).items["a"]
  assert (int(got["n"]), got["n"].dtype) == (3, jnp.int32)
  assert isinstance(got["x"], jax.Array)
  with pytest.raises(ValueError, match="'x' is float64"):
    save(tmp_path, {"a": {"x": np.ones(2)}})


@pytest.mark.parametrize("saved", [(8, 1), (2, 4)])
@pytest.mark.parametrize("restored", [(8, 1), (2, 4), (1, 1)])
def test_restores_onto_another_mesh(tmp_path, saved, restored):
  items = tree()
  save(tmp_path, spread(items, mesh(*saved)))
  small = jax.make_mesh(
    (1, 1), ("data", "fsdp"), (AxisType.Auto,) * 2, devices=jax.devices()[:1]
  )
  over = small if restored == (1, 1) else mesh(*restored)
  want = spread(items, over, flip=True)
  got = checkpoint.Checkpointer(tmp_path).restore(abstract(want))
  assert_same(got.items, items)
  for one, other in zip(jax.tree.leaves(got.items), jax.tree.leaves(want)):
    assert one.sharding == other.sharding


def test_restores_some_items_only(tmp_path):
  items = tree()
  save(tmp_path, items)
  some = {"optimizer.policy": items["optimizer.policy"]}
  got = checkpoint.Checkpointer(tmp_path).restore(abstract(some))
  assert_same(got.items, some)


def test_arrays_may_be_donated_as_soon_as_save_returns(tmp_path):
  step = functools.partial(jax.jit, donate_argnums=0)(lambda x: x + 1)
  for over in (mesh(2, 4), mesh(8, 1)):
    folder = tmp_path / str(over.shape["data"])
    placed = [jnp.zeros((256, 256)), *[jnp.zeros((8, 64))] * 8]
    arrays = spread(placed, over)
    arrays.append(jnp.zeros((300, 100)))
    with checkpoint.Checkpointer(folder, keep_latest=9) as checkpointer:
      for done in range(4):
        checkpointer.save(done, {"a": arrays})
        for _ in range(10):
          arrays = [step(array) for array in arrays]
    for done in range(4):
      got = checkpoint.load(folder, done, "a", abstract(arrays))
      for array in got:
        np.testing.assert_array_equal(array, 10 * done)


def test_keeps_the_latest_and_every_nth(tmp_path):
  save(
    tmp_path, {"a": {"x": jnp.ones(2)}}, range(0, 11), keep_latest=2,
    keep_every=4,
  )  # fmt: skip
  assert checkpoint.steps(tmp_path) == [4, 8, 9, 10]
  with pytest.raises(ValueError, match="keep_latest=0"):
    checkpoint.Checkpointer(tmp_path, keep_latest=0)


def test_saving_a_step_again(tmp_path):
  items = {"a": {"x": jnp.ones(2)}}
  with checkpoint.Checkpointer(tmp_path) as checkpointer:
    checkpointer.save(1, items)
    checkpointer.save(1, items)
    with pytest.raises(ValueError, match="another content"):
      checkpointer.save(1, {"a": {"x": jnp.zeros(2)}})
  with checkpoint.Checkpointer(tmp_path) as checkpointer:
    checkpointer.save(1, items)
    with pytest.raises(ValueError, match="another content"):
      checkpointer.save(1, items, {"n": 1})


def test_a_failed_save_is_raised(tmp_path, monkeypatch):
  items = {"a": {"x": jnp.ones(2)}}
  monkeypatch.setattr(stored, "sealed", lambda _: {"sha256": object()})
  checkpointer = checkpoint.Checkpointer(tmp_path)
  checkpointer.save(1, items)  # the file is written in the background
  with pytest.raises(TypeError, match="not JSON serializable"):
    checkpointer.wait()
  assert checkpointer.steps() == []


def test_one_step_that_cannot_be_saved_is_missed_and_said(
  tmp_path, monkeypatch, caplog
):
  """Not for the disk: two in a row are raised."""
  items, seal = {"a": {"x": jnp.ones(2)}}, stored.sealed

  def sealed(manifest):
    fails = manifest["step"] in (2, 5, 6)
    return {"sha256": object()} if fails else seal(manifest)

  monkeypatch.setattr(stored, "sealed", sealed)

  with checkpoint.Checkpointer(tmp_path) as saver:
    for step in (1, 2, 3, 4):
      saver.save(step, items)
  assert checkpoint.steps(tmp_path) == [3, 4]
  assert [p.name for p in tmp_path.iterdir() if not p.name.isdigit()] == []
  (said,) = caplog.messages
  assert "step 2 could not be saved (TypeError: " in said
  saver = checkpoint.Checkpointer(tmp_path, keep_every=5)
  saver.save(5, items)
  with pytest.raises(TypeError, match="not JSON"):  # who needs it would fail
    saver.save(7, items)
  saver = checkpoint.Checkpointer(tmp_path)
  for step in (5, 6):
    saver.save(step, items)
  with pytest.raises(TypeError, match="not JSON"):
    saver.save(7, items)


def test_orbax_says_nothing(tmp_path):
  code = f"""
from absl import logging
logging.set_verbosity(logging.INFO)
import jax.numpy as jnp
from instruct_jax.parallel import checkpoint
with checkpoint.Checkpointer({str(tmp_path)!r}) as c:
  for step in range(3):
    c.save(step, {{"a": {{"x": jnp.ones(2)}}}})
  c.wait()
  assert c.restore({{"a": {{"x": jnp.ones(2)}}}}).step == 2
"""
  done = subprocess.run(
    [sys.executable, "-c", code],
    capture_output=True,
    env={"PYTHONPATH": str(ROOT), "JAX_PLATFORMS": "cpu"},
    check=True,
  )
  assert done.stdout == b""
  assert done.stderr == b""


# Digests.


def test_digest_is_that_of_the_values_alone():
  items = tree()
  want = digest.of(items)
  assert len(want) == 32
  assert digest.of(spread(items, mesh(8, 1))) == want
  assert digest.of(spread(items, mesh(2, 4), flip=True)) == want
  assert digest.of(jax.device_get(items["params.policy"])) == (
    digest.of(items["params.policy"])
  )
  assert digest.of(tree(1)) != want


def test_digest_sees_names_shapes_dtypes_and_order():
  x = jnp.arange(6, dtype=jnp.int32)
  trees = [
    {"a": x},
    {"b": x},
    {"a": x.reshape(2, 3)},
    {"a": x.astype(jnp.uint32)},
    {"a": x[::-1]},
    {"a": x, "b": x[:0]},
    {"a": x * 0},
    {"a": x.astype(jnp.float32) * 0},
    {"a": -x.astype(jnp.float32) * 0},  # -0
    {},
  ]
  assert len({digest.of(each) for each in trees}) == len(trees)


@pytest.mark.parametrize(
  "kind", ["float32", "bfloat16", "int8", "bool", "float16", "uint32"]
)
@pytest.mark.parametrize(
  "shape", [(), (1,), (7,), (3, 5), (2, 3, 4), (40000,), (2, 33000)]
)
def test_sums_on_host_and_on_device_are_the_same(kind, shape):
  values = np.random.default_rng(0).integers(0, 100, shape)
  leaf, salt = jnp.asarray(values).astype(kind), np.uint32(2**32 - 1)
  host = digest._sums_on_host(leaf, salt)
  assert [int(x) for x in digest._sums_on_device(leaf, salt)] == [
    int(x) for x in host
  ]


def test_sums_on_device_do_not_depend_on_the_sharding():
  leaf = jax.random.bits(jax.random.key(0), (16, 8, 4))
  salt = np.uint32(5)
  want = [int(x) for x in digest._sums_on_host(leaf, salt)]
  for spec in (P("data", "fsdp"), P(None, ("data", "fsdp")), P()):
    there = jax.device_put(leaf, NamedSharding(mesh(2, 4), spec))
    assert [int(x) for x in digest._sums_on_device(there, salt)] == want
    assert [int(x) for x in digest._sums_on_host(there, salt)] == want


@given(
  kind=st.sampled_from(["float32", "uint16", "int8", "int64"]),
  size=st.integers(1, 300),
  data=st.data(),
)
@settings(max_examples=50, deadline=None)
def test_one_flipped_bit_changes_both_sums(kind, size, data):
  rng = np.random.default_rng(data.draw(st.integers(0, 2**32 - 1)))
  width = np.dtype(kind).itemsize
  old = rng.integers(0, 256, size * width, np.uint8)
  new = old.copy()
  new[data.draw(st.integers(0, len(new) - 1))] ^= 1 << data.draw(
    st.integers(0, 7)
  )

  def sums(octets):
    chunks = digest._chunks(octets.view(kind), (slice(None),), np.uint32(9))
    return [
      sum(int(lane.sum(dtype=np.uint64)) for lane in lanes) % 2**32
      for lanes in zip(*[digest._lanes(*chunk) for chunk in chunks])
    ]

  assert all(one != other for one, other in zip(sums(old), sums(new)))


def test_two_flipped_signs_do_not_cancel():
  x = np.ones(1000, np.float32)
  seen = {digest.of({"x": x})}
  for first in range(20):
    for second in range(first):
      y = x.copy()
      y[[first, second]] *= -1
      seen.add(digest.of({"x": y}))
  assert len(seen) == 191


# What does not fit.


def test_another_shape_is_an_error_that_names_both(tmp_path):
  items = tree()
  save(tmp_path / "run" / "checkpoints", items)
  other = abstract(items)
  params = other["params.policy"]
  params["embedding"] = jax.ShapeDtypeStruct((16, 9), jnp.float32)
  params["extra"] = jax.ShapeDtypeStruct((), jnp.int32)
  del params["blocks"]["half"]
  checkpointer = checkpoint.Checkpointer(tmp_path / "run" / "checkpoints")
  with pytest.raises(errors.UserError) as error:
    checkpointer.restore(other)
  message = str(error.value)
  assert "item 'params.policy'" in message
  assert (
    "'embedding' is float32[16,8] in the checkpoint, float32[16,9] here"
    in message
  )
  assert "'extra' is absent in the checkpoint, int32[] here" in message
  assert "'blocks.half' is bfloat16[8,4] in the checkpoint, absent" in message
  assert checkpointer.steps() == [1]  # nothing is set aside for it


def test_another_item_dtype_or_sharding_is_an_error(tmp_path):
  items = {"params.policy": {"x": jnp.ones((6, 2))}}
  save(tmp_path, items)
  checkpointer = checkpoint.Checkpointer(tmp_path)
  with pytest.raises(errors.UserError, match="Did you mean 'params"):
    checkpointer.restore({"params.polcy": items["params.policy"]})
  wide = {"params.policy": {"x": jnp.ones((6, 2), jnp.bfloat16)}}
  with pytest.raises(errors.UserError, match="bfloat16"):
    checkpointer.restore(wide)
  rows = NamedSharding(mesh(8, 1), P("data"))
  uneven = jax.ShapeDtypeStruct((6, 2), jnp.float32, sharding=rows)
  with pytest.raises(errors.UserError, match="cannot be divided"):
    checkpointer.restore({"params.policy": {"x": uneven}})
  assert checkpointer.steps() == [1]


def test_a_path_that_is_no_run_is_an_error(tmp_path):
  x = {"x": jnp.ones(2)}
  (tmp_path / "file").write_text("")
  for folder in (tmp_path, tmp_path / "file", tmp_path / "nothing"):
    with pytest.raises(errors.UserError, match="is not a run"):
      checkpoint.load(folder, None, "a", x)
  with pytest.raises(errors.UserError, match="is a file"):
    checkpoint.Checkpointer(tmp_path / "file")
  save(tmp_path / "checkpoints", {"a": x}, [2])
  with pytest.raises(errors.UserError, match="of step 3; it has 2"):
    checkpoint.load(tmp_path, 3, "a", x)
  assert_same(checkpoint.load(tmp_path, 2, "a", x), x)
  assert_same(checkpoint.load(tmp_path / "checkpoints", None, "a", x), x)
  assert checkpoint.load_extra(tmp_path) == {"step": 2}


def test_names_that_collide_are_an_error(tmp_path):
  with pytest.raises(ValueError, match=r"called 'a\.b'"):
    save(tmp_path, {"x": {"a": {"b": jnp.ones(1)}, "a.b": jnp.ones(1)}})


# Damage.


def damage(step, rng):
  """Damages one random file of a step; returns what was done."""
  file = rng.choice(sorted(x for x in step.rglob("*") if x.is_file()))
  data = file.read_bytes()
  kind = rng.choice(["missing", "half", "flip", "flip", "flip"])
  if kind == "missing" or not data:
    file.unlink()
  elif kind == "half":
    file.write_bytes(data[: len(data) // 2])
  else:
    place, bit = rng.randrange(len(data)), 1 << rng.randrange(8)
    flipped = bytes([data[place] ^ bit])
    file.write_bytes(data[:place] + flipped + data[place + 1 :])
  return f"{kind} {file.relative_to(step)}"


@pytest.fixture(scope="module")
def two_steps(tmp_path_factory):
  """A folder with steps 1 and 2 of different content, and both contents."""
  folder = tmp_path_factory.mktemp("two") / "checkpoints"
  one, two = tree(1), tree(2)
  with checkpoint.Checkpointer(folder) as checkpointer:
    checkpointer.save(1, one, {"n": 1})
    checkpointer.save(2, two, {"n": 2})
  return folder, {1: one, 2: two}


# A reading thread of TensorStore may come back after Orbax has given up.
@pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning")
@pytest.mark.parametrize(
  "seeds", [range(12), pytest.param(range(12, 60), marks=pytest.mark.long)]
)
def test_any_damage_is_harmless_or_seen(two_steps, tmp_path, caplog, seeds):
  source, contents = two_steps
  outcomes = []
  for seed in seeds:
    caplog.clear()
    folder = tmp_path / str(seed)
    shutil.copytree(source, folder)
    what = damage(folder / "2", random.Random(seed))
    got = checkpoint.Checkpointer(folder).restore(abstract(contents[1]))
    assert_same(got.items, contents[got.step])
    assert got.extra == {"n": got.step}, what
    outcomes.append(got.step)
    if got.step == 1:
      assert f"Checkpoint {folder}/2 is damaged: " in caplog.text, what
      assert "It is set aside as damaged-2." in caplog.text, what
      assert f"Step 1 in {folder} is used instead." in caplog.text, what
      assert (folder / "damaged-2").is_dir()
      assert checkpoint.steps(folder) == [1]
    else:
      assert not caplog.text
  assert set(outcomes) == {1, 2}


@pytest.mark.parametrize("what", ["gone", "half", "flip"])
def test_damaged_arrays_and_manifests_are_seen(two_steps, tmp_path, what):
  source, contents = two_steps
  files = [f for f in (source / "2").rglob("*") if f.is_file()]
  largest = max(
    (f for f in files if "/d/" in str(f)), key=lambda f: f.stat().st_size
  )
  for file in (largest, source / "2" / "manifest" / "manifest.json"):
    folder = tmp_path / file.name
    shutil.copytree(source, folder)
    victim = folder / file.relative_to(source)
    data = bytearray(victim.read_bytes())
    if what == "gone":
      victim.unlink()
    elif what == "half":
      victim.write_bytes(data[: len(data) // 2])
    else:
      data[len(data) // 2] ^= 4
      victim.write_bytes(data)
    failed = 0
    for item, wanted in abstract(contents[2]).items():
      try:
        assert_same(checkpoint.load(folder, 2, item, wanted), contents[2][item])
      except stored.Damaged:
        failed += 1
    assert failed == len(contents[2]) if file.suffix == ".json" else failed
    assert checkpoint.steps(folder) == [1, 2]  # load changes nothing


def test_nothing_whole_is_a_fresh_start(two_steps, tmp_path, caplog):
  source, contents = two_steps
  folder = tmp_path / "run"
  shutil.copytree(source, folder)
  (folder / "damaged-2").mkdir()  # of an earlier time
  for step in (1, 2):
    (folder / str(step) / "manifest" / "manifest.json").write_text("{}")
  with checkpoint.Checkpointer(folder) as checkpointer:
    assert checkpointer.restore(abstract(contents[1])) is None
    assert f"No checkpoint is left in {folder}" in caplog.text
    names = {each.name for each in folder.iterdir()}
    assert names == {"damaged-1", "damaged-2", "damaged-2-2"}
    checkpointer.save(1, contents[1])  # and life goes on
  assert checkpoint.steps(folder) == [1]


@pytest.mark.parametrize(
  "error",
  [
    ValueError("RESOURCE_EXHAUSTED: out of memory"),
    ValueError("UNAVAILABLE: try again"),
    MemoryError("too much"),
  ],
)
def test_trouble_of_the_machine_is_no_damage(two_steps, monkeypatch, error):
  source, contents = two_steps

  class Troubled:
    def restore(self, *_, **__):
      raise error

  monkeypatch.setattr(stored, "handler", Troubled)
  with pytest.raises(type(error), match=str(error)):
    checkpoint.Checkpointer(source).restore(abstract(contents[2]))
  assert checkpoint.steps(source) == [1, 2]


def test_saves_go_on_beside_damaged_metadata(two_steps, tmp_path):
  """What Orbax writes for itself is not needed to restore or to go on."""
  source, contents = two_steps
  folder = tmp_path / "run"
  shutil.copytree(source, folder)
  (folder / "2" / "_CHECKPOINT_METADATA").write_text("{broken")
  (folder / "1" / "_CHECKPOINT_METADATA").unlink()
  with checkpoint.Checkpointer(folder) as checkpointer:
    assert checkpointer.restore(abstract(contents[2])).step == 2
    checkpointer.save(3, contents[2])
  assert checkpoint.steps(folder) == [2, 3]


# Kills and processes.

# A toy run: parameters, momentum, a random key, metrics fetched before a save.
# The parent forks a child that runs it, and kills it; importing happens once.
RUN = """
import os, random, signal, sys, time
import jax, jax.numpy as jnp, numpy as np, optax

from instruct_jax.parallel import checkpoint, digest
from instruct_jax.base import journal

jax.config.update("jax_compilation_cache_dir", sys.argv[1] + "/cache")
jax.config.update("jax_persistent_cache_min_compile_time_secs", 0)

def run(folder, pause):
  key = jax.random.key(0)
  params = {f"w{n}": jnp.full((32, 8 + n), 0.5) for n in range(2)}
  optimizer = optax.adam(1e-2)

  @jax.jit
  def update(params, state, step):
    noise = jax.random.normal(jax.random.fold_in(key, step), (8, 32))
    def loss(p):
      return sum(jnp.sum(jnp.tanh(noise @ w) ** 2) for w in p.values())
    value, grads = jax.value_and_grad(loss)(params)
    change, state = optimizer.update(grads, state)
    return optax.apply_updates(params, change), state, value

  state, first, seen = optimizer.init(params), 0, []
  with (
    checkpoint.Checkpointer(folder + "/checkpoints", keep_latest=3) as saver,
    journal.Log(folder, tensorboard=False) as log,
  ):
    items = {"params.policy": params, "optimizer.policy": state}
    if (restored := saver.restore(items)) is not None:
      params, state = restored.items.values()
      first, seen = restored.step, restored.extra["seen"]
    log.truncate(first)
    for step in range(first, 30):
      params, state, value = update(params, state, step)
      seen = (seen + [step])[-5:]
      log.write(step + 1, {"loss": (value, 8.0)})
      if step % 2 == 1:
        items = {"params.policy": params, "optimizer.policy": state}
        saver.save(step + 1, items, {"seen": seen})
      time.sleep(pause)
  text = digest.of({"p": params, "s": state}) + str(seen)
  with open(folder + "/result", "w") as file:
    file.write(text)

def child(folder, pause):
  pid = os.fork()
  if pid == 0:
    code = 1
    try:
      run(folder, pause)
      code = 0
    finally:
      sys.stderr.flush()
      os._exit(code)
  return pid

def lines(file):
  return open(file).read().count("\\n") if os.path.exists(file) else 0

folder, seed = sys.argv[1:]
pid = child(folder + "/whole", 0.0)
assert os.waitpid(pid, 0)[1] == 0
rng, log = random.Random(int(seed)), folder + "/killed/metrics.jsonl"
kills = torn = 0
while True:
  pid = child(folder + "/killed", 0.02)
  wait, seen, done = rng.randrange(12), lines(log), 0  # steps before the kill
  while wait and not done:
    done, status = os.waitpid(pid, os.WNOHANG)
    now = lines(log)
    wait, seen = max(0, wait - max(0, now - seen)), now
    time.sleep(0.002)
  if done:
    assert status == 0, status
    break
  time.sleep(rng.uniform(0, 0.06))
  os.kill(pid, signal.SIGKILL)
  os.waitpid(pid, 0)
  kills += 1
  torn += any("tmp" in x for x in os.listdir(folder + "/killed/checkpoints"))
  assert kills < 60
print(kills, torn)
"""


@pytest.mark.slow
def test_kills_at_any_moment_change_nothing(tmp_path):
  for name in ("whole", "killed"):
    (tmp_path / name / "checkpoints").mkdir(parents=True)
  done = subprocess.run(
    [sys.executable, "-c", RUN, str(tmp_path), "0"],
    capture_output=True,
    text=True,
    env={
      "PYTHONPATH": str(ROOT),
      "JAX_PLATFORMS": "cpu",
      "OPENBLAS_NUM_THREADS": "1",
    },
    check=False,
  )
  assert done.returncode == 0, done.stderr
  kills, torn = map(int, done.stdout.split())
  assert kills >= 3
  whole, killed = tmp_path / "whole", tmp_path / "killed"
  for name in ("result", "metrics.jsonl"):
    assert (killed / name).read_bytes() == (whole / name).read_bytes()
  assert len(logged.read_metrics(killed)) == 30
  assert checkpoint.steps(killed) == checkpoint.steps(whole) == [26, 28, 30]
  names = {each.name for each in (killed / "checkpoints").iterdir()}
  assert names == {"26", "28", "30"}  # no damage, nothing unfinished left
  print(f"{kills} kills, {torn} of them in the middle of a save")


PROCESS = """
import json, pathlib
folder, = rest
import jax.numpy as jnp, numpy as np
from jax.sharding import AxisType, NamedSharding, PartitionSpec as P

from instruct_jax.parallel import checkpoint, digest
from instruct_jax.base import journal
mesh = jax.make_mesh((2, 4), ("data", "fsdp"), (AxisType.Auto,) * 2)

def place(x, *spec):
  return jax.make_array_from_callback(
    x.shape, NamedSharding(mesh, P(*spec)), lambda index: x[index])

def items(n):
  rng = np.random.default_rng(n)
  wide = rng.normal(size=(16, 8)).astype(np.float32)
  return {"a": {
    "wide": place(wide, "data", "fsdp"),
    "rows": place(wide[:, 0], "fsdp"),
    "whole": place(wide[0]),
    "count": place(np.array(n, np.int32)),
  }}

with checkpoint.Checkpointer(folder) as saver:
  assert saver.restore(items(0)) is None
  for n in (1, 2, 3):
    saver.save(n, items(n), {"n": n})
  saver.wait()
  names = {1: digest.of(items(1)), 2: digest.of(items(2))}
  got = saver.restore(items(0))
  assert (got.step, got.extra) == (3, {"n": 3})
  assert digest.of(got.items) == digest.of(items(3))
  if rank == 0:  # the other process alone meets the damage
    for file in pathlib.Path(folder, "3", "arrays").glob("**/d/*"):
      data = bytearray(file.read_bytes())
      data[len(data) // 2] ^= 1
      file.write_bytes(data)
  from jax.experimental import multihost_utils
  multihost_utils.sync_global_devices("damaged")
  got = saver.restore(items(0))
  assert got.step == 2, got.step
  assert digest.of(got.items) == names[2]
  saver.save(3, items(3))
with journal.Log(folder + "/log", tensorboard=False) as log:
  log.write(1, {"x": 1.0})
if rank == 0:
  print(json.dumps(names))
"""


@pytest.mark.slow
def test_two_processes_save_and_restore_together(tmp_path):
  folder = tmp_path / "run"
  outputs = processes.together(PROCESS, folder, devices=4)
  rng = np.random.default_rng(1)
  wide = rng.normal(size=(16, 8)).astype(np.float32)
  alone = {
    "wide": wide,
    "rows": wide[:, 0],
    "whole": wide[0],
    "count": np.array(1, np.int32),
  }
  digests = json.loads(outputs[0].splitlines()[-1])  # Gloo prints
  assert digests["1"] == digest.of({"a": alone})
  assert checkpoint.steps(folder) == [2, 3]
  assert (folder / "damaged-3").is_dir()
  assert len(logged.read_metrics(folder / "log")) == 1


def test_only_what_comes_of_a_closed_loop_is_not_shown(monkeypatch):
  """As C++ shows it, whose callbacks have no frame of Python above them."""
  said = []
  monkeypatch.setattr(sys, "unraisablehook", said.append)
  checkpoint.hush_callbacks()
  hook = sys.unraisablehook
  checkpoint.hush_callbacks()
  assert sys.unraisablehook is hook  # once
  loop = asyncio.new_event_loop()
  loop.close()
  for function in (lambda: loop.call_soon_threadsafe(print), lambda: 1 / 0):
    with pytest.raises((RuntimeError, ZeroDivisionError)) as error:
      function()
    trace = error.tb.tb_next.tb_next or error.tb.tb_next
    hook(types.SimpleNamespace(exc_value=error.value, exc_traceback=trace))
  assert [type(one.exc_value) for one in said] == [ZeroDivisionError]
