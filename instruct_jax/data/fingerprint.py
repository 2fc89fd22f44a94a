"""What a data set depends on: settings, and the content of files."""

import hashlib
from collections.abc import Iterable
from typing import Any

import ml_collections
from etils import epath

from instruct_jax.base import storage
from instruct_jax.data.clean import pii
from instruct_jax.data.read import answers, collected, files, kinds, specs

IMPORTED = "hf:"  # before the folder of a tokenizer that is taken as it is
_TOKENIZER_FILES = (".json", ".model", ".txt", ".bpe", ".jinja")
_SETTINGS = (
  "template",
  "start",
  "prompt_length",
  "response_length",
  "row_length",
  "k_max",
  "loss_on",
  "vocab_size",
  "tokenizer",
  "tokenizer_sample",
  "validation_fraction",
  "test_fraction",
  "prefix",
  "per_user",
  "remove_pii",
)


def of(data: ml_collections.ConfigDict) -> dict[str, Any]:
  """What the data set depends on: settings, and digests of all files."""
  named = [kind for kind in kinds.KINDS if data[kind]]
  digests = {
    kind: {str(path): digest(path, kind) for path in specs.paths(data[kind])}
    for kind in named
  }
  if data.tokenizer.startswith(IMPORTED):
    paths = epath.Path(data.tokenizer.removeprefix(IMPORTED)).glob("*")
    digests["tokenizer"] = {
      str(path): storage.digest(path)
      for path in sorted(paths)
      if path.suffix in _TOKENIZER_FILES and not path.is_dir()
    }
  if data.remove_pii:
    digests["pii"] = {pii.FILE.name: storage.digest(epath.Path(pii.FILE))}
  return {**settings(data), "files": digests}


def settings(data: ml_collections.ConfigDict) -> dict[str, Any]:
  """What of `config.data` the data set depends on, beside its files."""
  named = (kind for kind in kinds.KINDS if data[kind])
  return {name: data[name] for name in (*_SETTINGS, *named)}


def digest(path: epath.Path, kind: str) -> str:
  """A hash of a file's content; of people's labels, of those of a kind."""
  return (
    collected.digest(path, kind)
    if answers.is_one(path)
    else storage.digest(path)
  )


def together(paths: Iterable[epath.Path]) -> str:
  """16 digits of the contents of files, one behind the other.

  Of people's labels, whose server may run, of what is read where nothing says
  which kind: rankings.
  """
  content = hashlib.sha256()
  for path in paths:
    if answers.is_one(path):
      content.update(collected.digest(path, files.RANKINGS).encode())
      continue
    for block in storage.blocks(path):
      content.update(block)
  return content.hexdigest()[:16]
