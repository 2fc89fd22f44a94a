"""Where a run's numbers come from: when, by which command, code and machine.

Recorded in results.json as "provenance". It is not part of any digest, and
holds no path, name of a person or of a machine but what the command says.
"""

import datetime
import importlib.metadata
import os
import pathlib
import platform
import shlex
import subprocess
import sys
from typing import Any

import jax

import instruct_jax

# What the numbers may depend on.
PACKAGES = ("jax", "jaxlib", "flax", "optax", "orbax-checkpoint", "numpy",
            "scipy", "tokenizers", "tensorflow-datasets")  # fmt: skip


def collect() -> dict[str, Any]:
  """The provenance of what this process has just finished.

  "date" is UTC, ISO 8601; "commit" is empty where the code is not in a git
  repository of its own, "changed" whether files differ from it.
  """
  devices = jax.devices()
  return {
    "date": datetime.datetime.now(datetime.UTC).isoformat(timespec="seconds"),
    "command": command(),
    **commit(),
    "python": platform.python_version(),
    "packages": {"instruct_jax": instruct_jax.__version__} | _versions(),
    "device": devices[0].device_kind,
    "devices": len(devices),
    "processes": jax.process_count(),
    "cores": os.cpu_count(),
    "system": f"{platform.system()} {platform.machine()}",
  }


def command() -> str:
  """The command line of this process as a shell takes it."""
  spec = getattr(sys.modules.get("__main__"), "__spec__", None)
  # `python -m package.module` stands in argv as the path of a file.
  if spec is not None and spec.name:
    return shlex.join(
      ["python", "-m", spec.name.removesuffix(".__main__"), *sys.argv[1:]]
    )
  return shlex.join([pathlib.Path(sys.argv[0]).name, *sys.argv[1:]])


def commit() -> dict[str, Any]:
  """{"commit", "changed"} of the repository that this code is tracked in."""
  here = pathlib.Path(instruct_jax.__file__)
  # An environment inside of somebody else's repository is not tracked there.
  tracked = _git(here.parent, "ls-files", "--error-unmatch", here.name)
  head = _git(here.parent, "rev-parse", "--short=12", "HEAD")
  if not tracked or not head:
    return {"commit": "", "changed": False}
  status = _git(here.parent, "status", "--porcelain", "--untracked-files=no")
  return {"commit": head, "changed": bool(status)}


def _git(folder: pathlib.Path, *arguments: str) -> str:
  """What git says, "" where it fails or is not there."""
  try:
    done = subprocess.run(
      ["git", "-C", str(folder), *arguments],
      capture_output=True,
      text=True,
      timeout=10,
      check=True,
    )
  except (OSError, subprocess.SubprocessError):
    return ""
  return done.stdout.strip()


def _versions() -> dict[str, str]:
  found = {}
  for name in PACKAGES:
    try:
      found[name] = importlib.metadata.version(name)
    except importlib.metadata.PackageNotFoundError:
      continue
  return found
