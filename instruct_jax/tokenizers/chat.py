"""A model's chat template: what it puts around the turns of a dialogue.

It is rendered with marks in the places of the contents, so that what is of
the template and what of the prompt are told apart.
"""

import datetime
import functools
import json
import re
from collections.abc import Sequence
from typing import Any

import jinja2
import jinja2.ext
import jinja2.sandbox

from instruct_jax.base import errors

# What may be taken where a model's own does not do.
OTHERS = ("plain", "human_assistant", "chatml")
# Private-use characters around the place of a content: its number, and what
# the template strips off it; and around what {% generation %} marks.
_OPEN, CLOSE = "\ue0f0", "\ue0f1"
BEGIN, END = "\ue0f2", "\ue0f3"
_SLOT = re.compile(f"{_OPEN}(\\d+)((?::[slr][0-9a-f]*)*){CLOSE}")
_STRIPS = {"s": str.strip, "l": str.lstrip, "r": str.rstrip}
_PROBE = " \n a\tb \n\n"
_GENERATION = re.compile(r"\{%-?\+?\s*generation\b")
# What a template takes for today, the same every day: Llama's own choice.
_TODAY = datetime.date(2024, 7, 26)

Messages = Sequence[tuple[str, str]]  # (role, content)
Names = tuple[tuple[str, str], ...]  # ('bos_token', '<s>')


class _Slot(str):
  """The places of contents, which remember what is stripped off them.

  One, or several with a template's own text around them.
  """

  __slots__ = ()

  def __add__(self, other: str) -> str:
    return _Slot(str.__add__(self, other))

  def __radd__(self, other: str) -> str:
    return _Slot(str.__add__(other, self))

  def strip(self, chars: str | None = None) -> str:
    return self._then("s", chars)

  def lstrip(self, chars: str | None = None) -> str:
    return self._then("l", chars)

  def rstrip(self, chars: str | None = None) -> str:
    return self._then("r", chars)

  def _then(self, what, chars):
    code = "" if chars is None else chars.encode().hex()
    text = _STRIPS[what](str(self), chars)
    if _SLOT.fullmatch(text):
      return _Slot(f"{text[:-1]}:{what}{code}{CLOSE}")
    if what != "l" and text.endswith(CLOSE):
      text = f"{text[:-1]}:r{code}{CLOSE}"
    if what != "r" and text.startswith(_OPEN):
      text = text.replace(CLOSE, f":l{code}{CLOSE}", 1)
    return _Slot(text)


def filled(text: str, contents: Sequence[str]) -> str:
  """The text with the contents in their places."""

  def content(slot):
    value = contents[int(slot[1])]
    for what, *code in slot[2].split(":")[1:]:
      chars = bytes.fromhex("".join(code)).decode() or None
      value = _STRIPS[what](value, chars)
    return value

  return _SLOT.sub(content, text)


@functools.lru_cache(64)
def slotted(
  source: str,
  roles: tuple[str, ...],
  names: Names,
  *,
  asks: bool = True,
  marked: bool = False,
) -> str:
  """What a template makes of turns, with slots for their contents.

  `asks` for the assistant's next turn; `marked`, BEGIN and END stand around
  what the template says the assistant generates.

  Raises UserError where it does more with a content than to put it somewhere.
  """
  slots = [_Slot(f"{_OPEN}{n}{CLOSE}") for n in range(len(roles))]
  text = _rendered(source, roles, slots, names, asks, marked)
  if [int(slot[1]) for slot in _SLOT.finditer(text)] != [*range(len(roles))]:
    raise errors.UserError(
      "the model's chat template leaves a turn out, or repeats one; take"
      f" another data.template: {', '.join(OTHERS)}"
    )
  probes = [f"{_PROBE}{n}{_PROBE}" for n in range(len(roles))]
  if filled(text, probes) != _rendered(
    source, roles, probes, names, asks, marked
  ):
    raise errors.UserError(
      "the model's chat template changes what a turn says, so what is of the"
      " template and what of the prompt cannot be told apart; take another"
      f" data.template: {', '.join(OTHERS)}"
    )
  return text


def written(
  source: str,
  messages: Messages,
  names: Names,
  *,
  asks: bool = True,
  marked: bool = False,
) -> tuple[str, bool]:
  """What a template makes of messages, and whether it has slots for them.

  Without slots it is the text as `transformers` has it, of a template that
  changes what these messages say: special tokens of the template and of a
  message look alike there.

  Raises UserError with what the template itself says, or fails with.
  """
  roles, contents = (tuple(column) for column in zip(*messages))
  text = _rendered(source, roles, contents, names, asks, marked)
  try:
    slots = slotted(source, roles, names, asks=asks, marked=marked)
  except errors.UserError:
    return text, False
  return (slots, True) if filled(slots, contents) == text else (text, False)


def marks(source: str) -> bool:
  """Whether a template says what the assistant generates."""
  return _GENERATION.search(source) is not None


def _rendered(source, roles, contents, names, asks, marked):
  turns = [{"role": r, "content": c} for r, c in zip(roles, contents)]
  try:
    return _compiled(source, marked).render(
      messages=turns,
      tools=None,
      documents=None,
      add_generation_prompt=asks,
      **dict(names),
    )
  except errors.UserError:
    raise
  except Exception as error:  # whatever a stranger's template throws
    raise errors.UserError(
      f"the model's chat template failed: {type(error).__name__}: {error}"
    ) from None


class _Generation(jinja2.ext.Extension):
  """{% generation %} around what the assistant says changes no text."""

  tags = {"generation"}  # noqa: RUF012

  def parse(self, parser: jinja2.parser.Parser) -> list[jinja2.nodes.Node]:
    next(parser.stream)
    return parser.parse_statements(("name:endgeneration",), drop_needle=True)


class _Marked(_Generation):
  """The same, with BEGIN and END around it."""

  def parse(self, parser: jinja2.parser.Parser) -> list[jinja2.nodes.Node]:
    first, last = (
      jinja2.nodes.Output([jinja2.nodes.TemplateData(mark)])
      for mark in (BEGIN, END)
    )
    return [first, *super().parse(parser), last]


@functools.lru_cache(8)
def _compiled(source, marked):
  environment = jinja2.sandbox.ImmutableSandboxedEnvironment(
    trim_blocks=True,
    lstrip_blocks=True,
    extensions=[
      "jinja2.ext.loopcontrols",
      _Marked if marked else _Generation,
    ],
  )

  def refuse(message):
    raise errors.UserError(f"the model's chat template says: {message}")

  environment.filters["tojson"] = lambda x, indent=None: json.dumps(
    x, ensure_ascii=False, indent=indent
  )
  known: dict[str, Any] = environment.globals
  known |= {"raise_exception": refuse, "strftime_now": _TODAY.strftime}
  try:
    return environment.from_string(source)
  except (jinja2.TemplateError, RecursionError) as error:
    raise errors.UserError(
      f"the model's chat template is no Jinja2: {error}"
    ) from None
