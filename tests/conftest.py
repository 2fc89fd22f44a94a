"""Eight fake CPU devices, one cache of compiled programs, tiers of time.

Programs that tests compile stay on disk, for the other workers, for the
processes that tests start, and for the next run: a second run compiles
nothing. JAX_COMPILATION_CACHE_DIR chooses the folder; its absence, as in
continuous integration, costs time only.
"""

import ctypes
import gc
import importlib.metadata
import os
import pathlib
import shutil
import signal

CACHE_BYTES = 2 << 30  # more than this is what old versions of the code left
HELD_BYTES = 2 << 30  # a process that holds more gives back what it can

# Programs here are tiny and compiled once: what is optimised costs more than it
# saves. The first two halve what compiling an update costs, the others again.
FLAGS = [
  "--xla_llvm_disable_expensive_passes=true",
  "--xla_backend_optimization_level=0",
]
if importlib.metadata.version("jaxlib").startswith("0.10."):
  # A later XLA may not know these, and ends the process where it doesn't.
  FLAGS.append("--xla_cpu_use_fusion_emitters=false")
  FLAGS.append("--xla_cpu_parallel_codegen_split_count=1")
os.environ["XLA_FLAGS"] = " ".join([os.environ.get("XLA_FLAGS", ""), *FLAGS])
os.environ.setdefault(
  "JAX_COMPILATION_CACHE_DIR",
  os.path.expanduser("~/.cache/instruct_jax/tests"),
)
os.environ.setdefault("JAX_PERSISTENT_CACHE_MIN_COMPILE_TIME_SECS", "0")
os.environ.setdefault("JAX_PERSISTENT_CACHE_MIN_ENTRY_SIZE_BYTES", "-1")
# A worker a core: the threads of torch would only wait for each other, busily.
os.environ.setdefault("OMP_NUM_THREADS", "1")

import hypothesis  # noqa: E402
import jax  # noqa: E402  (reads the environment)

# A busy machine is no bug: no example must end within a fifth of a second.
hypothesis.settings.register_profile(
  "patient", parent=hypothesis.settings.default, deadline=None
)
hypothesis.settings.load_profile("patient")

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


def pytest_collection_finish():
  """What is there now stays: the collector need not look through it again.

  Tracing makes objects by the million; a tenth of the time went into looking
  through all modules for garbage.
  """
  gc.collect()
  gc.freeze()
  gc.set_threshold(10_000, 20, 20)


def held():
  """Bytes of memory of this process; 0 where nobody knows."""
  pages = pathlib.Path("/proc/self/statm")
  if not pages.exists():
    return 0
  return int(pages.read_text().split()[1]) * os.sysconf("SC_PAGE_SIZE")


def pytest_runtest_teardown(item, nextitem):
  """Between modules a worker that has grown gives memory back.

  What compiling took and freed stays with the C library until it is asked;
  compiled programs come from the disk when they are needed again.
  """
  if nextitem is not None and nextitem.path == item.path:
    return
  trim = getattr(ctypes.CDLL(None), "malloc_trim", None)  # glibc's alone
  for forget in (lambda: None, jax.clear_caches):
    if trim is not None and held() > HELD_BYTES:
      forget()
      gc.collect()
      trim(0)


def pytest_xdist_auto_num_workers(config):
  """Workers for `-n auto`: none for a few files, a core each for all.

  Slow tests start commands, which wait for each other: half as many again.
  """
  few = [x for x in config.args if pathlib.Path(x.split("::")[0]).is_file()]
  if few or config.option.collectonly:
    return 0
  cores = len(os.sched_getaffinity(0))
  is_slow = config.option.markexpr.startswith("slow")
  return min(cores * 3 // 2 if is_slow else cores, 8)
