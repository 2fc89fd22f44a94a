"""A folder where a user points: whole or not there, and never somebody else's.

What is written lies in `.NAME.partial` beside its place until it is complete;
where there is a folder already, in `.partial` within it, for that may be a disk
of its own.
"""

import contextlib
from collections.abc import Iterable, Iterator

from etils import epath

from instruct_jax.base import claims, run_folder, storage
from instruct_jax.parallel import hosts


@contextlib.contextmanager
def making(
  folder: epath.PathLike,
  *,
  reads: Iterable[epath.PathLike] = (),
  overwrite: bool = False,
) -> Iterator[epath.Path]:
  """A folder to fill, which gets its name when the block ends without error.

  Every process of a job calls it. What a command of ours had written there is
  replaced; what is somebody else's is moved aside to NAME.old1, if `overwrite`.
  After an error nothing is left behind, and what was there is there.

  Raises UserError as `claims.claim`, and where another job fills it just now.
  """
  folder = epath.Path(folder)
  if not folder.is_absolute():
    folder = folder.resolve()
  reads = list(reads)

  def claim():
    claims.claim(folder, reads=reads, overwrite=overwrite, folder=True)
    if folder.exists() and claims.is_signed(folder):
      return str(folder / claims.PARTIAL)
    return str(folder.parent / f".{folder.name}{claims.PARTIAL}")

  partial = epath.Path(hosts.once("claim", claim))
  with contextlib.ExitStack() as held:
    if hosts.is_writer():
      held.enter_context(_filling(partial, folder))
    hosts.barrier(f"fill {folder.name}")
    yield partial
    hosts.barrier(f"filled {folder.name}")


@contextlib.contextmanager
def _filling(partial: epath.Path, folder: epath.Path) -> Iterator[None]:
  made = [above for above in partial.parents if not above.exists()]
  try:
    partial.mkdir(parents=True, exist_ok=True)
    with storage.alone(partial, folder):
      try:
        _empty(partial)  # A killed process may have left something.
        yield
        _give_name(partial, folder)
      except BaseException:
        with contextlib.suppress(OSError):
          _empty(partial)
          partial.rmdir()
        raise
  except BaseException:
    storage.remove_empty(made)
    raise
  claims.sign(folder)


def _give_name(partial: epath.Path, folder: epath.Path) -> None:
  if partial.parent != folder:
    if folder.exists():
      folder.rename(run_folder.free(folder))
    partial.rename(folder)
    return
  for path in folder.iterdir():
    if path != partial:
      _remove(path)
  for path in partial.iterdir():
    path.rename(folder / path.name)
  partial.rmdir()


def _empty(folder: epath.Path) -> None:
  for path in folder.iterdir():
    _remove(path)


def _remove(path: epath.Path) -> None:
  path.rmtree() if path.is_dir() else path.unlink()
