"""Text <-> token ids: SentencePiece, plain bytes, and pretrained models' own.

Every tokenizer keeps three promises. Padding is not the end-of-text id
(README, detail 5), and `encode` produces neither of them: text that spells a
special token is ordinary text. `decode(encode(text))` is the text itself, for
'word' tokenizers the text with its white space normalised and its unknown
words replaced. A tokenizer is a folder: `info.json`, and `tokenizer.model`
where SentencePiece made it, or the files that a pretrained model came with.

  word     the microworld's: a token per word of spaced text
  unigram  subwords, lossless on any text (unknown characters become bytes)
  bpe      the same with byte-pair merges, as GPT-3 has
  byte     UTF-8 bytes; nothing to train, for tests

and `pretrained` for the kinds hf, gpt2 and sentencepiece.
"""

import hashlib
import os
from collections.abc import Iterable, Sequence
from typing import Protocol, runtime_checkable

import numpy as np
from etils import epath

from instruct_jax.base import errors, storage
from instruct_jax.tokenizers import files, pretrained, trained, trained_files
from instruct_jax.tokenizers import start as start_

UNKNOWN_ID, EOT_ID = trained_files.UNKNOWN_ID, trained_files.EOT_ID
MODEL_FILE, INFO_FILE = files.MODEL, files.INFO
KINDS, ByteTokenizer = trained.KINDS, trained.ByteTokenizer


@runtime_checkable
class Tokenizer(Protocol):
  """What the rest of the project knows of a tokenizer."""

  kind: str
  vocab_size: int
  pad_id: int  # may be `vocab_size`, past the model's embeddings
  eot_id: int
  start: str  # which of `start.CHOICES` a prompt begins with
  start_ids: tuple[int, ...]  # these are
  reference_ids: tuple[int, ...]  # what the tokenizer itself would put there
  stop_ids: tuple[int, ...]  # a response ends at any of them
  special_ids: dict[str, int]  # what a template may spell
  special_names: dict[str, str]  # 'bos_token' -> '<s>', as templates say it
  chat_template: str  # the model's own, in Jinja2; or ''

  def encode(self, text: str) -> list[int]:
    """The ids of a text; never `pad_id` or `eot_id`."""

  def encode_batch(self, texts: Sequence[str]) -> list[list[int]]:
    """`encode` of many texts, in parallel where that pays."""

  def encode_arrays(self, texts: Sequence[str]) -> list[np.ndarray]:
    """`encode_batch` as arrays [T] int32, for much text: in less time."""

  def encode_parts(
    self, rows: Sequence[Sequence[str | int]]
  ) -> list[list[int]]:
    """Ids of rows of text and, in between, of special tokens by their id."""

  def decode(self, ids: Iterable[int]) -> str:
    """The text of ids; padding and end-of-text leave no trace."""

  def normalize(self, text: str) -> str:
    """What a person typed, written as the training text is."""

  def unknown_words(self, text: str) -> list[str]:
    """Words that the tokenizer cannot represent, each once, in order."""

  def save(self, folder: os.PathLike | str) -> None:
    """Writes the tokenizer; `load` reads it back."""

  def export(self, folder: os.PathLike | str) -> str:
    """Writes the files that transformers reads; the ids are the same.

    Returns what could not be kept, in one line, or ''.
    """


def train(
  texts: Iterable[str],
  folder: os.PathLike | str,
  *,
  kind: str,
  vocab_size: int,
  start: str = start_.REFERENCE,
) -> Tokenizer:
  """Trains a tokenizer, saves it in `folder` and returns it.

  The same texts in the same order give the same model. `vocab_size` is a limit:
  text that supports fewer pieces gives fewer, read `vocab_size` of the result.

  Raises:
    UserError: no text, or a vocabulary too small for it (for 'word': smaller
      than the number of different words, none of which may be lost).
  """
  tokenizer = trained.train(texts, kind=kind, vocab_size=vocab_size)
  start_.put(tokenizer, start).save(folder)
  # pyrefly: ignore[bad-return]  # what the protocol reads is constant there
  return tokenizer


def load(folder: os.PathLike | str, *, start: str = "") -> Tokenizer:
  """Reads what `save` wrote in `folder` or in its `tokenizer` folder.

  Else what stands beside a pretrained model there. `start` is one of
  `start.CHOICES`; '': what it was saved with, else what the model's own is.

  Raises:
    UserError: there is none, or it is damaged.
  """
  asked = folder = epath.Path(folder)
  if not (folder / INFO_FILE).exists():
    folder = folder / "tokenizer"
  if not (folder / INFO_FILE).exists():
    kind = pretrained.find(asked)
    if kind:
      tokenizer = pretrained.read(asked, kind)
      return start_.put(tokenizer, start or start_.REFERENCE)
    pairs = ", ".join(" + ".join(pair) for pair in files.PAIRS)
    raise errors.UserError(
      f"{asked}: no tokenizer here; neither {INFO_FILE}, {files.JSON}, {pairs}"
      f" nor {MODEL_FILE}"
    )
  where = folder / INFO_FILE
  try:
    info = storage.read_json(where)
    kind, content = str(info["kind"]), info.get("files") or info["model"]
  except (errors.UserError, LookupError) as error:
    raise errors.UserError(f"{where}: a damaged tokenizer: {error}") from None
  if kind in pretrained.CODECS:
    tokenizer = pretrained.restore(folder, kind, content)
    saved = info.get("start") or start_.before_choices(tokenizer)
    return start_.put(tokenizer, start or saved)
  if kind not in KINDS:
    raise errors.unknown(f"tokenizer kind in {where}", kind, KINDS)
  model = files.read(folder / MODEL_FILE) if content else b""
  if bool(model) == (kind == "byte"):
    raise errors.UserError(
      f"{where}: a damaged tokenizer: a '{kind}' tokenizer has"
      f" {'no' if model else 'a'} {MODEL_FILE}"
    )
  if model and hashlib.sha256(model).hexdigest() != content:
    raise errors.UserError(
      f"{folder / MODEL_FILE}: its digest differs from {INFO_FILE}'s; the file "
      "is damaged or of another tokenizer. Build the data set again."
    )
  saved = info.get("start") or start_.REFERENCE
  return start_.put(KINDS[kind](model), start or saved)
