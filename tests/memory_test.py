"""How much memory a process has held."""

import pathlib
import re

import numpy as np
import pytest

from instruct_jax.base import memory


def test_peak_memory_is_what_the_system_says():
  held = np.ones(2_000_000)  # 16 MB
  status = pathlib.Path("/proc/self/status")
  if not status.exists():
    pytest.skip("no /proc")
  kilobytes = int(re.search(r"VmHWM:\s+(\d+) kB", status.read_text())[1])
  assert abs(memory.host_peak_bytes() - 1024 * kilobytes) < 16e6
  del held


class Device:
  def __init__(self, stats):
    self._stats = stats

  def memory_stats(self):
    return self._stats


def test_of_devices_the_fullest_counts(monkeypatch):
  devices = [Device({"peak_bytes_in_use": n}) for n in (3, 7, 5)]
  monkeypatch.setattr(memory.jax, "local_devices", lambda: devices)
  found = memory.metrics()
  assert found["memory/device_peak_bytes"] == 7
  assert found["memory/host_peak_bytes"] > 1e6


@pytest.mark.parametrize("stats", [None, {}])
def test_devices_that_do_not_say_have_no_metric(monkeypatch, stats):
  monkeypatch.setattr(memory.jax, "local_devices", lambda: [Device(stats)])
  assert list(memory.metrics()) == ["memory/host_peak_bytes"]
