"""Plans that are kept, and what compilers said of programs: both take minutes.

They lie beside the cache of compiled programs ($INSTRUCT_JAX_CACHE, else
~/.cache/instruct_jax), in plans/; what is damaged is made again.
"""

import json
import logging
import zlib
from typing import Any

from etils import epath

from instruct_jax.base import compilation, storage

_log = logging.getLogger(__name__)


def read(key: str) -> dict[str, Any] | None:
  """What was written under a key; None where nothing is, or it is damaged."""
  path = _path(key)
  if path is None or not path.exists():
    return None
  try:
    found = json.loads(zlib.decompress(path.read_bytes()))
  except (OSError, zlib.error, ValueError) as error:
    _log.warning("%s is damaged (%s): planned again", path, error)
    return None
  return found if isinstance(found, dict) else None


def write(key: str, value: dict[str, Any]) -> None:
  """Keeps a value; a folder that cannot be written costs time alone."""
  path = _path(key)
  if path is None:
    return
  try:
    path.parent.mkdir(parents=True, exist_ok=True)
    storage.write(path, zlib.compress(json.dumps(value).encode()))
  except OSError as error:
    _log.warning("plans are not kept in %s: %s", path.parent, error)


def _path(key: str) -> epath.Path | None:
  home = compilation.cache_home()
  return epath.Path(home) / "plans" / f"{key}.json.zz" if home else None
