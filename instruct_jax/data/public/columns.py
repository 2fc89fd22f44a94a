"""Any answers, prompts or documents, by the keys that hold them."""

from collections.abc import Iterator
from typing import Any

from instruct_jax.base import errors
from instruct_jax.data.public import fields, formats
from instruct_jax.data.read import files, records

Counts, Record = formats.Counts, formats.Record

_NO_TEXT = "dropped: no text"


def demonstrations(
  rows: files.Rows,
  counts: Counts,
  *,
  prompt: tuple[str, ...] = (),
  response: str = "",
  text: str = "",
) -> Iterator[Record]:
  """What stands under --prompt, and under --response."""
  _check("demonstrations", {"prompt": prompt, "response": response}, text)
  fields.check_apart(
    ("--response", response), *(("--prompt", x) for x in prompt)
  )
  named = {**dict.fromkeys(prompt, "--prompt"), response: "--response"}
  for row in _rows(rows, counts, named):
    answer = _text(fields.value(row, response))
    yield from formats.answer(_joined(row, prompt), answer, counts)


def prompts(
  rows: files.Rows,
  counts: Counts,
  *,
  prompt: tuple[str, ...] = (),
  response: str = "",
  text: str = "",
) -> Iterator[Record]:
  """What stands under --prompt."""
  del response  # of demonstrations
  _check("prompts", {"prompt": prompt}, text)
  for row in _rows(rows, counts, dict.fromkeys(prompt, "--prompt")):
    yield from formats.prompt(_joined(row, prompt), counts)


def pretraining(
  rows: files.Rows,
  counts: Counts,
  *,
  prompt: tuple[str, ...] = (),
  response: str = "",
  text: str = "",
) -> Iterator[Record]:
  """What stands under --text."""
  _check("pretraining", {"text": text}, prompt or response)
  for row in _rows(rows, counts, {text: "--text"}):
    document = _text(fields.value(row, text))
    if records.is_blank(document):
      counts[_NO_TEXT] += 1
    else:
      yield {"text": document}


def _check(kind: str, needed: dict[str, Any], other: Any) -> None:
  lacking = [f"--{name}=KEY" for name, key in needed.items() if not key]
  if lacking or other:
    keys = " and ".join(f"--{name}=KEY" for name in needed)
    is_text = other and kind != "pretraining"
    needs = " (--text=KEY needs --kind=pretraining)" if is_text else ""
    raise errors.UserError(
      f"columns: {keys} and no other key gives {kind}; --kind chooses another"
      f"{needs}"
    )


def _rows(
  rows: files.Rows, counts: Counts, named: dict[str, str]
) -> Iterator[Record]:
  """The rows; UserError for a key that none has, with its option."""
  for key in named:
    fields.steps(key)
  for _, row in formats.with_keys(rows, named, counts):
    yield row


def _joined(row: Record, keys: tuple[str, ...]) -> str:
  texts = (_text(fields.value(row, key)).strip() for key in keys)
  return "\n\n".join(text for text in texts if text)


def _text(value: Any) -> str:
  return str(value) if isinstance(value, str) else ""


FORMAT = formats.Format(
  "answers, prompts or text, by your keys",
  {
    "demonstrations": demonstrations,
    "prompts": prompts,
    "pretraining": pretraining,
  },
  options=("prompt", "response", "text"),
)
