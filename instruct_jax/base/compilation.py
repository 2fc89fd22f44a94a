"""The persistent compilation cache, and a count of seconds compiled."""

import logging
import os
import zlib

import jax
from etils import epath

_log = logging.getLogger(__name__)

FOLDER_VARIABLE = "INSTRUCT_JAX_CACHE"
_STAMP = "verified"  # its time: entries older than it are known to be whole

_seconds = 0.0
_is_compiling = False


def cache_home() -> str:
  """Where this package keeps what can be made again; '' where it must not."""
  home = os.path.join("~", ".cache", "instruct_jax")
  return os.path.expanduser(os.environ.get(FOLDER_VARIABLE, home))


def enable_cache() -> epath.Path | None:
  """Keeps compiled programs on disk, for this and for later processes.

  They lie in $INSTRUCT_JAX_CACHE, else in ~/.cache/instruct_jax; the variable
  set to nothing switches the cache off, and a cache that jax has been given
  already (JAX_COMPILATION_CACHE_DIR) stays. Returns the folder, None without
  one: a folder that cannot be written costs time, not the run.
  """
  # pyrefly: ignore[missing-attribute]  # jax makes its options at run time
  given: str | None = jax.config.jax_compilation_cache_dir
  if given:
    return epath.Path(given)
  name = cache_home()
  if not name:
    return None
  folder = epath.Path(name) / f"jax-{jax.__version__}"
  try:
    folder.mkdir(parents=True, exist_ok=True)
    _drop_partial(folder)
  except OSError as error:
    _log.warning("no compilation cache in %s: %s", folder, error)
    return None
  jax.config.update("jax_compilation_cache_dir", str(folder))
  # Small programs too: a run compiles hundreds of them.
  jax.config.update("jax_persistent_cache_min_compile_time_secs", 0.0)
  jax.config.update("jax_persistent_cache_min_entry_size_bytes", -1)
  return folder


def compile_seconds() -> float:
  """Seconds that this process has spent in compiling, or reading the cache."""
  return _seconds


def is_compiling() -> bool:
  """Whether a program is just being compiled, or read from the cache."""
  return _is_compiling


def _drop_partial(folder: epath.Path) -> None:
  """Removes entries that a killed process left half-written.

  jax never writes an entry anew that is there: a damaged one would be
  compiled again in every process. Each entry is read here once only.
  """
  stamp = folder / _STAMP
  since = stamp.stat().mtime if stamp.exists() else 0
  for path in folder.glob("*-cache"):
    # A second of grace, for file systems that keep whole seconds.
    if path.stat().mtime >= since - 1 and not _is_whole(path.read_bytes()):
      _log.info("a damaged entry of the compilation cache: %s", path.name)
      path.unlink(missing_ok=True)
  stamp.write_text("")


def _is_whole(entry: bytes) -> bool:
  """False for a zlib stream that is cut; what is not zlib is left alone."""
  if not entry:
    return False
  if entry[:1] != b"\x78":
    return True
  try:
    zlib.decompress(entry)
  except zlib.error:
    return False
  return True


def _listen(event: str, duration_secs: float, **_: str | int) -> None:
  global _seconds, _is_compiling
  if event == "/jax/core/compile/jaxpr_to_mlir_module_duration":
    _is_compiling = True  # What follows a program's lowering.
  if event == "/jax/core/compile/backend_compile_duration":
    _seconds, _is_compiling = _seconds + duration_secs, False


jax.monitoring.register_event_duration_secs_listener(_listen)
