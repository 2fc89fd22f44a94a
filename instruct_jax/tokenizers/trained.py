"""Tokenizers that are trained on the run's own text, and training them."""

import io
import itertools
import os
import re
import string
from collections.abc import Iterable, Sequence
from typing import ClassVar, cast

import numpy as np
import sentencepiece
import tokenizers as library

from instruct_jax.base import errors
from instruct_jax.tokenizers import sentencepiece_codec, trained_files, words

_SPACE = sentencepiece_codec.MARK
_UNKNOWN = "\ufffd"
# Subword tokenizers have a piece for each, also where the text has no Q or Z.
_LETTERS = string.ascii_letters + string.digits + string.punctuation


class ByteTokenizer:
  """A token per UTF-8 byte. Needs no training; 258 ids."""

  kind = "byte"
  vocab_size = 258
  pad_id = 0
  eot_id = 1
  start, start_ids = "reference", (1,)
  reference_ids = stop_ids = (1,)
  special_ids: ClassVar[dict[str, int]] = {}
  special_names: ClassVar[dict[str, str]] = {}
  chat_template = ""

  def encode(self, text: str) -> list[int]:
    return [byte + 2 for byte in text.encode("utf-8")]

  def encode_batch(self, texts: Sequence[str]) -> list[list[int]]:
    return [self.encode(text) for text in texts]

  def encode_arrays(self, texts: Sequence[str]) -> list[np.ndarray]:
    contents = (text.encode("utf-8") for text in texts)
    return [np.frombuffer(c, np.uint8).astype(np.int32) + 2 for c in contents]

  def encode_parts(
    self, rows: Sequence[Sequence[str | int]]
  ) -> list[list[int]]:
    texts = cast(Sequence[Sequence[str]], rows)  # it has no special tokens
    return self.encode_batch(["".join(row) for row in texts])

  def decode(self, ids: Iterable[int]) -> str:
    data = bytes(int(i) - 2 for i in ids if i >= 2)
    return data.decode("utf-8", errors="replace")

  def normalize(self, text: str) -> str:
    return text

  def unknown_words(self, text: str) -> list[str]:
    del text
    return []

  def save(self, folder: os.PathLike | str) -> None:
    trained_files.write(folder, self, None)

  def export(self, folder: os.PathLike | str) -> str:
    vocabulary = {
      trained_files.PAD: self.pad_id,
      trained_files.EOT: self.eot_id,
    }
    vocabulary |= {f"<0x{byte:02X}>": byte + 2 for byte in range(256)}
    tokenizer = library.Tokenizer(
      library.models.BPE(vocabulary, [], byte_fallback=True)
    )
    steps = library.decoders.ByteFallback(), library.decoders.Fuse()
    tokenizer.decoder = library.decoders.Sequence(list(steps))
    trained_files.export(tokenizer, folder, self.start_ids)
    return ""


class SubwordTokenizer:
  """Unigram or BPE pieces, with bytes for whatever they do not cover."""

  pad_id = trained_files.PAD_ID
  eot_id = trained_files.EOT_ID
  start, start_ids = "reference", (trained_files.EOT_ID,)
  reference_ids = stop_ids = (trained_files.EOT_ID,)
  special_ids: ClassVar[dict[str, int]] = {}
  special_names: ClassVar[dict[str, str]] = {}
  chat_template = ""

  def __init__(self, model: bytes, kind: str):
    self.kind = kind
    self._model = model
    self._processor = sentencepiece.SentencePieceProcessor(model_proto=model)
    self.vocab_size = self._processor.get_piece_size()
    # SentencePiece would read its space mark in a text as a space: spell it.
    names = (f"<0x{byte:02X}>" for byte in _SPACE.encode("utf-8"))
    self._space_mark = [self._processor.piece_to_id(name) for name in names]

  def encode(self, text: str) -> list[int]:
    ids = []
    for n, part in enumerate(text.split(_SPACE)):
      ids += self._space_mark if n else []
      ids += self._processor.encode(part)
    return ids

  def encode_batch(self, texts: Sequence[str]) -> list[list[int]]:
    rows = sentencepiece_codec.lists(self._processor, texts)
    for n, text in enumerate(texts):
      if _SPACE in text:
        rows[n] = self.encode(text)
    return rows

  def encode_arrays(self, texts: Sequence[str]) -> list[np.ndarray]:
    rows = sentencepiece_codec.arrays(self._processor, texts)
    for n, text in enumerate(texts):
      if _SPACE in text:
        rows[n] = np.asarray(self.encode(text), np.int32)
    return rows

  def encode_parts(
    self, rows: Sequence[Sequence[str | int]]
  ) -> list[list[int]]:
    texts = cast(Sequence[Sequence[str]], rows)  # it has no special tokens
    return self.encode_batch(["".join(row) for row in texts])

  def decode(self, ids: Iterable[int]) -> str:
    return self._processor.decode([int(i) for i in ids])

  def normalize(self, text: str) -> str:
    return text

  def unknown_words(self, text: str) -> list[str]:
    del text
    return []

  def save(self, folder: os.PathLike | str) -> None:
    trained_files.write(folder, self, self._model)

  def export(self, folder: os.PathLike | str) -> str:
    """The ids are the same, with the exceptions of `of_pieces`."""
    pieces = sentencepiece_codec.of_pieces(self._model, space=" ")
    trained_files.export(pieces, folder, self.start_ids)
    return ""


KINDS = {
  "word": words.WordTokenizer,
  "unigram": lambda model: SubwordTokenizer(model, "unigram"),
  "bpe": lambda model: SubwordTokenizer(model, "bpe"),
  "byte": lambda model: ByteTokenizer(),
}


def train(
  texts: Iterable[str],
  *,
  kind: str,
  vocab_size: int,
) -> words.WordTokenizer | ByteTokenizer | SubwordTokenizer:
  """A new tokenizer; raises as `tokenizers.train`."""
  if kind not in KINDS:
    raise errors.unknown("tokenizer kind", kind, KINDS)
  if kind == "byte":
    model = b""
  else:
    sentences = (
      words.sentences_of(texts, vocab_size)
      if kind == "word"
      else (line for text in texts for line in text.split("\n") if line.strip())
    )
    model = _train(sentences, kind, vocab_size)
  return KINDS[kind](model)


def _train(sentences: Iterable[str], kind: str, vocab_size: int) -> bytes:
  """A serialised SentencePiece model."""
  sentences = iter(sentences)
  first = next(sentences, None)
  if first is None:
    raise errors.UserError("the text to train a tokenizer on is empty")
  model = io.BytesIO()
  word = kind == "word"
  try:
    sentencepiece.SentencePieceTrainer.train(
      sentence_iterator=itertools.chain([first], sentences),
      model_writer=model,
      model_type=kind,
      vocab_size=vocab_size,
      hard_vocab_limit=False,
      normalization_rule_name="identity",
      byte_fallback=not word,
      add_dummy_prefix=word,
      remove_extra_whitespaces=word,
      allow_whitespace_only_pieces=not word,
      character_coverage=1.0 if word else 0.9999,
      required_chars="" if word else _LETTERS,
      pad_id=trained_files.PAD_ID,
      unk_id=trained_files.UNKNOWN_ID,
      eos_id=trained_files.EOT_ID,
      bos_id=-1,
      pad_piece=trained_files.PAD,
      unk_piece="<unk>",
      eos_piece=trained_files.EOT,
      unk_surface=_UNKNOWN,
      max_sentence_length=1 << 30,
      num_threads=1,  # the order of sums, and with it the model, is fixed
      minloglevel=2,
    )
  except RuntimeError as error:
    raise errors.UserError(_explained(str(error), kind, vocab_size)) from None
  return model.getvalue()


def _explained(error: str, kind: str, vocab_size: int) -> str:
  small = re.search(r"required_chars\. \d+ vs (\d+)", error)
  if small:
    return (
      f"vocab_size={vocab_size} is too small for a '{kind}' tokenizer of this "
      f"text: its characters and the 256 bytes need at least {small[1]}."
    )
  return f"SentencePiece could not train a '{kind}' tokenizer: {error}"
