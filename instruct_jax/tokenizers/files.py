"""The files of a tokenizer: their names, and reading them with care."""

import itertools
import json
import re
from collections.abc import Mapping, Sequence
from typing import Any

import tokenizers as library
from etils import epath

from instruct_jax.base import errors, pointers, storage

JSON, MODEL = "tokenizer.json", "tokenizer.model"
INFO = "info.json"  # ours, beside the files that it vouches for
PAIRS = (("encoder.json", "vocab.bpe"), ("vocab.json", "merges.txt"))
CONFIG, SPECIAL = "tokenizer_config.json", "special_tokens_map.json"
TEMPLATE, ADDED = "chat_template.jinja", "added_tokens.json"
# The model's own, which also say what ends a text.
GENERATION, MODEL_CONFIG = "generation_config.json", "config.json"
SENTENCEPIECE_CLASS = "LlamaTokenizer"  # reads a MODEL in transformers
BESIDE = (CONFIG, SPECIAL, TEMPLATE, ADDED, GENERATION, MODEL_CONFIG)

Files = Mapping[str, bytes]

_MOST_BYTES = 512 << 20
_MOST_TOKENS = 10_000_000


def read(path: epath.Path) -> bytes:
  """The content of a file; UserError where it is missing or too large."""
  try:
    size = path.stat().length
    if size > _MOST_BYTES:
      raise errors.UserError(
        f"{path}: {size} bytes, where a tokenizer's file has at most"
        f" {_MOST_BYTES}."
      )
    content = path.read_bytes()
  except FileNotFoundError:
    raise errors.UserError(f"{path}: no such file.") from None
  except OSError as error:
    raise errors.UserError(f"{path}: cannot be read ({error}).") from None
  pointers.check(path, content)
  return content


def text(files: Files, name: str, folder: epath.Path) -> str:
  """A file as text; UserError where it is not UTF-8."""
  try:
    return files[name].decode("utf-8-sig")
  except UnicodeDecodeError as error:
    raise errors.UserError(
      f"{folder / name}: not UTF-8 at byte {error.start}."
    ) from None


def json_object(files: Files, name: str, folder: epath.Path) -> dict[str, Any]:
  """The JSON object that a file holds; no key is in it twice."""
  content = text(files, name, folder)
  try:
    tree = json.loads(content, object_pairs_hook=storage.keys_once)
    if re.search(r"\\u[dD][89a-fA-F]", content):
      json.dumps(tree, ensure_ascii=False).encode("utf-8")
  except (ValueError, RecursionError) as error:
    raise errors.UserError(
      f"{folder / name}: not readable JSON ({error})."
    ) from None
  if not isinstance(tree, dict):
    raise errors.UserError(f"{folder / name}: should be a JSON object.")
  return tree


def check_ids(vocabulary: Mapping[str, Any], where: Any) -> None:
  """UserError unless the ids are 0, 1, 2 ... each once."""
  if not vocabulary:
    raise errors.UserError(f"{where}: a tokenizer without tokens.")
  for token, i in vocabulary.items():
    if type(i) is not int or i < 0:
      raise errors.UserError(
        f"{where}: the id of {token[:40]!r} should be a number from 0, not"
        f" {str(i)[:40]}."
      )
  ids = sorted(vocabulary.values())
  if ids[-1] >= _MOST_TOKENS:
    raise errors.UserError(
      f"{where}: the id {ids[-1]} is out of range; the largest is"
      f" {_MOST_TOKENS - 1}."
    )
  twice = next((a for a, b in itertools.pairwise(ids) if a == b), None)
  if twice is not None:
    raise errors.UserError(f"{where}: two tokens have the id {twice}.")
  if len(ids) <= ids[-1]:
    lacking = next(n for n, i in enumerate(ids) if i != n)
    raise errors.UserError(f"{where}: no token has the id {lacking}.")


def put_in_front(tokenizer: library.Tokenizer, ids: Sequence[int]) -> None:
  """Has a tokenizer of the library start its texts with these tokens."""
  names = [tokenizer.id_to_token(i) for i in ids]
  tokenizer.post_processor = library.processors.TemplateProcessing(
    single=[*names, "$A"],
    special_tokens=list(dict.fromkeys(zip(names, ids))),
  )
