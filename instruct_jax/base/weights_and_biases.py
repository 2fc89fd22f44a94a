"""Weights & Biases beside TensorBoard: the same metrics, on its pages.

`config.wandb` is the switch: off; offline (written beside the run, sent later
by `wandb sync`); online. Runs have the name of their folder and an id that is
kept in it, so that a run that goes on is one there, too: what W&B has already
it keeps, and refuses a second time.
"""

import contextlib
import logging
import uuid
from collections.abc import Mapping
from typing import Any

from etils import epath

from instruct_jax.base import errors, storage

OFF, OFFLINE, ONLINE = MODES = ("off", "offline", "online")
PROJECT = "instruct_jax"

_log = logging.getLogger(__name__)


def check(mode: str) -> None:
  """UserError where W&B is asked for and is not installed."""
  if mode != OFF:
    _package(mode)


def _package(mode: str) -> Any:
  try:
    import wandb
  except ImportError as error:
    raise errors.UserError(
      f"config.wandb={mode}: Weights & Biases cannot be imported ({error}):"
      " pip install 'instruct_jax[wandb]'"
    ) from None
  return wandb


def _id_of(home: epath.Path) -> str:
  """The id of a run, made when it is first asked for.

  It lies in the folder: one of the same path is another run in another project,
  on another machine, or after the first was moved aside.
  """
  path = home / "wandb" / "id.json"
  known = storage.read_json(path).get("id") if path.exists() else None
  if isinstance(known, str) and known:
    return known
  made = uuid.uuid4().hex[:16]
  path.parent.mkdir(parents=True, exist_ok=True)
  storage.write_json(path, {"id": made})
  return made


class Page:
  """A run on W&B. What it cannot take is said once and stops nothing."""

  def __init__(
    self, mode: str, folder: epath.PathLike, config: Mapping[str, Any]
  ):
    """Opens the run; UserError where W&B refuses, as without a login.

    Args:
      mode: OFFLINE or ONLINE.
      folder: of the run; W&B writes into `wandb` in it, or, of a folder that
        is not on this machine, into one of its own.
      config: what is shown as the run's settings.
    """
    wandb = _package(mode)
    home = epath.Path(folder)
    is_local = "://" not in str(home)
    self._has_failed = False
    try:
      self._run = wandb.init(
        project=PROJECT,
        name=home.name,
        id=_id_of(home),
        resume="allow",
        mode=mode,
        dir=str(home) if is_local else None,
        config=dict(config),
        settings=wandb.Settings(console="off", silent=True),
      )
    except (wandb.Error, OSError) as error:
      raise errors.UserError(
        f"config.wandb={mode}: Weights & Biases says: {error}. Log in with"
        " `wandb login`, or write beside the run with config.wandb=offline"
      ) from None

  def write(self, step: int, values: Mapping[str, float]) -> None:
    """The metrics of a step."""
    if self._has_failed:
      return
    try:
      self._run.log(dict(values), step=step)
    except Exception as error:  # Its service may have gone: training goes on.
      self._has_failed = True
      _log.warning("warning: nothing more goes to W&B: %s", error)

  def close(self) -> None:
    """Ends the run there; what is offline lies on disk then."""
    with contextlib.suppress(Exception):
      self._run.finish()
