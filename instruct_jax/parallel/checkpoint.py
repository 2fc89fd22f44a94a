"""Checkpoints: saved in the background, verified before they are believed.

A step is one folder, complete or absent (Orbax renames it into place); see
`stored`. A step that fails to read, or whose digest differs, is renamed to
`damaged-<step>`, never deleted.
"""

import contextlib
import dataclasses
import logging
import sys
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import jax
import orbax.checkpoint as ocp
from etils import epath

from instruct_jax.base import errors, imports, run_folder, storage
from instruct_jax.parallel import digest, hosts, stored

_log = logging.getLogger(__name__)


@dataclasses.dataclass(frozen=True)
class Restored:
  """What a checkpoint held."""

  step: int
  items: dict[str, digest.Tree]  # by name, each with the structure asked for
  extra: dict[str, Any]  # what `save` was given, after a trip through JSON


class Checkpointer:
  """Saves and restores the steps of one run. Every process makes one.

  Use it as a context manager: what is still being written when Python exits is
  lost (the step before it stays).
  """

  def __init__(
    self, folder: epath.PathLike, *, keep_latest: int = 2, keep_every: int = 0
  ):
    """Nothing is written before the first `save`.

    Args:
      folder: where the steps' folders stand.
      keep_latest: the newest steps to keep, at least 1 (2: one to fall back to)
      keep_every: steps divisible by it are kept for ever; 0 for none

    Raises:
      UserError: `folder` is a file.
      ValueError: `keep_latest` is below 1, or `keep_every` negative.
    """
    if keep_latest < 1 or keep_every < 0:
      raise ValueError(f"keep_latest={keep_latest}, keep_every={keep_every}")
    self._folder = _absolute(folder)
    if self._folder.exists() and not self._folder.is_dir():
      raise errors.UserError(f"{self._folder} is a file, not a folder.")
    self._keep = _Keep(keep_latest, keep_every)
    self._manager = None
    self._seals = {}  # of the steps saved by this process
    self._newest = -1  # of them
    self._is_full = False  # or broken: the disk did not take a step
    self._has_missed = False  # the step before

  def save(
    self,
    step: int,
    items: Mapping[str, digest.Tree],
    extra: Mapping[str, Any] | None = None,
  ) -> None:
    """Saves a step in the background, after the one before has been written.

    The arrays may be donated as soon as this returns. A step that exists
    already is left alone if its content is the same. One step that could not
    be written, for what is not the disk's doing, is reported and missed, if it
    is not one to keep for ever.

    Args:
      step: updates done so far.
      items: trees of jax arrays (numbers and numpy arrays become jax arrays).
      extra: whatever JSON can hold; tuples come back as lists.

    Raises:
      ValueError: the step exists with another content.
      OSError: the disk would not take this one, or the one before.
      Exception: Orbax's, where the two before could not be written, or one
        that others will look for.
    """
    named = {name: digest.named(tree) for name, tree in items.items()}
    manifest = stored.sealed(stored.manifest_of(step, named, dict(extra or {})))
    if step in self._seals or step in self.steps():
      self._check_same(step, manifest["sha256"])
      return
    arrays = {
      k: filled for k, v in named.items() if (filled := digest.filled(v))
    }
    parts: dict[str, Any] = {"manifest": ocp.args.JsonSave(manifest)}
    if arrays:
      parts["arrays"] = ocp.args.PyTreeSave(arrays)
    self._settle(wait=True)
    with self._telling():
      if self._manager is None:
        hush_callbacks()
        self._manager = _manager(self._folder, self._keep)
        imports.note(self.wait)
      self._manager.save(step, args=ocp.args.Composite(**parts), force=True)
    self._seals[step], self._newest = manifest["sha256"], step

  def restore(self, abstract: Mapping[str, digest.Tree]) -> Restored | None:
    """The newest step that is whole, or None to start afresh.

    Args:
      abstract: for every item wanted, a tree of ShapeDtypeStruct or arrays:
        shapes, dtypes, and the shardings to restore onto (default: the first
        device).

    Raises:
      UserError: the checkpoint has other items, arrays, shapes or dtypes.
    """
    self._stop()
    steps = self.steps()
    for step in reversed(steps):
      try:
        items, extra = stored.read(self._folder / str(step), abstract)
      except stored.Damaged as damage:
        self._set_aside(step, damage)
        continue
      if step != steps[-1]:
        _log.warning("Step %d in %s is used instead.", step, self._folder)
      return Restored(step, items, extra)
    if steps:
      _log.warning(
        "No checkpoint is left in %s: starting afresh.", self._folder
      )
    return None

  def steps(self) -> list[int]:
    """The steps that are complete on disk, oldest first."""
    return _steps(self._folder)

  def check(self) -> None:
    """Raises what a save in the background has raised by now, as `save`."""
    self._settle(wait=False)

  def wait(self) -> None:
    """Returns when the last save is on disk; raises what it raised."""
    if self._manager is not None:
      with self._telling():
        self._manager.wait_until_finished()

  def close(self) -> None:
    """Waits and frees the background threads. `save` would start them again.

    Nothing stays of a step that could not be written whole.
    """
    try:
      self.wait()
    finally:
      try:
        self._stop()
      finally:
        if self._is_full:
          self._drop_halves()

  def __enter__(self) -> "Checkpointer":
    return self

  def __exit__(self, *_) -> None:
    self.close()

  def _stop(self) -> None:
    manager, self._manager, self._seals = self._manager, None, {}
    imports.forget(self.wait)
    if manager is not None:
      with self._telling():
        manager.close()

  def _settle(self, *, wait: bool) -> None:
    """Notes what became of the last save, as far as it is known.

    Where several processes save together none goes on alone: it is raised.
    """
    if self._manager is None:
      return
    try:
      with self._telling():
        if wait:
          self._manager.wait_until_finished()
          self._has_missed = False
        else:
          self._manager.check_for_errors()
    except OSError:
      raise
    except Exception as error:
      is_kept = self._keep.is_for_ever(self._newest)
      if self._has_missed or is_kept or jax.process_count() > 1:
        raise
      self._miss(error)

  def _miss(self, error: Exception) -> None:
    _log.warning(
      "%s: step %d could not be saved (%s: %s); the next one is tried.",
      *(self._folder, self._newest, type(error).__name__, error),
    )
    self._has_missed = True
    seals = {k: v for k, v in self._seals.items() if k != self._newest}
    with contextlib.suppress(Exception):  # It says the same again.
      self._stop()
    self._seals = seals
    self._drop_halves()

  @contextlib.contextmanager
  def _telling(self) -> Iterator[None]:
    """What the disk says of a save, once it is known."""
    try:
      with storage.naming(self._folder):
        yield
    except OSError:
      self._is_full = True
      raise

  def _drop_halves(self) -> None:
    """Removes what was being written when it could not be."""
    stored.forget_the_rest()
    if hosts.is_writer():
      for half in self._folder.glob(f"*{_HALF}*"):
        with contextlib.suppress(OSError):
          half.rmtree()

  def _check_same(self, step: int, seal: str) -> None:
    old = self._seals.get(step)
    if old is None:
      old = stored.sealed(stored.read_manifest(self._folder / str(step)))[
        "sha256"
      ]
    if old != seal:
      raise ValueError(
        f"step {step} exists in {self._folder} with another content."
      )

  def _set_aside(self, step: int, why: stored.Damaged) -> None:
    source = self._folder / str(step)
    target, number = self._folder / f"damaged-{step}", 1
    while target.exists():
      number += 1
      target = self._folder / f"damaged-{step}-{number}"
    hosts.barrier("set_aside_found")
    hosts.once("set_aside", lambda: str(source.rename(target)))
    _log.warning("%s It is set aside as %s.", why, target.name)


def load(
  folder: epath.PathLike, step: int | None, item: str, abstract: digest.Tree
) -> digest.Tree:
  """One item of another run's checkpoint, verified; nothing is changed there.

  Args:
    folder: a run, or its `checkpoints` folder.
    step: None for the newest.
    item: e.g. 'params.policy'.
    abstract: as in `Checkpointer.restore`.

  Raises:
    UserError: not a run, no such step or item, other arrays or shapes.
    Damaged: the step cannot be read or differs from its digest.
  """
  items, _ = stored.read(_step_folder(folder, step), {item: abstract})
  return items[item]


def load_extra(
  folder: epath.PathLike, step: int | None = None
) -> dict[str, Any]:
  """The `extra` of another run's step (None: the newest); raises as `load`."""
  return stored.read_manifest(_step_folder(folder, step))["extra"]


def load_item(
  folder: epath.PathLike, step: int | None, item: str
) -> dict[str, Any]:
  """What a step's manifest says of an item: "digest" and "arrays" by path.

  Each of those is as `digest.describe` has it. Raises as `load`.
  """
  items = stored.read_manifest(_step_folder(folder, step))["items"]
  if item not in items:
    raise errors.unknown(f"item of checkpoint {folder}", item, items)
  return items[item]


def steps(folder: epath.PathLike) -> list[int]:
  """The steps of a run (or of its `checkpoints`), oldest first.

  Raises:
    UserError: there are none.
  """
  home = _home(folder)
  numbers = _steps(home)
  if not numbers:
    raise errors.UserError(f"{folder} is not a run: no checkpoint in {home}.")
  return numbers


def numbers(folder: epath.PathLike) -> list[int]:
  """The steps that are complete in a folder of checkpoints, oldest first."""
  return _steps(epath.Path(folder))


def _absolute(folder: epath.PathLike) -> epath.Path:
  path = epath.Path(folder).expanduser()
  return path if path.is_absolute() else path.resolve()


def _home(folder: epath.PathLike) -> epath.Path:
  path = _absolute(folder)
  inner = run_folder.files(path).checkpoints
  return inner if inner.is_dir() else path


def _steps(folder: epath.Path) -> list[int]:
  return sorted(each.step for each in _STEP_NAMES.find_all(folder))


def _step_folder(folder: epath.PathLike, step: int | None) -> epath.Path:
  numbers = steps(folder)
  step = numbers[-1] if step is None else step
  if step not in numbers:
    raise errors.UserError(
      f"{folder} has no checkpoint of step {step}; it has"
      f" {', '.join(map(str, numbers))}."
    )
  return _home(folder) / str(step)


_HALF = ".orbax-checkpoint-tmp"
_STEP_NAMES = ocp.path.step.standard_name_format()


class _Keep:
  """Preservation policy: the latest few, and every so many steps for ever."""

  def __init__(self, latest: int, every: int):
    self._latest, self._every = latest, every

  def should_preserve(self, checkpoints, *, context) -> Sequence[bool]:
    del context
    latest = {checkpoint.step for checkpoint in checkpoints[-self._latest :]}
    return [
      step in latest or self.is_for_ever(step)
      for step in (checkpoint.step for checkpoint in checkpoints)
    ]

  def is_for_ever(self, step: int) -> bool:
    return bool(self._every and step and step % self._every == 0)


def _manager(folder: epath.Path, keep: _Keep) -> ocp.CheckpointManager:
  handlers = ocp.handlers.DefaultCheckpointHandlerRegistry()
  handlers.add("arrays", ocp.args.PyTreeSave, stored.handler())
  handlers.add(
    "manifest", ocp.args.JsonSave, ocp.JsonCheckpointHandler("manifest.json")
  )
  return ocp.CheckpointManager(
    folder,
    handler_registry=handlers,
    options=ocp.CheckpointManagerOptions(
      preservation_policy=keep,
      cleanup_tmp_directories=True,
      save_root_metadata=False,
      lightweight_initialize=True,  # the steps' Orbax metadata is not read
    ),
  )


def _is_worth_reading(record: logging.LogRecord) -> bool:
  """Drops what Orbax narrates about every save; its errors are raised."""
  return "/orbax/" not in record.pathname


def _is_of_others(record: logging.LogRecord) -> bool:
  """Drops what asyncio says of saves that failed: Orbax raises it."""
  return "orbax" not in record.getMessage()


def hush_callbacks() -> None:
  """Hides what C++ says of writes that end after the first one has failed.

  They call back into an event loop that Orbax has closed by then: the first
  frame is asyncio's own, which no error of Python code has.
  """
  shown = sys.unraisablehook
  if getattr(shown, "hushes", False):
    return

  def show(one):
    code = one.exc_traceback and one.exc_traceback.tb_frame.f_code
    if not code or code.co_name != "call_soon_threadsafe":
      shown(one)

  show.hushes = True  # pyrefly: ignore[missing-attribute]
  sys.unraisablehook = show


logging.getLogger("asyncio").addFilter(_is_of_others)
logging.getLogger("absl").addFilter(_is_worth_reading)
