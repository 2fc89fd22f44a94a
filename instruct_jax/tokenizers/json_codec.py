"""A tokenizer of the `tokenizers` library; no text spells a special token."""

import functools
import secrets
from collections.abc import Callable, Iterable, Sequence
from typing import Any

import numpy as np
import tokenizers as library

from instruct_jax.base import errors
from instruct_jax.tokenizers import files

END_OF_TEXT = "<|endoftext|>"  # GPT-2's, and everybody's after it
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
    encodings = self._guarded(
      self._backend.encode_batch_fast, texts, add_special_tokens=False
    )
    return self._clean(texts, [one.ids for one in encodings])

  def encode_arrays(self, texts: Sequence[str]) -> list[np.ndarray]:
    return [np.asarray(i, np.int32) for i in self.encode_batch(list(texts))]

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
    encodings = self._guarded(
      marked.encode_batch_fast, texts, add_special_tokens=False
    )
    rows = self._clean(texts, [one.ids for one in encodings])
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
    encoding = self._guarded(
      self._backend.encode, text, add_special_tokens=False
    )
    return encoding.ids

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
      encoding = self._guarded(marked.encode, text, add_special_tokens=False)
      hits = [
        span
        for i, span in zip(encoding.ids, encoding.offsets)
        if i in self._leaks
      ]
      if not hits:
        return [i for i in encoding.ids if back.get(i, i) is not None]
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
