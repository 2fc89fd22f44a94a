"""The persistent compilation cache, and counts of seconds compiled."""

import dataclasses
import logging
import os
import threading
import time
import zlib
from collections.abc import Mapping, Sequence

import jax
from etils import epath

from instruct_jax.base import allocation

_log = logging.getLogger(__name__)

FOLDER_VARIABLE = "INSTRUCT_JAX_CACHE"
_STAMP = "verified"  # its time: entries older than it are known to be whole

_LOWER = "/jax/core/compile/jaxpr_to_mlir_module_duration"
_COMPILE = "/jax/core/compile/backend_compile_duration"
_MAKING = (  # what comes before a program runs for the first time
  "/jax/core/compile/jaxpr_trace_duration",
  _LOWER,
  _COMPILE,
)
_SAID_AFTER = 1.0  # seconds; what compiles for less is not worth a line
_LEVEL = "xla_backend_optimization_level"
_TRIMMED_AFTER = 0.3  # seconds; less leaves little to give back
_seconds = 0.0
_is_compiling = False
_programs: list["Program"] = []


@dataclasses.dataclass(frozen=True)
class Program:
  """One that this process has compiled, or read from the cache."""

  name: str
  seconds: float


def cache_home() -> str:
  """Where this package keeps what can be made again; '' where it must not."""
  home = os.path.join("~", ".cache", "instruct_jax")
  if os.environ.get("HOME") == "":  # "~" would be the root of the disk
    home = ""
  name = os.path.expanduser(os.environ.get(FOLDER_VARIABLE, home))
  return "" if name.startswith("~") else name  # nobody's home


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


def options(mesh: jax.sharding.Mesh) -> dict[str, int]:
  """How a program is compiled that compiles for long and runs often.

  On a CPU LLVM's first level instead of its third: an eighth sooner compiled,
  and as fast, since matrix products come from libraries. A level that stands in
  XLA_FLAGS is what somebody wants.
  """
  on_cpu = all(device.platform == "cpu" for device in mesh.devices.flat)
  is_given = _LEVEL in os.environ.get("XLA_FLAGS", "")
  return {_LEVEL: 1} if on_cpu and not is_given else {}


def programs(since: int = 0) -> list[Program]:
  """What has been compiled, in that order, after the first `since` of them."""
  return _programs[since:]


def summary(programs: Sequence[Program], most: int = 3) -> str:
  """'5.1 s in 14 programs: update 3.2 s, generate 1.4 s', the longest first;
  '' where it is too little to be worth a word."""
  seconds = sum(program.seconds for program in programs)
  if seconds < _SAID_AFTER:
    return ""
  longest = sorted(programs, key=lambda program: -program.seconds)[:most]
  named = [f"{x.name} {x.seconds:.1f} s" for x in longest if x.seconds >= 0.1]
  return f"{seconds:.1f} s in {len(programs)} programs: {', '.join(named)}"


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


def program_seconds() -> float:
  """Seconds in which this process made programs, the present one included.

  They are traced, lowered and compiled (or read from the cache); where several
  threads do so at once, or one inside of another, the time counts once.
  """
  return _making.seconds()


def making_since() -> float | None:
  """When what is being made now was begun (time.monotonic); None: nothing."""
  return _making.since


def making() -> str:
  """The name of the program that is being made now; '' of none."""
  return _making.name


class _Making:
  """The time covered by spans that begin and end, which may overlap."""

  def __init__(self):
    self.since: float | None = None
    self.name = ""
    self._open, self._past = 0, 0.0
    self._lock = threading.Lock()

  def begin(self, name: str = "") -> None:
    with self._lock:
      self._open += 1
      self.name = name
      if self._open == 1:
        self.since = time.monotonic()

  def end(self) -> None:
    with self._lock:
      self._open = max(0, self._open - 1)
      if not self._open and self.since is not None:
        self._past += time.monotonic() - self.since
        self.since, self.name = None, ""

  def seconds(self) -> float:
    with self._lock:
      since = self.since
      return self._past + (time.monotonic() - since if since else 0.0)


_making = _Making()


def _begin(event: str, value: float | int, **details: str | int) -> None:
  """jax says so by a scalar, the time, and the end by a duration."""
  del value
  if event in _MAKING:
    _making.begin(_name(details))


def _end(event: str, duration_secs: float, **details: str | int) -> None:
  global _seconds, _is_compiling
  if event in _MAKING:
    _making.end()
  if event == _LOWER:
    _is_compiling = True  # What follows a program's lowering.
  if event == _COMPILE:
    _seconds, _is_compiling = _seconds + duration_secs, False
    _programs.append(Program(_name(details), duration_secs))
    if duration_secs >= _TRIMMED_AFTER:
      allocation.trim()
    if duration_secs >= _SAID_AFTER:
      _log.info("compiled %s in %.1f s", _name(details), duration_secs)


def _name(details: Mapping[str, str | int]) -> str:
  """What people call a program: 'jit(_update)' -> 'update'."""
  name = str(details.get("fun_name", ""))
  return name.removeprefix("jit(").removesuffix(")").strip("_<>") or "program"


jax.monitoring.register_scalar_listener(_begin)
jax.monitoring.register_event_duration_secs_listener(_end)
