"""Which process of how many this is, and JAX over all of them.

Flags say so, or the environment: that of a Cloud TPU, of SLURM or of Open MPI,
as JAX reads it. A process that is the only one, as on a laptop, is left alone.
"""

import logging
import os

import jax

from instruct_jax.base import errors
from instruct_jax.parallel import keeper, link, wire

# JAX's names of the clusters that are looked for.
_CLUSTERS = ("gcetpu", "gketpu", "slurm", "ompi")
_ALL = "--coordinator=HOST:PORT, --processes=N and --process=I"

_log = logging.getLogger(__name__)


def find(
  coordinator: str | None,
  processes: int | None,
  process: int | None,
  *,
  seconds: float = 300.0,
) -> link.Place | None:
  """The place that the flags name, else the environment; None alone.

  Flags that name one process make it a job of one, whose devices add in the
  order in which those of several processes do: gloo's, on CPUs.

  Raises UserError where some flags are given and others not, or do not fit
  each other, and where the environment's coordinator is not to be found within
  so many seconds.
  """
  flags = {
    "coordinator": coordinator, "processes": processes, "process": process
  }  # fmt: skip
  given = [name for name, value in flags.items() if value is not None]
  if not given:
    return _of_environment(seconds)
  if coordinator is None or processes is None or process is None:
    absent = [f"--{name}" for name in flags if name not in given]
    raise errors.UserError(
      f"{' and '.join(absent)} missing: {_ALL} are given together, or none of"
      " them"
    )
  wire.address(coordinator)
  if process >= processes:
    raise errors.UserError(
      f"--process={process}: must be from 0 to {processes - 1}, since"
      f" --processes={processes}"
    )
  return link.Place(coordinator, processes, process)


def _of_environment(seconds: float) -> link.Place | None:
  try:
    from jax._src import clusters  # late: no version of JAX promises it
  except ImportError as error:
    _log.warning(
      "warning: this JAX does not say which cluster it runs on (%s): a job of"
      " several hosts needs %s",
      *(error, _ALL),
    )
    return None
  for cluster in clusters.ClusterEnv._cluster_types:
    if cluster.name not in _CLUSTERS or not cluster.is_env_present():
      continue
    # One task of a SLURM job that has several, started as a step of its own.
    is_step = cluster.name == "slurm"
    if is_step and os.environ.get("SLURM_STEP_NUM_TASKS", "") == "1":
      return None
    count = cluster.get_process_count()
    if count < 2:
      return None
    try:
      address = cluster.get_coordinator_address(
        int(seconds), os.environ.get("JAX_COORDINATOR_PORT")
      )
    except RuntimeError as error:
      raise errors.UserError(
        f"{cluster.name}: {error}; name the hosts yourself: {_ALL}"
      ) from None
    return link.Place(address, count, cluster.get_process_id())
  return None


def start(joined: link.Link, *, is_given: bool) -> None:
  """Starts JAX over all processes that have joined; before it has devices.

  `is_given` by flags, so that the environment says nothing of the devices.
  """
  from jax._src.lib import _jax  # late, as above

  # Without these no CPU takes part in what others compute.
  jax.config.update("jax_cpu_collectives_implementation", "gloo")
  # It would listen to SIGTERM itself.
  jax.config.update("jax_enable_preemption_service", False)
  service = keeper.Keeper(joined.place.count) if joined.is_first else None
  if service is not None:
    joined.close = service.shutdown
  port = joined.gather("jax", service and service.port, lambda ports: ports[0])
  host, _, _ = joined.place.coordinator.rpartition(":")
  made = _jax.get_distributed_runtime_service
  _jax.get_distributed_runtime_service = lambda *_, **__: service
  try:
    jax.distributed.initialize(
      f"{host}:{port}",
      joined.place.count,
      joined.place.index,
      cluster_detection_method="deactivate" if is_given else None,
      heartbeat_timeout_seconds=keeper.HEARTBEAT,
    )
  finally:
    _jax.get_distributed_runtime_service = made
