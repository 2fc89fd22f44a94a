"""Tokenizers of the `tokenizers` library: tokenizer.json, and GPT-2's files."""

import functools
import secrets
from collections.abc import Callable, Iterable, Sequence
from typing import Any

import tokenizers as library
from etils import epath

from instruct_jax.base import errors
from instruct_jax.tokenizers import files

END_OF_TEXT = "<|endoftext|>"  # GPT-2's, and everybody's after it
_GPT2_CLASSES = ("GPT2Tokenizer", "GPT2TokenizerFast")
_FLAGS = ("single_word", "lstrip", "rstrip", "normalized")


class Backend:
  """A tokenizer of the library, whose special tokens no text can spell.

  `encode_special_tokens` alone does not see to that: a Unigram or WordLevel
  model has them among its words. Text in which such a model finds one is
  broken up there.
  """

  eos_id = None  # its file does not say
  adds_bos = False

  def __init__(
    self,
    backend: library.Tokenizer,
    where: Any,
    *,
    unknown_id: int | None = None,
    bos: str = "",
  ):
    self._backend, self._where = backend, where
    self.unknown_id = unknown_id
    self.bos_id = backend.token_to_id(bos) if bos else None
    backend.no_padding()
    backend.no_truncation()
    self.vocabulary = backend.get_vocab(with_added_tokens=True)
    files.check_ids(self.vocabulary, where)
    # Of GPT-2's files none says what stands in front of a text.
    self.start_ids = None if bos else self._start()
    self.protect(())

  def protect(self, names: Iterable[str]) -> None:
    """Makes tokens special, beside those that the file calls so."""
    added = {token.content for token in self._added().values() if token.special}
    self._backend.add_special_tokens(
      [
        library.AddedToken(name, special=True, normalized=False)
        for name in names
        if name not in added
      ]
    )
    self._backend.encode_special_tokens = True
    self.special_ids = {
      token.content: i for i, token in self._added().items() if token.special
    }
    self._leaks = frozenset(
      i
      for name, i in self.special_ids.items()
      if i in self._plain(name) and i != self.unknown_id
    )

  def encode(self, text: str) -> list[int]:
    return self._clean([text], [self._plain(text)])[0]

  def encode_batch(self, texts: list[str]) -> list[list[int]]:
    found = self._guarded(
      self._backend.encode_batch_fast, texts, add_special_tokens=False
    )
    return self._clean(texts, [one.ids for one in found])

  def encode_parts(
    self, rows: Sequence[Sequence[str | int]]
  ) -> list[list[int]]:
    """Ids of texts with special tokens in them, as the library finds those.

    They are spelled as tokens that no text can hold, so spaces beside them and
    the mark in front of a text are treated as the library does.
    """
    marked, marks, back = self._marked
    texts = [
      "".join(marks[part] if isinstance(part, int) else part for part in row)
      for row in rows
    ]
    found = self._guarded(
      marked.encode_batch_fast, texts, add_special_tokens=False
    )
    rows = self._clean(texts, [one.ids for one in found])
    return [[back.get(i, i) for i in ids] for ids in rows]

  def decode(self, ids: list[int]) -> str:
    return self._guarded(self._backend.decode, ids, skip_special_tokens=True)

  def written(self) -> library.Tokenizer:
    """The library's tokenizer, special tokens found in text as it does."""
    copy = library.Tokenizer.from_str(self._backend.to_str())
    copy.encode_special_tokens = False
    return copy

  def _added(self):
    return dict(sorted(self._backend.get_added_tokens_decoder().items()))

  def _plain(self, text):
    made = self._guarded(self._backend.encode, text, add_special_tokens=False)
    return made.ids

  def _start(self) -> tuple[int, ...]:
    """What the library puts in front of a text."""
    plain = self._plain("a")
    whole = self._guarded(self._backend.encode, "a").ids
    extra = len(whole) - len(plain)
    places = (n for n in range(extra + 1) if whole[n : n + len(plain)] == plain)
    return tuple(whole[: next(places, 0)])

  @functools.cached_property
  def _marked(self):
    """(a copy with a mark for each special token, id -> mark, mark's id -> id).

    One more mark, of None, breaks text up.
    """
    copy = library.Tokenizer.from_str(self._backend.to_str())
    nonce, added, marks = secrets.token_hex(8), self._added(), {}
    for n, i in enumerate([None, *self.special_ids.values()]):
      marks[i] = f"\ufdd0{nonce}{n:06d}\ufdd1"
      flags = {name: getattr(added[i], name) for name in _FLAGS} if n else {}
      copy.add_tokens([library.AddedToken(marks[i], **flags)])
    copy.encode_special_tokens = True
    back = {copy.token_to_id(mark): i for i, mark in marks.items()}
    return copy, marks, back

  def _clean(self, texts, rows):
    if self._leaks:
      for n, ids in enumerate(rows):
        if not self._leaks.isdisjoint(ids):
          rows[n] = self._broken_up(texts[n])
    return rows

  def _broken_up(self, text):
    """The ids of a text that spells special tokens, none of them in it."""
    marked, marks, back = self._marked
    while True:
      made = self._guarded(marked.encode, text, add_special_tokens=False)
      hits = [
        span for i, span in zip(made.ids, made.offsets) if i in self._leaks
      ]
      if not hits:
        return [i for i in made.ids if back.get(i, i) is not None]
      for start, end in reversed(hits):
        if end - start < 2:
          raise errors.UserError(
            f"{self._where}: makes a special token of {text[start:end]!r}."
          )
        text = text[: end - 1] + marks[None] + text[end - 1 :]

  def _guarded(self, call, *arguments, **options):
    return guarded(self._where, call, *arguments, **options)


def guarded(
  where: Any, call: Callable[..., Any], *arguments: Any, **options: Any
) -> Any:
  """What a call returns; whatever the library throws names the file.

  Its panics are no Exception.
  """
  try:
    return call(*arguments, **options)
  except (KeyboardInterrupt, SystemExit, MemoryError, UnicodeError):
    raise
  except BaseException as error:
    raise errors.UserError(
      f"{where}: the tokenizers library cannot use it ({str(error)[:200]})."
    ) from None


def open_json(folder: epath.Path, found: files.Files) -> Backend:
  """The tokenizer of a tokenizer.json."""
  where = folder / files.JSON
  whole = files.json_object(found, files.JSON, folder)
  model = whole.get("model")
  if not isinstance(model, dict) or "vocab" not in model:
    raise errors.UserError(
      f'{where}: "model" should be an object with a "vocab".'
    )
  if isinstance(model["vocab"], dict):
    # The library gives added tokens ids from their number on.
    files.check_ids(model["vocab"], where)
  content = files.text(found, files.JSON, folder)
  made = guarded(where, library.Tokenizer.from_str, content)
  for token in whole.get("added_tokens") or []:
    ours = made.token_to_id(token["content"])
    if ours != token["id"]:
      raise errors.UserError(
        f"{where}: the added token {token['content'][:40]!r} has the id"
        f" {token['id']}, where {ours} is the next that is free."
      )
  _check_bytes(made, where)
  return Backend(made, where, unknown_id=_unknown(model, made))


def open_gpt2(folder: epath.Path, found: files.Files) -> Backend:
  """GPT-2's tokenizer, of its vocabulary and its list of merges."""
  first, second = next(p for p in files.PAIRS if all(n in found for n in p))
  where = folder / first
  if files.CONFIG in found:
    _check_class(files.json_object(found, files.CONFIG, folder), folder)
  vocabulary = files.json_object(found, first, folder)
  files.check_ids(vocabulary, where)
  merges = _merges(
    files.text(found, second, folder), vocabulary, folder, second
  )

  def build():
    made = library.Tokenizer(library.models.BPE(vocabulary, merges))
    made.pre_tokenizer = library.pre_tokenizers.ByteLevel(
      add_prefix_space=False
    )
    made.decoder = library.decoders.ByteLevel()
    if END_OF_TEXT in vocabulary:
      token = library.AddedToken(END_OF_TEXT, special=True, normalized=False)
      made.add_special_tokens([token])
    return made

  made = guarded(where, build)
  _check_bytes(made, where)
  return Backend(made, where, bos=END_OF_TEXT)


def _unknown(model, made):
  """The id of text that a model's vocabulary does not cover, if it has one."""
  if model.get("unk_token") is not None:
    return made.token_to_id(model["unk_token"])
  return model.get("unk_id")


def _check_bytes(made, where):
  """UserError where a byte-level model would lose bytes without a word."""
  steps = made.pre_tokenizer
  if "ByteLevel" not in repr(steps):
    return
  known = made.get_vocab(with_added_tokens=False)
  lacking = sorted(
    set(library.pre_tokenizers.ByteLevel.alphabet()) - known.keys()
  )
  if lacking:
    raise errors.UserError(
      f"{where}: {len(lacking)} of the 256 bytes have no token, among them"
      f" {lacking[0]!r}: text with them would be lost."
    )


def _check_class(config, folder):
  name = config.get("tokenizer_class", _GPT2_CLASSES[0])
  if name not in _GPT2_CLASSES:
    raise errors.UserError(
      f'{folder / files.CONFIG}: "tokenizer_class" is {str(name)[:40]!r}; only'
      f" {_GPT2_CLASSES[0]} is read from a vocabulary and merges. Save the"
      f" tokenizer with its {files.JSON}."
    )


def _merges(text, vocabulary, folder, name):
  merges = {}
  for number, line in enumerate(text.split("\n"), 1):
    line = line.removesuffix("\r")
    if not line or (number == 1 and line.startswith("#version")):
      continue
    parts = tuple(line.split(" "))
    where = f"{folder / name}:{number}"
    lacking = [x for x in (*parts, "".join(parts)) if x not in vocabulary]
    if len(parts) != 2 or lacking:
      raise errors.UserError(
        f"{where}: two tokens of the vocabulary with a space between are right,"
        f" which together are a token; not {line[:40]!r}."
      )
    if parts in merges:
      raise errors.UserError(
        f"{where}: {line[:40]!r} is already in line {merges[parts]}."
      )
    merges[parts] = number
  return list(merges)
