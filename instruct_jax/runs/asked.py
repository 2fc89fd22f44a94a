"""Prompts that are asked all at once: lines of text, or records of a file.

A record has a "prompt", a text or the messages of a dialogue, or "messages";
whatever else it has stands in the output again.
"""

import dataclasses
import pathlib
import tempfile
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from etils import epath

from instruct_jax.base import errors
from instruct_jax.data.read import files, records, specs, typed
from instruct_jax.parallel import hosts
from instruct_jax.tokenizers import templates

_STDIN = "-"
_USER, _ASSISTANT = ("user", "human", "prompter"), ("assistant", "gpt")


@dataclasses.dataclass(frozen=True)
class Asked:
  """One prompt."""

  where: str  # it stands, for a person
  prompt: str
  turns: templates.Turns = ()  # of the dialogue before it
  system: str = ""  # what the system says before all of it
  record: Mapping[str, Any] | None = None  # the whole of it, from a file

  @property
  def text(self) -> str:
    """The whole dialogue, in one string."""
    return templates.dialogue(self.turns, self.prompt, self.system)


def read(name: str) -> Iterator[Asked]:
  """The prompts of the files that a spec names, of stdin or of a pipe.

  Raises UserError that names file, line and key.
  """
  if name == _STDIN or _is_pipe(name):
    yield from _read_once(name)
    return
  for part in specs.parts(name):
    for unit in files.units(part.pattern):
      one = None
      for one in _of_unit(unit):
        yield one
      if one is None:
        raise errors.UserError(f"{unit}: empty; a prompt a line is right.")


def _is_pipe(name: str) -> bool:
  try:
    return pathlib.Path(name).is_fifo()
  except (OSError, ValueError):  # no path at all, or one that is not ours
    return False


def _read_once(name: str) -> Iterator[Asked]:
  """The prompts of what cannot be read again: of a copy of it.

  Of several processes the first one reads, for all of them.
  """
  source, shown = (0, "stdin") if name == _STDIN else (name, name)

  def content():
    with open(source, "rb", closefd=source != 0) as pipe:
      return pipe.read().decode("latin-1")  # each byte as itself

  with tempfile.TemporaryDirectory() as folder:
    path = pathlib.Path(folder) / "prompts"
    path.write_bytes(hosts.once(shown, content).encode("latin-1"))
    try:
      for one in read(str(path)):
        where = one.where.replace(str(path), shown)
        yield dataclasses.replace(one, where=where)
    except errors.UserError as error:
      raise errors.UserError(str(error).replace(str(path), shown)) from None


def _of_unit(unit: epath.Path | str) -> Iterator[Asked]:
  if isinstance(unit, str) or files.holds_objects(unit):
    for where, record in files.unit_rows(unit):
      yield _of_record(where, record)
    return
  for number, line in files.lines(unit):
    if line.strip():
      yield Asked(f"{unit}:{number}", line)


def _of_record(where: str, record: Mapping[str, Any]) -> Asked:
  identity = f" (id {typed.shown(record['id'])})" if "id" in record else ""
  key = "messages" if "prompt" not in record else "prompt"
  value = record.get(key)
  if isinstance(value, list):
    system, *turns, prompt = _dialogue(value, f'{where}: "{key}"')
    pairs = tuple(zip(turns[::2], turns[1::2]))
    return Asked(where + identity, prompt, pairs, system, record)
  given = record if value is None else {"prompt": value}
  wrong = records.wrong_keys(dict(given), {"prompt": str})
  if wrong:
    raise errors.UserError(f"{where}: {wrong}")
  return Asked(where + identity, str(value), record=record)


def _dialogue(messages: Sequence[Any], where: str) -> list[str]:
  """What the system says first, or '', then the texts of the turns.

  The first and the last of those are a user's.
  """
  opening, texts = "", []
  for n, message in enumerate(messages):
    role, text = _message(message, f"{where}[{n}]")
    if role == "system" and not n:
      opening = text
      continue
    expected = _ASSISTANT if len(texts) % 2 else _USER
    if role not in expected:
      raise errors.UserError(
        f"{where}[{n}]: {typed.shown(role)} where {expected[0]!r} should speak;"
        " users and assistants take turns"
      )
    texts.append(text)
  if len(texts) % 2 == 0:
    raise errors.UserError(
      f"{where}: ends with no user's message; the last one is what is answered"
    )
  return [opening, *texts]


def _message(message: Any, where: str) -> tuple[str, str]:
  names = ("role", "content")
  if isinstance(message, dict) and "from" in message:
    names = ("from", "value")
  given = message if isinstance(message, dict) else {}
  role, text = (str(given.get(name, "")) for name in names)
  if not role or not text.strip() or not isinstance(given[names[1]], str):
    raise errors.UserError(
      f'{where}: {{"role": "user", "content": "..."}} is right, not'
      f" {typed.shown(message)}"
    )
  return role, text
