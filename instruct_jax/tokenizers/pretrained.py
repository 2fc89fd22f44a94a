"""A pretrained model's tokenizer.

  hf             tokenizer.json, read by the `tokenizers` library
  gpt2           encoder.json + vocab.bpe (or vocab.json + merges.txt)
  sentencepiece  tokenizer.model

Padding is never the end of a text: where the model has no padding token of its
own it gets an id past its vocabulary, which masks hide and no embedding is made
for.
"""

import hashlib
import os
from collections.abc import Iterable, Sequence
from typing import Any

import numpy as np
from etils import epath

from instruct_jax.base import errors, storage
from instruct_jax.tokenizers import (
  files,
  json_codec,
  json_files,
  sentencepiece_codec,
  special_tokens,
  start,
)


class PretrainedTokenizer:
  """A tokenizer with the ids of the model that it came with.

  Where text is not covered by its vocabulary, decoding gives what the model's
  own tokenizer gives.
  """

  def __init__(
    self,
    kind: str,
    codec: Any,
    known: special_tokens.Facts,
    contents: files.Files,
  ):
    codec.protect(known.named)
    self.kind, self._codec, self.files = kind, codec, dict(contents)
    self.vocab_size, self.eot_id = known.vocab_size, known.eot_id
    self.pad_id, self.reference_ids = known.pad_id, known.reference_ids
    self.start, self.start_ids = start.REFERENCE, known.reference_ids
    self.stop_ids, self.chat_template = known.stop_ids, known.chat_template
    self.special_ids: dict[str, int] = codec.special_ids
    self.special_names = known.special_names

  def encode(self, text: str) -> list[int]:
    return self._codec.encode(text)

  def encode_batch(self, texts: Sequence[str]) -> list[list[int]]:
    return self._codec.encode_batch(list(texts))

  def encode_arrays(self, texts: Sequence[str]) -> list[np.ndarray]:
    return self._codec.encode_arrays(texts)

  def encode_parts(
    self, rows: Sequence[Sequence[str | int]]
  ) -> list[list[int]]:
    return self._codec.encode_parts(rows)

  def decode(self, ids: Iterable[int]) -> str:
    starts = {*self.start_ids, *self.reference_ids}
    hidden = {self.pad_id, *self.stop_ids, *starts}
    kept = [i for i in map(int, ids) if i < self.vocab_size and i not in hidden]
    return self._codec.decode(kept)

  def normalize(self, text: str) -> str:
    return text

  def unknown_words(self, text: str) -> list[str]:
    unknown = self._codec.unknown_id
    words = list(dict.fromkeys(text.split()))
    if unknown is None or unknown not in self.encode(text):
      return []
    return [
      w for w, ids in zip(words, self.encode_batch(words)) if unknown in ids
    ]

  def save(self, folder: os.PathLike | str) -> None:
    """The files as they were read, then what vouches for them by digest."""
    folder = epath.Path(folder)
    folder.mkdir(parents=True, exist_ok=True)
    for name, content in self.files.items():
      storage.write(folder / name, content)
    digests = {
      name: hashlib.sha256(content).hexdigest()
      for name, content in self.files.items()
    }
    info = {
      "kind": self.kind,
      "vocab_size": self.vocab_size,
      "start": self.start,
      "files": digests,
    }
    storage.write_json(folder / files.INFO, info)

  def export(self, folder: os.PathLike | str) -> str:
    """The files as they were read, and what transformers needs beside them.

    That is a tokenizer.json and a tokenizer_config.json where there was none,
    and the tokens that they do not name. There is a "pad_token" where the model
    has one of its own. Where texts start otherwise than with the model's own
    tokenizer, tokenizer.json says so.
    """
    folder = epath.Path(folder)
    folder.mkdir(parents=True, exist_ok=True)
    others = (files.GENERATION, files.MODEL_CONFIG)
    for name, content in self.files.items():
      if name not in others:
        storage.write(folder / name, content)
    new_start = self.start_ids != self.reference_ids
    self._write_config(folder, new_start)
    if files.JSON not in self.files:
      self._write_json(folder, self._codec.written(), bool(self.start_ids))
    elif new_start:
      text = files.text(self.files, files.JSON, folder)
      self._write_json(
        folder, json_codec.library.Tokenizer.from_str(text), True
      )
    return ""

  def _write_config(self, folder, new_start):
    config, added = {}, {}
    if files.CONFIG in self.files:
      config = files.json_object(self.files, files.CONFIG, folder)
    if files.JSON not in self.files or new_start:
      # Its class would read the other files, or change what we have written.
      added["tokenizer_class"] = "PreTrainedTokenizerFast"
      config = {k: x for k, x in config.items() if k not in _FLAGS}
    if files.JSON not in self.files:
      added["clean_up_tokenization_spaces"] = False
    names = {i: name for name, i in self.special_ids.items()}
    bos = self.special_names.get("bos_token")
    for key, name in (
      ("bos_token", names[self.start_ids[0]] if self.start_ids else bos),
      ("eos_token", names.get(self.eot_id)),
      ("pad_token", names.get(self.pad_id)),
    ):
      if name and config.get(key) is None and not self._in_map(key):
        added[key] = name
    if added:
      storage.write_json(folder / files.CONFIG, config | added)

  def _in_map(self, key):
    if files.SPECIAL not in self.files:
      return False
    named = files.json_object(self.files, files.SPECIAL, epath.Path())
    return named.get(key) is not None

  def _write_json(self, folder, tokenizer, starts):
    if starts:
      files.put_in_front(tokenizer, self.start_ids)
    storage.write(folder / files.JSON, tokenizer.to_str(pretty=True))


# What transformers' own classes would put around a text.
_FLAGS = ("add_bos_token", "add_eos_token")
CODECS = {
  "hf": lambda folder, contents: json_files.open_json(folder, contents),
  "gpt2": lambda folder, contents: json_files.open_gpt2(folder, contents),
  "sentencepiece": lambda folder, contents: _open_pieces(folder, contents),
}
_NEEDED = {
  "hf": ((files.JSON,),),
  "gpt2": files.PAIRS,
  "sentencepiece": ((files.MODEL,),),
}


def find(folder: epath.Path) -> str:
  """The kind of tokenizer that a model's folder holds, or ''."""
  return next((kind for kind in _NEEDED if _needed(folder, kind)), "")


def read(folder: epath.Path, kind: str) -> PretrainedTokenizer:
  """The tokenizer of a folder; `kind` as `find` says.

  Raises UserError that names the file and what is wrong in it.
  """
  names = _needed(folder, kind)
  if not names:
    wanted = " or ".join(" + ".join(names) for names in _NEEDED[kind])
    raise errors.UserError(f"{folder}: lacks {wanted}.")
  there = [name for name in files.BESIDE if (folder / name).exists()]
  contents = {name: files.read(folder / name) for name in (*names, *there)}
  codec = CODECS[kind](folder, contents)
  return PretrainedTokenizer(
    kind, codec, special_tokens.read(folder, contents, codec), contents
  )


def restore(folder: epath.Path, kind: str, digests: Any) -> PretrainedTokenizer:
  """What `save` wrote; UserError where a file is not that one."""
  if not isinstance(digests, dict):
    raise errors.UserError(
      f'{folder / files.INFO}: a damaged tokenizer: no "files" in it'
    )
  tokenizer = read(folder, kind)
  for name, content in tokenizer.files.items():
    if digests.get(name) != hashlib.sha256(content).hexdigest():
      raise errors.UserError(
        f"{folder / name}: its digest differs from {files.INFO}'s; the file is"
        " damaged or of another tokenizer. Build the data set again."
      )
  for name in digests.keys() - tokenizer.files.keys():
    raise errors.UserError(f"{folder / name}: no such file.")
  return tokenizer


def _needed(folder, kind):
  for names in _NEEDED[kind]:
    if all((folder / name).exists() for name in names):
      return names
  return ()


def _open_pieces(folder, contents):
  config = {}
  if files.CONFIG in contents:
    config = files.json_object(contents, files.CONFIG, folder)
  legacy = config.get("legacy") is not False
  return sentencepiece_codec.Pieces(
    contents[files.MODEL], folder / files.MODEL, legacy=legacy
  )
