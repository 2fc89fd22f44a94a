"""Meshes and processes change no update: of no algorithm, on recorded samples.

A table of every algorithm on every mesh and number of processes. Of each column
two algorithms are checked every time: the reward model with its bias, and
PPO-ptx, whose update has all roles and terms; the others by hand (`long`). The
numbers themselves stand in algorithms_test (`test_golden_step`).
"""

import functools
import json

import pytest

from tests import golden, processes

MESHES = ("8x1x1", "1x8x1", "1x1x8", "2x2x2")
OFTEN = ("rm", "ppo_ptx")
SELDOM = tuple(name for name in golden.UPDATES if name not in OFTEN)
ROWS = [
  *OFTEN,
  *(pytest.param(name, marks=pytest.mark.long) for name in SELDOM),
]


@pytest.fixture(scope="module")
def on_one_device():
  return functools.cache(lambda name: golden.found(name, (1, 1, 1))[0])


def assert_close(found, expected):
  """Losses and the bias to 1e-5; other means to 1e-4."""
  assert found.keys() == expected.keys()
  for name, value in expected.items():
    loose = 1e-5 if name == "bias" or name.endswith("loss") else 1e-4
    assert found[name] == pytest.approx(value, rel=loose, abs=1e-5), name


@pytest.mark.slow
@pytest.mark.parametrize("mesh", MESHES)
@pytest.mark.parametrize("name", ROWS)
def test_a_mesh_changes_no_update(on_one_device, name, mesh):
  found, _ = golden.found(name, [*map(int, mesh.split("x"))])
  assert_close(found, on_one_device(name))


def together(names, mesh, count, devices):
  """What `count` processes find of each update, all the same."""
  said = processes.together(
    "from tests import golden\ngolden.main(*rest)",
    *(mesh, *names),
    count=count,
    devices=devices,
    seconds=1500,
  )
  every = [text.splitlines()[-len(names) :] for text in said]
  assert all(found == every[0] for found in every)
  return [json.loads(line) for line in every[0]]


@pytest.mark.slow
@pytest.mark.parametrize(
  "names", [OFTEN, pytest.param(SELDOM, marks=pytest.mark.long)], ids=" ".join
)
def test_processes_are_one_with_all_their_devices(on_one_device, names):
  """1, 2 and 4 processes on four devices, bit for bit; on one the losses."""
  mesh = "2x2x1"
  of_one = together(names, mesh, 1, 4)
  for count, devices in ((2, 2), (4, 1)):
    assert together(names, mesh, count, devices) == of_one
  for name, (means, _) in zip(names, of_one, strict=True):
    assert_close(means, on_one_device(name))
