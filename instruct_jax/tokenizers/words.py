"""The word tokenizer: a token per word of spaced text."""

import collections
import itertools
import os
import re
from collections.abc import Iterable, Sequence
from typing import Any, ClassVar, cast

import numpy as np
import sentencepiece
import tokenizers as library

from instruct_jax.base import errors
from instruct_jax.tokenizers import sentencepiece_codec, trained_files

_SPACE = "\u2581"  # SentencePiece's own mark for a space
_NEWLINE = "\u23ce"  # the word that stands for a newline
_UNKNOWN = "\ufffd"
# Where str.split() splits.
_BLANKS = "".join(c for c in map(chr, range(1 << 16)) if c.isspace())


class WordTokenizer:
  """A token per white-space separated word; a newline is a word too."""

  kind = "word"
  pad_id = trained_files.PAD_ID
  eot_id = trained_files.EOT_ID
  start, start_ids = "reference", (trained_files.EOT_ID,)
  reference_ids = stop_ids = (trained_files.EOT_ID,)
  special_ids: ClassVar[dict[str, int]] = {}
  special_names: ClassVar[dict[str, str]] = {}
  chat_template = ""

  def __init__(self, model: bytes):
    self._model = model
    self._processor = sentencepiece.SentencePieceProcessor(model_proto=model)
    self.vocab_size = self._processor.get_piece_size()
    pieces = map(self._processor.id_to_piece, range(self.vocab_size))
    self.words = tuple(piece.removeprefix(_SPACE) for piece in pieces)
    self._known = frozenset(self.words[trained_files.EOT_ID + 1 :])

  def encode(self, text: str) -> list[int]:
    return self._processor.encode(_spaced(text))

  def encode_batch(self, texts: Sequence[str]) -> list[list[int]]:
    spaced = [_spaced(text) for text in texts]
    return sentencepiece_codec.lists(self._processor, spaced)

  def encode_arrays(self, texts: Sequence[str]) -> list[np.ndarray]:
    spaced = [_spaced(text) for text in texts]
    return sentencepiece_codec.arrays(self._processor, spaced)

  def encode_parts(
    self, rows: Sequence[Sequence[str | int]]
  ) -> list[list[int]]:
    texts = cast(Sequence[Sequence[str]], rows)  # it has no special tokens
    return self.encode_batch(["".join(row) for row in texts])

  def decode(self, ids: Iterable[int]) -> str:
    hidden = (trained_files.PAD_ID, trained_files.EOT_ID)
    words = (self.words[i] for i in map(int, ids) if i not in hidden)
    return re.sub(f" ?{_NEWLINE} ?", "\n", " ".join(words))

  def normalize(self, text: str) -> str:
    """Lower case and spaced punctuation; known words stay whole."""
    lines = text.lower().split("\n")
    return "\n".join(" ".join(self._split(line)) for line in lines)

  def unknown_words(self, text: str) -> list[str]:
    words = self.normalize(text).split()
    return list(dict.fromkeys(w for w in words if w not in self._known))

  def save(self, folder: os.PathLike | str) -> None:
    trained_files.write(folder, self, self._model)

  def export(self, folder: os.PathLike | str) -> str:
    """The ids are those of a normalised text, as `sample` gives them.

    But for two unknown words in a row, which are one unknown token in ours
    and two there. A text that is normal already is not changed by that.
    """
    vocabulary = {word: i for i, word in enumerate(self.words)}
    unknown = self.words[trained_files.UNKNOWN_ID]
    tokenizer = library.Tokenizer(
      library.models.WordLevel(vocabulary, unk_token=unknown)
    )
    lost = self._not_kept()
    self._write_words(tokenizer) if lost else self._write_normal_words(
      tokenizer
    )
    tokenizer.decoder = library.decoders.Sequence(
      [
        library.decoders.WordPiece(prefix=_SPACE * 2, cleanup=False),
        library.decoders.Fuse(),
        library.decoders.Replace(library.Regex(f" ?{_NEWLINE} ?"), "\n"),
      ]
    )
    trained_files.export(tokenizer, folder, self.start_ids, unk_token=unknown)
    return lost

  def _not_kept(self) -> str:
    """Why `normalize` cannot be written as steps of the library; '' if it can.

    Words with capitals are known in the data and never typed: to lower them
    in transformers would change the data's ids.
    """
    odd = sorted(word for word in self._known if word != word.lower())
    if not odd:
      return ""
    return (
      "the exported tokenizer takes text as it is, where `sample` lowers it and"
      f" spaces its punctuation: {len(odd)} words of the vocabulary have"
      f" capitals, {odd[0]!r} among them"
    )

  def _write_words(self, tokenizer: library.Tokenizer) -> None:
    """Text is cut where it is blank; what spells a special token is no word."""
    names = f"{trained_files.PAD}|{trained_files.EOT}"
    special = f"(?<![^{_BLANKS}])(?:{names})(?![^{_BLANKS}])"
    steps = _marks()
    steps.insert(2, _replace(library.Regex(special), _SPACE))
    tokenizer.normalizer = library.normalizers.Sequence(steps)
    tokenizer.pre_tokenizer = library.pre_tokenizers.Split(
      library.Regex(f"[{_BLANKS}]+"), "removed"
    )

  def _write_normal_words(self, tokenizer: library.Tokenizer) -> None:
    """`normalize`: lower case, and cut as `_split` does."""
    whole = [re.escape(w) for w in sorted(self._known) if _parts(w) != [w]]
    known = f"(?<![^{_BLANKS}])(?:{'|'.join(whole)})(?![^{_BLANKS}])|"
    tokenizer.normalizer = library.normalizers.Sequence(
      [library.normalizers.Lowercase(), *_marks()]
    )
    tokenizer.pre_tokenizer = library.pre_tokenizers.Split(
      library.Regex(
        f"{known if whole else ''}[\\p{{L}}\\p{{N}}]+|[^{_BLANKS}]"
      ),
      "removed",
      invert=True,  # what matches is kept
    )

  def _split(self, line: str) -> list[str]:
    """`have?` -> have ?, unless the vocabulary holds the word as it stands."""
    parts = (
      [word] if word in self._known else _parts(word) for word in line.split()
    )
    return list(itertools.chain.from_iterable(parts))


def sentences_of(texts: Iterable[str], vocab_size: int) -> list[str]:
  sentences = [_spaced(text) for text in texts]
  words = collections.Counter(w for text in sentences for w in text.split())
  needed = len(words.keys() | {_NEWLINE}) + trained_files.EOT_ID + 1
  if words and needed > vocab_size:
    raise errors.UserError(
      f"vocab_size={vocab_size} is too small for a 'word' tokenizer: the text "
      f"has {len(words)} different words and needs {needed}. Raise it, or use "
      "'unigram'."
    )
  return [*sentences, _NEWLINE] if words else []


def _spaced(text: str) -> str:
  """The text as a word model reads it: single spaces, newlines as words."""
  if _NEWLINE in text or _SPACE in text:  # SentencePiece's and ours: not words
    text = text.replace(_NEWLINE, _UNKNOWN).replace(_SPACE, _UNKNOWN)
  return " ".join(text.replace("\n", f" {_NEWLINE} ").split())


def _parts(word: str) -> list[str]:
  """Letters and digits together, everything else by itself."""
  return re.findall(r"[^\W_]+|\S", word)


def _replace(pattern: str | library.Regex, content: str) -> Any:
  return library.normalizers.Replace(pattern, content)


def _marks() -> list[Any]:
  """A newline is a word; our marks for it and for spaces are none."""
  return [
    _replace(_NEWLINE, _UNKNOWN),
    _replace(_SPACE, _UNKNOWN),
    _replace("\n", f" {_NEWLINE} "),
  ]
