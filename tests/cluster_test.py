"""Which process of how many this is: flags, SLURM, Open MPI, or alone."""

import sys

import jax
import pytest

from instruct_jax.base import errors
from instruct_jax.parallel import cluster, link

ALONE = (None, None, None)
SLURM = {
  "SLURM_JOB_ID": "4711",
  "SLURM_STEP_NODELIST": "node[07-08]",
  "SLURM_NTASKS": "2",
  "SLURM_STEP_NUM_TASKS": "2",
  "SLURM_PROCID": "1",
  "SLURM_LOCALID": "0",
}
OPEN_MPI = {
  "OMPI_MCA_orte_hnp_uri": "1531576320.0;tcp://10.96.0.1,10.148.0.1:34911",
  "OMPI_COMM_WORLD_SIZE": "4",
  "OMPI_COMM_WORLD_RANK": "2",
  "OMPI_COMM_WORLD_LOCAL_RANK": "2",
}


@pytest.fixture(autouse=True)
def _bare(monkeypatch):
  for name in (*SLURM, *OPEN_MPI, "JAX_COORDINATOR_PORT"):
    monkeypatch.delenv(name, raising=False)


def environment(monkeypatch, values):
  for name, value in values.items():
    monkeypatch.setenv(name, value)


def test_a_laptop_is_alone():
  assert cluster.find(*ALONE) is None


def test_flags():
  place = cluster.find("10.0.0.1:8476", 4, 3)
  assert place == link.Place("10.0.0.1:8476", 4, 3)
  place = cluster.find("10.0.0.1:8476", 1, 0)
  assert place == link.Place("10.0.0.1:8476", 1, 0)


@pytest.mark.parametrize(
  ("flags", "said"),
  [
    (("h:1", None, None), "--processes and --process missing"),
    ((None, 2, 0), "--coordinator missing: --coordinator=HOST:PORT"),
    (("h:1", 2, None), "--process missing"),
    (("h:1", 2, 2), "--process=2: must be from 0 to 1"),
    (("h", 2, 0), "--coordinator=h: must be HOST:PORT"),
    (("h:0", 2, 0), "must be HOST:PORT"),
    (("h:99999", 2, 0), "must be HOST:PORT"),
    ((":80", 2, 0), "must be HOST:PORT"),
  ],
)
def test_flags_that_do_not_fit(flags, said):
  with pytest.raises(errors.UserError, match=said):
    cluster.find(*flags)


def test_slurm(monkeypatch):
  environment(monkeypatch, SLURM)
  place = cluster.find(*ALONE)
  assert place is not None
  assert (place.count, place.index) == (2, 1)
  assert place.coordinator.startswith("node07:")


@pytest.mark.parametrize(
  "less",
  [
    {"SLURM_NTASKS": "1", "SLURM_PROCID": "0"},
    {"SLURM_STEP_NUM_TASKS": "1", "SLURM_PROCID": "0"},
  ],
  ids=["of a job", "of a step"],
)
def test_a_single_task_of_slurm_is_alone(monkeypatch, less):
  environment(monkeypatch, SLURM | less)
  assert cluster.find(*ALONE) is None


def test_a_shell_within_an_allocation_is_alone(monkeypatch):
  shell = {k: v for k, v in SLURM.items() if "STEP" not in k}
  environment(monkeypatch, {**shell, "SLURM_PROCID": "0"})
  assert cluster.find(*ALONE) is None


def test_open_mpi(monkeypatch):
  environment(monkeypatch, OPEN_MPI)
  place = cluster.find(*ALONE)
  assert place is not None
  assert (place.count, place.index) == (4, 2)
  assert place.coordinator.startswith("10.96.0.1:")


def test_flags_count_more_than_the_environment(monkeypatch):
  environment(monkeypatch, SLURM)
  assert cluster.find("h:1", 3, 0) == link.Place("h:1", 3, 0)


def test_a_jax_that_names_no_clusters_is_alone_and_says_so(monkeypatch, caplog):
  monkeypatch.setitem(sys.modules, "jax._src.clusters", None)
  monkeypatch.delattr(jax._src, "clusters")
  assert cluster.find(None, None, None) is None
  assert "needs --coordinator=HOST:PORT" in caplog.text
