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
# the template strips off it.
_OPEN, _CLOSE = "\ue0f0", "\ue0f1"
_SLOT = re.compile(f"{_OPEN}(\\d+)((?::[slr][0-9a-f]*)*){_CLOSE}")
_STRIPS = {"s": str.strip, "l": str.lstrip, "r": str.rstrip}
_PROBE = " \n a\tb \n\n"
# What a template takes for today, the same every day: Llama's own choice.
_TODAY = datetime.date(2024, 7, 26)


class _Slot(str):
  """The place of a content, which remembers what is stripped off it."""

  __slots__ = ()

  def strip(self, chars: str | None = None) -> str:
    return self._then("s", chars)

  def lstrip(self, chars: str | None = None) -> str:
    return self._then("l", chars)

  def rstrip(self, chars: str | None = None) -> str:
    return self._then("r", chars)

  def _then(self, what, chars):
    code = "" if chars is None else chars.encode().hex()
    return _Slot(f"{self[:-1]}:{what}{code}{_CLOSE}")


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
  source: str, roles: tuple[str, ...], names: tuple[tuple[str, str], ...]
) -> str:
  """What a template makes of turns, with slots for their contents.

  Raises UserError where it does more with a content than to put it somewhere.
  """
  slots = [_Slot(f"{_OPEN}{n}{_CLOSE}") for n in range(len(roles))]
  text = _rendered(source, roles, slots, names)
  if [int(slot[1]) for slot in _SLOT.finditer(text)] != [*range(len(roles))]:
    raise errors.UserError(
      "the model's chat template leaves a turn out, or repeats one; take"
      f" another data.template: {', '.join(OTHERS)}"
    )
  probes = [f"{_PROBE}{n}{_PROBE}" for n in range(len(roles))]
  if filled(text, probes) != _rendered(source, roles, probes, names):
    raise errors.UserError(
      "the model's chat template changes what a turn says, so what is of the"
      " template and what of the prompt cannot be told apart; take another"
      f" data.template: {', '.join(OTHERS)}"
    )
  return text


def _rendered(source, roles, contents, names):
  turns = [{"role": r, "content": c} for r, c in zip(roles, contents)]
  try:
    return _compiled(source).render(
      messages=turns,
      tools=None,
      documents=None,
      add_generation_prompt=True,
      **dict(names),
    )
  except errors.UserError:
    raise
  except Exception as error:  # whatever a stranger's template throws
    raise errors.UserError(
      f"the model's chat template failed: {type(error).__name__}: {error}"
    ) from None


class _Generation(jinja2.ext.Extension):
  """{% generation %}, which marks what the assistant says, marks nothing."""

  tags = {"generation"}  # noqa: RUF012

  def parse(self, parser: jinja2.parser.Parser) -> list[jinja2.nodes.Node]:
    next(parser.stream)
    return parser.parse_statements(("name:endgeneration",), drop_needle=True)


@functools.lru_cache(8)
def _compiled(source):
  environment = jinja2.sandbox.ImmutableSandboxedEnvironment(
    trim_blocks=True,
    lstrip_blocks=True,
    extensions=["jinja2.ext.loopcontrols", _Generation],
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
