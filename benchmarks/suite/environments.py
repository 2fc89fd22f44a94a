"""Each peer's own environment: a venv with pinned versions, made once.

They lie in $INSTRUCT_JAX_CACHE/peers, else ~/.cache/instruct_jax/peers. What
cannot be installed here is said, and its rows go without a number.
"""

import json
import os
import pathlib
import shutil
import subprocess
import sys

from instruct_jax.base import compilation, errors

_HERE = pathlib.Path(__file__).resolve().parents[1] / "peers"
_TORCH = "torch==2.13.0"  # an index with CPU builds, 2.13.0+cpu, is preferred
_TRANSFORMERS = "transformers==5.23.0"
# Versions that were measured; what they need of others is pip's to choose.
REQUIREMENTS = {
  "transformers": (_TORCH, _TRANSFORMERS),
  "trl": (_TORCH, _TRANSFORMERS, "trl==1.16.0"),
  "trl-ppo": (_TORCH, _TRANSFORMERS, "trl==1.10.0"),  # the last with PPO
  "peft": (_TORCH, _TRANSFORMERS, "peft==0.21.2"),
  "lm-eval": (_TORCH, _TRANSFORMERS, "accelerate>=1.0", "lm_eval==0.4.13"),
  "llama": ("llama-cpp-python==0.3.36", "gguf==0.19.0", "safetensors>=0.5"),
}
# Of the pinned version: the library alone, several files at a time. Neither
# changes how it is optimised.
_LLAMA = (
  "-DLLAVA_BUILD=OFF",
  "-DCMAKE_UNITY_BUILD=ON",
  f"-DCMAKE_PROJECT_llama_cpp_INCLUDE={_HERE / 'llama.cmake'}",
)
VARIABLES = {"llama": {"CMAKE_ARGS": " ".join(_LLAMA)}}  # while it is made
_STAMP = "made_of.json"
_VENV = ("venv",)
_MINUTES = 60  # llama.cpp is compiled


class Unavailable(Exception):
  """An environment that cannot be made here; the message says why."""


def home() -> pathlib.Path:
  """Where they lie; UserError where there is no place."""
  cache = compilation.cache_home()
  if not cache:
    raise errors.UserError(
      f"the peers' environments need a folder: set"
      f" {compilation.FOLDER_VARIABLE} to one"
    )
  return pathlib.Path(cache) / "peers"


def python_of(name: str) -> pathlib.Path:
  """The interpreter of an environment, which is made if it is not there.

  Raises Unavailable, with the end of what pip said.
  """
  if name not in REQUIREMENTS:
    raise errors.unknown("environment", name, REQUIREMENTS)
  folder, wanted = home() / name, list(REQUIREMENTS[name])
  python = folder / "bin" / "python"
  if _made_of(folder) == wanted and python.exists():
    return python
  print(f"making {folder}: {', '.join(wanted)}", file=sys.stderr, flush=True)
  shutil.rmtree(folder, ignore_errors=True)
  try:
    _said([sys.executable, "-m", *_VENV, str(folder)])
    variables = VARIABLES.get(name, {})
    _said([str(python), "-m", "pip", "install", "-q", *wanted], variables)
  except Unavailable:
    shutil.rmtree(folder, ignore_errors=True)
    raise
  (folder / _STAMP).write_text(json.dumps(wanted) + "\n")
  return python


def _made_of(folder):
  try:
    return json.loads((folder / _STAMP).read_text())
  except (OSError, ValueError):
    return None


def _said(command, variables=None):
  """What a command prints; Unavailable where it fails."""
  try:
    done = subprocess.run(
      command,
      capture_output=True,
      text=True,
      timeout=60 * _MINUTES,
      env=os.environ | (variables or {}),
    )
  except (OSError, subprocess.TimeoutExpired) as error:
    raise Unavailable(f"{command[0]}: {error}") from None
  if done.returncode:
    lines = [x for x in done.stderr.splitlines() if x.strip()]
    why = next((x for x in lines[::-1] if "ERROR" in x.upper()), "")
    raise Unavailable(why or " ".join(lines[-1:]) or "pip failed")
  return done.stdout
