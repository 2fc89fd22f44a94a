"""Meshes and processes change no update: of no algorithm, on recorded samples.

The numbers themselves stand in algorithms_test (`test_golden_step`).
"""

import functools
import json

import pytest

from tests import golden, processes

TENSOR, ALL = (1, 1, 8), (2, 2, 2)
# On other meshes step_test has three steps of most.
ON_MESHES = [(name, TENSOR) for name in golden.UPDATES] + [
  (name, ALL) for name in ("rm", "dpo", "best_of_n", "expert_iteration")
]


@pytest.fixture(scope="module")
def on_one_device():
  return functools.cache(lambda name: golden.found(name, (1, 1, 1)))


def assert_close(found, expected):
  assert found.keys() == expected.keys()
  for name, value in expected.items():
    loose = 1e-5 if name == "bias" or name.endswith("loss") else 1e-4
    assert found[name] == pytest.approx(value, rel=loose, abs=1e-5), name


@pytest.mark.slow
@pytest.mark.parametrize(("name", "mesh"), ON_MESHES, ids=str)
def test_a_mesh_changes_no_update(on_one_device, name, mesh):
  found, _ = golden.found(name, mesh)
  assert_close(found, on_one_device(name)[0])


def together(name, mesh, count, devices):
  """What `count` processes find, all the same."""
  said = processes.together(
    "from tests import golden\ngolden.main(*rest)",
    *(name, mesh),
    count=count,
    devices=devices,
    seconds=1500,
    # They are compared with each other, and compile sooner.
    JAX_DISABLE_MOST_OPTIMIZATIONS="1",
  )
  every = [json.loads(text.splitlines()[-1]) for text in said]
  assert all(found == every[0] for found in every)
  return every[0]


@pytest.mark.slow
@pytest.mark.parametrize(
  "name", ["rm", "ppo_ptx", pytest.param("dpo", marks=pytest.mark.long)]
)
def test_processes_are_one_with_all_their_devices(on_one_device, name):
  """1, 2 and 4 processes on four devices, bit for bit; on one the losses."""
  mesh = "2x2x1"
  means, checksum = together(name, mesh, 1, 4)
  for count, devices in ((2, 2), (4, 1)):
    assert together(name, mesh, count, devices) == [means, checksum]
  assert_close(means, on_one_device(name)[0])
