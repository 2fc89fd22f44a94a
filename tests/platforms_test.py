"""Where libtpu lies on a machine without a TPU, JAX does not look for one."""

import importlib.machinery
import importlib.util
import os
import pathlib
import subprocess
import sys
import types

import pytest

from instruct_jax.base import platforms


@pytest.fixture
def found(monkeypatch, tmp_path):
  """What is installed and set; `settle` then says what JAX was told."""
  installed = {"libtpu"}
  told = types.SimpleNamespace(jax_platforms=None)
  told.update = lambda name, value: setattr(told, name, value)
  monkeypatch.setitem(sys.modules, "jax", types.SimpleNamespace(config=told))
  monkeypatch.setattr(
    importlib.util,
    "find_spec",
    lambda name: (
      importlib.machinery.ModuleSpec(name, None) if name in installed else None
    ),
  )
  for name in platforms._ASKED_FOR:
    monkeypatch.delenv(name, raising=False)

  def settle():
    platforms.settle(tmp_path)
    return told.jax_platforms, os.environ.get("JAX_PLATFORMS")

  return types.SimpleNamespace(
    installed=installed, told=told, root=tmp_path, settle=settle
  )


def test_libtpu_without_a_tpu(found):
  assert found.settle() == ("cpu", "cpu")


def test_a_network_card_of_another_maker_is_no_tpu(found):
  card = found.root / "sys/bus/pci/devices/0000:00:04.0"
  card.mkdir(parents=True)
  (card / "vendor").write_text("0x1af4\n")
  assert found.settle() == ("cpu", "cpu")


@pytest.mark.parametrize("name", ["dev/accel0", "dev/vfio/0", "pci"])
def test_where_a_tpu_may_be_jax_looks(found, name):
  path = found.root / name
  if name == "pci":
    path = found.root / "sys/bus/pci/devices/0000:00:05.0/vendor"
  path.parent.mkdir(parents=True)
  path.write_text("0x1ae0\n")
  assert found.settle() == (None, None)


@pytest.mark.parametrize("name", ["jax_cuda13_plugin", "jax_cuda12_plugin"])
def test_gpus_are_looked_for(found, name):
  found.installed.add(name)
  assert found.settle() == (None, None)


def test_without_libtpu_nothing_is_said(found):
  found.installed.clear()
  assert found.settle() == (None, None)


def test_who_says_what_is_there_is_believed(found, monkeypatch):
  monkeypatch.setenv("JAX_PLATFORMS", "tpu")
  assert found.settle() == (None, "tpu")


def test_a_program_that_has_chosen_is_left_alone(found):
  found.told.jax_platforms = "cuda"
  assert found.settle()[0] == "cuda"


def test_a_command_beside_libtpu_says_nothing_of_tpus():
  """With the libtpu that is installed, if one is."""
  pytest.importorskip("libtpu")
  script = (
    "from instruct_jax.base import platforms; import jax; platforms.settle();"
    "print(jax.devices()[0].platform)"
  )
  bare = {k: v for k, v in os.environ.items() if k != "JAX_PLATFORMS"}
  done = subprocess.run(
    [sys.executable, "-c", script], env=bare, capture_output=True, text=True
  )
  if platforms._may_have_tpu(pathlib.Path("/")):
    pytest.skip("here may be a TPU")
  assert (done.stdout, done.stderr) == ("cpu\n", "")
