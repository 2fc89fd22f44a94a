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

and `pretrained.tokenizer` for the kinds hf, gpt2 and sentencepiece.
"""

import collections
import hashlib
import io
import itertools
import json
import os
import re
import string
from collections.abc import Iterable, Sequence
from typing import ClassVar, Protocol, runtime_checkable

import sentencepiece
import tokenizers as library
from etils import epath

from instruct_jax.base import errors, storage
from instruct_jax.tokenizers import files, pieces, pretrained

PAD_ID, UNKNOWN_ID, EOT_ID = 0, 1, 2  # of every tokenizer that is trained
MODEL_FILE, INFO_FILE = files.MODEL, pretrained.INFO_FILE

_SPACE = "\u2581"  # SentencePiece's own mark for a space
_NEWLINE = "\u23ce"  # the word that stands for a newline in word tokenizers
_UNKNOWN = "\ufffd"
_PAD, _EOT = "<pad>", "<eot>"
# Where str.split() splits.
_BLANKS = "".join(c for c in map(chr, range(1 << 16)) if c.isspace())
# Subword tokenizers have a piece for each, also where the text has no Q or Z.
_LETTERS = string.ascii_letters + string.digits + string.punctuation


@runtime_checkable
class Tokenizer(Protocol):
  """What the rest of the project knows of a tokenizer."""

  kind: str
  vocab_size: int
  pad_id: int  # may be `vocab_size`, past the model's embeddings
  eot_id: int
  start_ids: tuple[int, ...]  # a text or prompt begins with them
  stop_ids: tuple[int, ...]  # a response ends at any of them
  special_ids: dict[str, int]  # what a template may spell
  special_names: dict[str, str]  # 'bos_token' -> '<s>', as templates say it
  chat_template: str  # the model's own, in Jinja2; or ''

  def encode(self, text: str) -> list[int]:
    """The ids of a text; never `pad_id` or `eot_id`."""

  def encode_batch(self, texts: Sequence[str]) -> list[list[int]]:
    """`encode` of many texts, in parallel where that pays."""

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

  def export(self, folder: os.PathLike | str) -> None:
    """Writes the files that transformers reads; the ids are the same."""


class ByteTokenizer:
  """A token per UTF-8 byte. Needs no training; 258 ids."""

  kind = "byte"
  vocab_size = 258
  pad_id = 0
  eot_id = 1
  start_ids = stop_ids = (1,)
  special_ids: ClassVar[dict[str, int]] = {}
  special_names: ClassVar[dict[str, str]] = {}
  chat_template = ""

  def encode(self, text: str) -> list[int]:
    return [byte + 2 for byte in text.encode("utf-8")]

  def encode_batch(self, texts: Sequence[str]) -> list[list[int]]:
    return [self.encode(text) for text in texts]

  def encode_parts(
    self, rows: Sequence[Sequence[str | int]]
  ) -> list[list[int]]:
    return self.encode_batch(["".join(row) for row in rows])

  def decode(self, ids: Iterable[int]) -> str:
    data = bytes(int(i) - 2 for i in ids if i >= 2)
    return data.decode("utf-8", errors="replace")

  def normalize(self, text: str) -> str:
    return text

  def unknown_words(self, text: str) -> list[str]:
    del text
    return []

  def save(self, folder: os.PathLike | str) -> None:
    _write(folder, {"kind": self.kind, "vocab_size": self.vocab_size}, None)

  def export(self, folder: os.PathLike | str) -> None:
    vocabulary = {_PAD: self.pad_id, _EOT: self.eot_id}
    vocabulary |= {f"<0x{byte:02X}>": byte + 2 for byte in range(256)}
    made = library.Tokenizer(
      library.models.BPE(vocabulary, [], byte_fallback=True)
    )
    steps = library.decoders.ByteFallback(), library.decoders.Fuse()
    made.decoder = library.decoders.Sequence(list(steps))
    _export(made, folder)


class WordTokenizer:
  """A token per white-space separated word; a newline is a word too."""

  kind = "word"
  pad_id = PAD_ID
  eot_id = EOT_ID
  start_ids = stop_ids = (EOT_ID,)
  special_ids: ClassVar[dict[str, int]] = {}
  special_names: ClassVar[dict[str, str]] = {}
  chat_template = ""

  def __init__(self, model: bytes):
    self._model = model
    self._processor = sentencepiece.SentencePieceProcessor(model_proto=model)
    self.vocab_size = self._processor.get_piece_size()
    pieces = map(self._processor.id_to_piece, range(self.vocab_size))
    self.words = tuple(piece.removeprefix(_SPACE) for piece in pieces)
    self._known = frozenset(self.words[EOT_ID + 1 :])

  def encode(self, text: str) -> list[int]:
    return self._processor.encode(_spaced(text))

  def encode_batch(self, texts: Sequence[str]) -> list[list[int]]:
    return self._processor.encode([_spaced(text) for text in texts])

  def encode_parts(
    self, rows: Sequence[Sequence[str | int]]
  ) -> list[list[int]]:
    return self.encode_batch(["".join(row) for row in rows])

  def decode(self, ids: Iterable[int]) -> str:
    hidden = (PAD_ID, EOT_ID)
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
    info = {"kind": self.kind, "vocab_size": self.vocab_size}
    _write(folder, info, self._model)

  def export(self, folder: os.PathLike | str) -> None:
    """The ids are the same, but for two unknown words in a row.

    They are one unknown token in ours and two there.
    """
    vocabulary = {word: i for i, word in enumerate(self.words)}
    unknown = self.words[UNKNOWN_ID]
    made = library.Tokenizer(
      library.models.WordLevel(vocabulary, unk_token=unknown)
    )
    replace = library.normalizers.Replace
    special = f"(?<![^{_BLANKS}])(?:{_PAD}|{_EOT})(?![^{_BLANKS}])"
    made.normalizer = library.normalizers.Sequence(
      [
        replace(_NEWLINE, _UNKNOWN),
        replace(_SPACE, _UNKNOWN),
        replace(library.Regex(special), _SPACE),  # which is no word
        replace("\n", f" {_NEWLINE} "),
      ]
    )
    made.pre_tokenizer = library.pre_tokenizers.Split(
      library.Regex(f"[{_BLANKS}]+"), "removed"
    )
    made.decoder = library.decoders.Sequence(
      [
        library.decoders.WordPiece(prefix=_SPACE * 2, cleanup=False),
        library.decoders.Fuse(),
        library.decoders.Replace(library.Regex(f" ?{_NEWLINE} ?"), "\n"),
      ]
    )
    _export(made, folder, unk_token=self.words[UNKNOWN_ID])

  def _split(self, line: str) -> list[str]:
    """`have?` -> have ?, unless the vocabulary holds the word as it stands."""
    parts = (
      [word] if word in self._known else re.findall(r"[^\W_]+|\S", word)
      for word in line.split()
    )
    return list(itertools.chain.from_iterable(parts))


class SubwordTokenizer:
  """Unigram or BPE pieces, with bytes for whatever they do not cover."""

  pad_id = PAD_ID
  eot_id = EOT_ID
  start_ids = stop_ids = (EOT_ID,)
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
    rows = self._processor.encode(list(texts))
    for n, text in enumerate(texts):
      if _SPACE in text:
        rows[n] = self.encode(text)
    return rows

  def encode_parts(
    self, rows: Sequence[Sequence[str | int]]
  ) -> list[list[int]]:
    return self.encode_batch(["".join(row) for row in rows])

  def decode(self, ids: Iterable[int]) -> str:
    return self._processor.decode([int(i) for i in ids])

  def normalize(self, text: str) -> str:
    return text

  def unknown_words(self, text: str) -> list[str]:
    del text
    return []

  def save(self, folder: os.PathLike | str) -> None:
    info = {"kind": self.kind, "vocab_size": self.vocab_size}
    _write(folder, info, self._model)

  def export(self, folder: os.PathLike | str) -> None:
    """The ids are the same, with the exceptions of `pieces.of_pieces`."""
    _export(pieces.of_pieces(self._model, space=" "), folder)


KINDS = {
  "word": WordTokenizer,
  "unigram": lambda model: SubwordTokenizer(model, "unigram"),
  "bpe": lambda model: SubwordTokenizer(model, "bpe"),
  "byte": lambda model: ByteTokenizer(),
}


def train(
  texts: Iterable[str],
  folder: os.PathLike | str,
  *,
  kind: str,
  vocab_size: int,
) -> Tokenizer:
  """Trains a tokenizer, saves it in `folder` and returns it.

  The same texts in the same order give the same model. `vocab_size` is a limit:
  text that supports fewer pieces gives fewer, read `vocab_size` of the result.

  Raises:
    UserError: no text, or a vocabulary too small for it (for 'word': smaller
      than the number of different words, none of which may be lost).
  """
  if kind not in KINDS:
    raise errors.unknown("tokenizer kind", kind, KINDS)
  if kind == "byte":
    model = b""
  else:
    sentences = (
      _word_sentences(texts, vocab_size)
      if kind == "word"
      else (line for text in texts for line in text.split("\n") if line.strip())
    )
    model = _train(sentences, kind, vocab_size)
  tokenizer = KINDS[kind](model)
  tokenizer.save(folder)
  return tokenizer


def load(folder: os.PathLike | str) -> Tokenizer:
  """Reads what `save` wrote in `folder` or in its `tokenizer` folder.

  Else what stands beside a pretrained model there.

  Raises:
    UserError: there is none, or it is damaged.
  """
  asked = folder = epath.Path(folder)
  if not (folder / INFO_FILE).exists():
    folder = folder / "tokenizer"
  if not (folder / INFO_FILE).exists():
    kind = pretrained.find(asked)
    if kind:
      return pretrained.read(asked, kind)
    pairs = ", ".join(" + ".join(pair) for pair in files.PAIRS)
    raise errors.UserError(
      f"{asked}: no tokenizer here; neither {INFO_FILE}, {files.JSON}, {pairs}"
      f" nor {MODEL_FILE}"
    )
  try:
    info = json.loads((folder / INFO_FILE).read_text())
    kind = str(info["kind"])
    if kind in pretrained.CODECS:
      return pretrained.restore(folder, kind, dict(info["files"]))
    model = (folder / MODEL_FILE).read_bytes() if info["model"] else b""
    digest = info["model"]
  except (ValueError, LookupError, TypeError, OSError, RecursionError) as error:
    raise errors.UserError(
      f"{folder / INFO_FILE}: a damaged tokenizer: {error}"
    ) from None
  if kind not in KINDS:
    raise errors.unknown(f"tokenizer kind in {folder / INFO_FILE}", kind, KINDS)
  if bool(model) == (kind == "byte"):
    raise errors.UserError(
      f"{folder / INFO_FILE}: a damaged tokenizer: a '{kind}' tokenizer has"
      f" {'no' if model else 'a'} {MODEL_FILE}"
    )
  if model and hashlib.sha256(model).hexdigest() != digest:
    raise errors.UserError(
      f"{folder / MODEL_FILE}: its digest differs from {INFO_FILE}'s; the file "
      "is damaged or of another tokenizer. Build the data set again."
    )
  return KINDS[kind](model)


def _export(
  made: library.Tokenizer, folder: os.PathLike | str, **names: str
) -> None:
  """Writes a tokenizer for transformers, as ours start and end texts."""
  folder = epath.Path(folder)
  folder.mkdir(parents=True, exist_ok=True)
  names = {"bos_token": _EOT, "eos_token": _EOT, "pad_token": _PAD} | names
  special = dict.fromkeys(names.values())
  made.add_special_tokens(
    [library.AddedToken(x, special=True, normalized=False) for x in special]
  )
  pretrained.start(made, (made.token_to_id(_EOT),))
  (folder / files.JSON).write_text(made.to_str(pretty=True), encoding="utf-8")
  about = {
    "tokenizer_class": "PreTrainedTokenizerFast",
    "clean_up_tokenization_spaces": False,
    **names,
  }
  for name, value in ((files.CONFIG, about), (files.SPECIAL, names)):
    (folder / name).write_text(json.dumps(value, indent=2) + "\n")


def _spaced(text: str) -> str:
  """The text as a word model reads it: single spaces, newlines as words."""
  if _NEWLINE in text or _SPACE in text:  # SentencePiece's and ours: not words
    text = text.replace(_NEWLINE, _UNKNOWN).replace(_SPACE, _UNKNOWN)
  return " ".join(text.replace("\n", f" {_NEWLINE} ").split())


def _word_sentences(texts: Iterable[str], vocab_size: int) -> list[str]:
  sentences = [_spaced(text) for text in texts]
  words = collections.Counter(w for text in sentences for w in text.split())
  needed = len(words.keys() | {_NEWLINE}) + EOT_ID + 1
  if words and needed > vocab_size:
    raise errors.UserError(
      f"vocab_size={vocab_size} is too small for a 'word' tokenizer: the text "
      f"has {len(words)} different words and needs {needed}. Raise it, or use "
      "'unigram'."
    )
  return [*sentences, _NEWLINE] if words else []


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
      pad_id=PAD_ID,
      unk_id=UNKNOWN_ID,
      eos_id=EOT_ID,
      bos_id=-1,
      pad_piece=_PAD,
      unk_piece="<unk>",
      eos_piece=_EOT,
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


def _write(folder: os.PathLike | str, info: dict, model: bytes | None) -> None:
  """The model first, then the description that vouches for it by digest."""
  folder = epath.Path(folder)
  folder.mkdir(parents=True, exist_ok=True)
  digest = None if model is None else hashlib.sha256(model).hexdigest()
  if model is not None:
    storage.write(folder / MODEL_FILE, model)
  storage.write_json(folder / INFO_FILE, {**info, "model": digest})
