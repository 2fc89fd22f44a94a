"""SentencePiece models, read as they are and as the library takes them."""

import os
from collections.abc import Sequence
from typing import Any

import numpy as np
import sentencepiece
import tokenizers as library
from google.protobuf import message

from instruct_jax.base import errors
from instruct_jax.tokenizers import sentencepiece_model as proto

MARK = "\u2581"  # SentencePiece's own mark for a space
_TYPES = proto.ModelProto.SentencePiece
_KINDS = {
  proto.TrainerSpec.UNIGRAM: "UNIGRAM",
  proto.TrainerSpec.BPE: "BPE",
}
_NEVER = -1e6  # the score of pieces that no text may be


class Pieces:
  """A SentencePiece model as a pretrained model has it.

  Most put a space in front of every text, and take one off what they decode:
  a response that is decoded without its prompt has lost its leading space.
  With `legacy`, text after a special token gets such a space too. Text that
  begins with a space gets one more: SentencePiece does so, the LlamaTokenizer
  of transformers 5 does not.
  """

  start_ids, adds_bos = None, True  # the files beside it say, or its class

  def __init__(self, model: bytes, where: Any, *, legacy: bool = True):
    self.model, self._where = model, where
    parsed = _parsed(model, where)
    self._processor = self._later = _processor(model, where)
    if not legacy:
      parsed.normalizer_spec.add_dummy_prefix = False
      self._later = _processor(parsed.SerializeToString(), where)
    self.vocabulary = {p.piece: i for i, p in enumerate(parsed.pieces)}
    self.special_ids = {
      p.piece: i
      for i, p in enumerate(parsed.pieces)
      if p.type in (_TYPES.CONTROL, _TYPES.UNKNOWN)
    }
    self.unknown_id = self._processor.unk_id()
    self.bos_id, self.eos_id = (
      None if i < 0 else i
      for i in (self._processor.bos_id(), self._processor.eos_id())
    )
    self.pad_id = self._processor.pad_id()

  def protect(self, names: Sequence[str]) -> None:
    """UserError for a special token that text could spell."""
    for name in names:
      if name not in self.special_ids:
        raise errors.UserError(
          f"{self._where}: {name!r} is named as a special token, and is an"
          " ordinary piece of this model."
        )

  def encode(self, text: str) -> list[int]:
    return self._processor.encode(text)

  def encode_batch(self, texts: list[str]) -> list[list[int]]:
    return lists(self._processor, texts)

  def encode_arrays(self, texts: Sequence[str]) -> list[np.ndarray]:
    return arrays(self._processor, texts)

  def encode_parts(
    self, rows: Sequence[Sequence[str | int]]
  ) -> list[list[int]]:
    """Ids of texts with special tokens in them."""
    return [self._encode_row(row) for row in rows]

  def decode(self, ids: list[int]) -> str:
    return self._processor.decode(ids)

  def written(self) -> library.Tokenizer:
    """The same pieces as the `tokenizers` library takes them."""
    return of_pieces(self.model)

  def _encode_row(self, row):
    ids: list[int] = []
    text = ""
    for part in row:
      if isinstance(part, str):
        text += part
        continue
      ids, text = [*ids, *self._ids_after(ids, text), part], ""
    return ids + self._ids_after(ids, text)

  def _ids_after(self, ids, text):
    processor = self._later if ids else self._processor
    return processor.encode(text) if text else []


def lists(
  processor: sentencepiece.SentencePieceProcessor, texts: Sequence[str]
) -> list[list[int]]:
  """The ids of texts."""
  return processor.encode(list(texts), num_threads=_threads())


def arrays(
  processor: sentencepiece.SentencePieceProcessor, texts: Sequence[str]
) -> list[np.ndarray]:
  """The ids of texts, [T] int32 each; no Python number is made of any."""
  return processor.encode(list(texts), num_threads=_threads(), out_type="numpy")


def _threads() -> int:
  """One where the `tokenizers` library is told so, else (-1) one a core."""
  said = os.environ.get("TOKENIZERS_PARALLELISM", "").lower()
  return 1 if said in ("off", "false", "f", "no", "n", "0") else -1


def of_pieces(model: bytes, *, space: str = MARK) -> library.Tokenizer:
  """A SentencePiece model as a tokenizer of the `tokenizers` library.

  `space` is how pieces spell a space there: with the plain one, text may hold
  the mark U+2581 itself, which is then spelled in bytes.

  The ids of a text are the same, with these exceptions. BPE: where two ways
  to put the same piece together overlap (aa+b and a+ab for a piece in aaab), or
  different pieces have one score. Unigram: where two segmentations are equally
  likely but for the rounding of float32; where one with an unknown character
  is likelier than one without; and where text spells a special token or a byte
  with characters that are no pieces. Both: text around pieces that are defined
  by the user or unused.
  """
  parsed = proto.ModelProto.FromString(model)
  names = [p.piece.replace(MARK, space) for p in parsed.pieces]
  unigram = parsed.trainer_spec.model_type == proto.TrainerSpec.UNIGRAM
  tokenizer = library.Tokenizer((_unigram if unigram else _bpe)(parsed, names))
  spec = parsed.normalizer_spec
  tokenizer.normalizer = _normalizer(spec, space)
  steps = [library.decoders.ByteFallback(), library.decoders.Fuse()]
  if space != " ":
    steps.insert(0, library.decoders.Replace(space, " "))
  if spec.add_dummy_prefix:
    steps.append(library.decoders.Strip(" ", left=1, right=0))
  tokenizer.decoder = library.decoders.Sequence(steps)
  special = (_TYPES.CONTROL, _TYPES.UNKNOWN)
  for name, piece in zip(names, parsed.pieces):
    token = library.AddedToken(name, normalized=False)
    if piece.type in special:
      tokenizer.add_special_tokens([token])
    elif piece.type == _TYPES.USER_DEFINED:
      tokenizer.add_tokens([token])
  return tokenizer


def _parsed(model, where):
  try:
    parsed = proto.ModelProto.FromString(model)
  except message.DecodeError as error:
    raise errors.UserError(
      f"{where}: not a SentencePiece model ({error})."
    ) from None
  if not parsed.pieces:
    raise errors.UserError(f"{where}: a SentencePiece model without pieces.")
  kind = parsed.trainer_spec.model_type
  if kind not in _KINDS:
    name = proto.TrainerSpec.ModelType.Name(kind)
    raise errors.UserError(
      f"{where}: a {name} model; {' and '.join(_KINDS.values())} are read."
    )
  return parsed


def _processor(model, where):
  processor = sentencepiece.SentencePieceProcessor()
  try:
    processor.LoadFromSerializedProto(model)
    processor.encode("a")
  except (RuntimeError, ValueError, IndexError) as error:
    raise errors.UserError(
      f"{where}: not a SentencePiece model ({error})."
    ) from None
  return processor


def _unigram(parsed, names):
  # Text that spells a byte or a special token is ordinary text.
  ordinary = (_TYPES.NORMAL, _TYPES.USER_DEFINED)
  vocabulary = [
    (name, piece.score if piece.type in ordinary else _NEVER)
    for name, piece in zip(names, parsed.pieces)
  ]
  types = [piece.type for piece in parsed.pieces]
  return library.models.Unigram(
    vocabulary,
    unk_id=types.index(_TYPES.UNKNOWN),
    byte_fallback=parsed.trainer_spec.byte_fallback,
  )


def _bpe(parsed, names):
  unknown = next(
    name
    for name, piece in zip(names, parsed.pieces)
    if piece.type == _TYPES.UNKNOWN
  )
  return library.models.BPE(
    {name: i for i, name in enumerate(names)},
    _merges(parsed, names),
    unk_token=unknown,
    fuse_unk=True,
    byte_fallback=parsed.trainer_spec.byte_fallback,
  )


def _merges(parsed, names):
  """Every way to put a piece together of two, the best pieces first.

  Of the ways of one piece the one with the longer left side comes first: so a
  run of equal characters is merged from the left, as SentencePiece does.
  """
  scores = {
    name: piece.score
    for name, piece in zip(names, parsed.pieces)
    if piece.type == _TYPES.NORMAL
  }
  merges = []
  for name in sorted(scores, key=lambda name: -scores[name]):
    cuts = ((name[:n], name[n:]) for n in reversed(range(1, len(name))))
    merges += [(a, b) for a, b in cuts if a in scores and b in scores]
  return merges


def _normalizer(spec, space):
  replace, steps = library.normalizers.Replace, []
  if spec.precompiled_charsmap:
    steps.append(library.normalizers.Precompiled(spec.precompiled_charsmap))
  if spec.remove_extra_whitespaces:
    steps.append(replace(library.Regex("^ +| +$"), ""))
    steps.append(replace(library.Regex(" {2,}"), " "))
  if spec.add_dummy_prefix:
    steps.append(library.normalizers.Prepend(" "))
  if space != " ":
    steps.append(replace(" ", space))
  return library.normalizers.Sequence(steps)
