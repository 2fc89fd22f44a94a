"""Eight fake CPU devices, one cache of compiled programs, tiers of time.

Programs that tests compile stay on disk, for the other workers, for the
processes that tests start, and for the next run: a second run compiles
nothing. JAX_COMPILATION_CACHE_DIR chooses the folder; its absence, as in
continuous integration, costs time only.
"""

import os
import pathlib
import shutil
import signal

CACHE_BYTES = 2 << 30  # more than this is what old versions of the code left

# Programs here are tiny and compiled once: what LLVM optimises costs more than
# it saves. A PPO update of two layers is compiled in 6 seconds instead of 10.
os.environ["XLA_FLAGS"] = (
  os.environ.get("XLA_FLAGS", "")
  + " --xla_llvm_disable_expensive_passes=true"
  + " --xla_backend_optimization_level=0"
)
os.environ.setdefault(
  "JAX_COMPILATION_CACHE_DIR",
  os.path.expanduser("~/.cache/instruct_jax/tests"),
)
os.environ.setdefault("JAX_PERSISTENT_CACHE_MIN_COMPILE_TIME_SECS", "0")
os.environ.setdefault("JAX_PERSISTENT_CACHE_MIN_ENTRY_SIZE_BYTES", "-1")

import jax  # noqa: E402  (reads the environment)

# A session in the background of a shell ignores Ctrl-C, and so would the
# commands that tests start and interrupt.
if signal.getsignal(signal.SIGINT) is signal.SIG_IGN:
  signal.signal(signal.SIGINT, signal.default_int_handler)

jax.config.update("jax_platforms", "cpu")
jax.config.update("jax_num_cpu_devices", 8)


def pytest_configure(config):
  """Once a session, not in its workers: an overgrown cache starts anew."""
  if not hasattr(config, "workerinput"):
    folder = pathlib.Path(os.environ["JAX_COMPILATION_CACHE_DIR"])
    entries = folder.glob("*-cache") if folder.is_dir() else ()
    if sum(entry.stat().st_size for entry in entries) > CACHE_BYTES:
      shutil.rmtree(folder, ignore_errors=True)


def pytest_xdist_auto_num_workers(config):
  """Workers for `-n auto`: none for a few files, a core each for all."""
  few = [x for x in config.args if pathlib.Path(x.split("::")[0]).is_file()]
  if few or config.option.collectonly:
    return 0
  return min(len(os.sched_getaffinity(0)), 8)
