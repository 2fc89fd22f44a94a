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

from etils import epath

from instruct_jax.base import errors, storage
from instruct_jax.tokenizers import (
  files,
  json_codec,
  sentencepiece_codec,
  special_tokens,
)


class PretrainedTokenizer:
  """A tokenizer with the ids of the model that it came with.

  Where text is not covered by its vocabulary, decoding gives what the model's
  own tokenizer gives.
  """

  def __init__(
    self, kind: str, codec: Any, known: special_tokens.Facts, found: files.Files
  ):
    codec.protect(known.named)
    self.kind, self._codec, self.files = kind, codec, dict(found)
    self.vocab_size, self.eot_id = known.vocab_size, known.eot_id
    self.pad_id, self.start_ids = known.pad_id, known.start_ids
    self.stop_ids, self.chat_template = known.stop_ids, known.chat_template
    self.special_ids: dict[str, int] = codec.special_ids
    self.special_names = known.special_names

  def encode(self, text: str) -> list[int]:
    return self._codec.encode(text)

  def encode_batch(self, texts: Sequence[str]) -> list[list[int]]:
    return self._codec.encode_batch(list(texts))

  def encode_parts(
    self, rows: Sequence[Sequence[str | int]]
  ) -> list[list[int]]:
    return self._codec.encode_parts(rows)

  def decode(self, ids: Iterable[int]) -> str:
    hidden = {self.pad_id, *self.stop_ids, *self.start_ids}
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
      "files": digests,
    }
    storage.write_json(folder / files.INFO, info)

  def export(self, folder: os.PathLike | str) -> None:
    """The files as they were read, and what transformers needs beside them.

    That is a tokenizer.json and a tokenizer_config.json where there was none,
    and the tokens that they do not name. There is a "pad_token" where the model
    has one of its own.
    """
    folder = epath.Path(folder)
    folder.mkdir(parents=True, exist_ok=True)
    others = (files.GENERATION, files.MODEL_CONFIG)
    for name, content in self.files.items():
      if name not in others:
        storage.write(folder / name, content)
    self._write_config(folder)
    if files.JSON not in self.files:
      self._write_json(folder)

  def _write_config(self, folder):
    config, made = {}, {}
    if files.CONFIG in self.files:
      config = files.json_object(self.files, files.CONFIG, folder)
    if files.JSON not in self.files:
      # Its class would read the other files, or change what we have written.
      made["tokenizer_class"] = "PreTrainedTokenizerFast"
      made["clean_up_tokenization_spaces"] = False
    names = {i: name for name, i in self.special_ids.items()}
    for key, i in (
      ("bos_token", self.start_ids[0]),
      ("eos_token", self.eot_id),
      ("pad_token", self.pad_id),
    ):
      missing = config.get(key) is None and not self._in_map(key)
      if missing and i in names:
        made[key] = names[i]
    if made:
      storage.write_json(folder / files.CONFIG, config | made)

  def _in_map(self, key):
    if files.SPECIAL not in self.files:
      return False
    found = files.json_object(self.files, files.SPECIAL, epath.Path())
    return found.get(key) is not None

  def _write_json(self, folder):
    made = self._codec.written()
    if self.start_ids != (self.eot_id,) or self.kind == "sentencepiece":
      files.start(made, self.start_ids)
    storage.write(folder / files.JSON, made.to_str(pretty=True))


CODECS = {
  "hf": lambda folder, found: json_codec.open_json(folder, found),
  "gpt2": lambda folder, found: json_codec.open_gpt2(folder, found),
  "sentencepiece": lambda folder, found: _open_pieces(folder, found),
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
  found = {name: files.read(folder / name) for name in (*names, *there)}
  codec = CODECS[kind](folder, found)
  return PretrainedTokenizer(
    kind, codec, special_tokens.read(folder, found, codec), found
  )


def restore(folder: epath.Path, kind: str, digests: Any) -> PretrainedTokenizer:
  """What `save` wrote; UserError where a file is not that one."""
  if not isinstance(digests, dict):
    raise errors.UserError(
      f'{folder / files.INFO}: a damaged tokenizer: no "files" in it'
    )
  made = read(folder, kind)
  for name, content in made.files.items():
    if digests.get(name) != hashlib.sha256(content).hexdigest():
      raise errors.UserError(
        f"{folder / name}: its digest differs from {files.INFO}'s; the file is"
        " damaged or of another tokenizer. Build the data set again."
      )
  for name in digests.keys() - made.files.keys():
    raise errors.UserError(f"{folder / name}: no such file.")
  return made


def _needed(folder, kind):
  for names in _NEEDED[kind]:
    if all((folder / name).exists() for name in names):
      return names
  return ()


def _open_pieces(folder, found):
  config = {}
  if files.CONFIG in found:
    config = files.json_object(found, files.CONFIG, folder)
  legacy = config.get("legacy") is not False
  return sentencepiece_codec.Pieces(
    found[files.MODEL], folder / files.MODEL, legacy=legacy
  )
