"""JAX's coordination service outlives a first process that was killed."""

import subprocess

import pytest

from instruct_jax.parallel import keeper


def ended(service, seconds):
  """As where the process that holds it has died: its end of the pipe closes."""
  service._process.stdin.close()
  return service._process.wait(timeout=seconds)


def test_after_a_clean_end_it_goes_at_once():
  service = keeper.Keeper(2)
  service.shutdown()
  assert ended(service, 10) == 0


def test_after_a_kill_it_stays_for_the_others():
  service = keeper.Keeper(2)
  try:
    with pytest.raises(subprocess.TimeoutExpired):
      ended(service, 2)
  finally:
    service._process.kill()
    service._process.wait()


def test_until_the_first_process_ends_it_serves():
  service = keeper.Keeper(2)
  service.shutdown()
  try:
    with pytest.raises(subprocess.TimeoutExpired):
      service._process.wait(timeout=1)
  finally:
    service._process.kill()
    service._process.wait()
