"""The files of the tokenizers that are trained here, ours and for others."""

import hashlib
import os
from collections.abc import Sequence
from typing import Any

import tokenizers as library
from etils import epath

from instruct_jax.base import storage
from instruct_jax.tokenizers import files, start

PAD_ID, UNKNOWN_ID, EOT_ID = 0, 1, 2  # of all but the byte tokenizer
PAD, EOT = "<pad>", "<eot>"


def write(
  folder: os.PathLike | str, tokenizer: Any, model: bytes | None
) -> None:
  """The model first, then the description that vouches for it by digest."""
  folder = epath.Path(folder)
  folder.mkdir(parents=True, exist_ok=True)
  digest = None if model is None else hashlib.sha256(model).hexdigest()
  if model is not None:
    storage.write(folder / files.MODEL, model)
  info = {"kind": tokenizer.kind, "vocab_size": tokenizer.vocab_size}
  if tokenizer.start != start.REFERENCE:
    info["start"] = tokenizer.start
  storage.write_json(folder / files.INFO, info | {"model": digest})


def export(
  tokenizer: library.Tokenizer,
  folder: os.PathLike | str,
  start_ids: Sequence[int],
  **names: str,
) -> None:
  """Writes a tokenizer for transformers, as ours starts and ends texts."""
  folder = epath.Path(folder)
  folder.mkdir(parents=True, exist_ok=True)
  names = {"bos_token": EOT, "eos_token": EOT, "pad_token": PAD} | names
  special = dict.fromkeys(names.values())
  tokenizer.add_special_tokens(
    [library.AddedToken(x, special=True, normalized=False) for x in special]
  )
  files.put_in_front(tokenizer, start_ids)
  storage.write(folder / files.JSON, tokenizer.to_str(pretty=True))
  about = {
    "tokenizer_class": "PreTrainedTokenizerFast",
    "clean_up_tokenization_spaces": False,
    **names,
  }
  for name, value in ((files.CONFIG, about), (files.SPECIAL, names)):
    storage.write_json(folder / name, value)
