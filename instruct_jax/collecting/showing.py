"""Texts of prompts and answers as HTML that shows them and does nothing else.

Who writes a prompt or samples an answer does not write the page. Markup is
escaped. Control characters, those of no width and those that turn the direction
of what follows (Unicode's bidirectional overrides, embeddings and isolates:
"Trojan Source", CVE-2021-42574) are replaced by marks that can be seen, so that
no text looks like another and none reaches out of its box. What scripts need is
left alone: joiners, and the marks of direction that only concern neighbours.
"""

import re
import unicodedata
from collections.abc import Mapping
from typing import Any

import markdown_it
import markupsafe

from instruct_jax.tokenizers import messages

FOLD = 1500  # characters; a longer text is folded until somebody opens it
_EXCERPT = 120  # characters of a text in a list

_TURNING = {
  "\u202a": "LRE",
  "\u202b": "RLE",
  "\u202c": "PDF",
  "\u202d": "LRO",
  "\u202e": "RLO",
  "\u2066": "LRI",
  "\u2067": "RLI",
  "\u2068": "FSI",
  "\u2069": "PDI",
}
_NO_WIDTH = {
  "\u00ad": "SHY",
  "\u180e": "MVS",
  "\u200b": "ZWSP",
  "\u2028": "LS",
  "\u2029": "PS",
  "\u2060": "WJ",
  "\ufeff": "BOM",
}
_CONTROL = (
  "NUL", "SOH", "STX", "ETX", "EOT", "ENQ", "ACK", "BEL",
  "BS", "HT", "LF", "VT", "FF", "CR", "SO", "SI",
  "DLE", "DC1", "DC2", "DC3", "DC4", "NAK", "SYN", "ETB",
  "CAN", "EM", "SUB", "ESC", "FS", "GS", "RS", "US",
)  # fmt: skip
_SHORT = _TURNING | _NO_WIDTH | {"\x7f": "DEL"}
_MARKED = re.compile(
  "[\x00-\x08\x0b-\x1f\x7f-\x9f\u00ad\u180e\u200b\u2028-\u202e"
  "\u2060-\u2069\ufeff\ufff9-\ufffb\ud800-\udfff\U000e0000-\U000e007f]"
)
_MARK = markupsafe.Markup('<span class="mark" title="U+{:04X} {}">{}</span>{}')
_MARKDOWN = markdown_it.MarkdownIt("commonmark", {"html": False}).enable(
  "table"
)


def shown(text: str) -> markupsafe.Markup:
  """The text as HTML: every character is seen, none does anything."""
  text = text.replace("\r\n", "\n")
  parts, end = [], 0
  for found in _MARKED.finditer(text):
    parts.append(markupsafe.escape(text[end : found.start()]))
    parts.append(_mark(found[0]))
    end = found.end()
  parts.append(markupsafe.escape(text[end:]))
  return markupsafe.Markup("").join(parts)


def plain(text: str) -> str:
  """The same in characters alone, for where no marks can stand: '[RLO]'."""
  text = text.replace("\r\n", "\n")
  return _MARKED.sub(lambda found: f"[{_short(found[0])}]", text)


def excerpt(text: str) -> markupsafe.Markup:
  """The beginning of a text as one line."""
  line = " ".join(text[: 4 * _EXCERPT].split())
  if len(line) <= _EXCERPT and len(text) <= 4 * _EXCERPT:
    return shown(line)
  return shown(line[:_EXCERPT].rstrip()) + "…"


def turns(prompt: Any) -> list[tuple[str, str]]:
  """(role, text) of each message of a prompt; the role is '' of a text."""
  if isinstance(prompt, str):
    return [("", prompt)]
  if isinstance(prompt, list):
    return [(_said(turn, "role"), _said(turn, "content")) for turn in prompt]
  return [("", str(prompt))]


def prompt_of(content: Mapping[str, Any]) -> list[tuple[str, str]]:
  """The turns of a task's prompt: its record's messages where it has them."""
  record = content.get("record")
  held = record.get("messages") if isinstance(record, Mapping) else None
  if isinstance(held, list) and held:
    answered = _said(held[-1], "role") == messages.ASSISTANT
    return turns(held[:-1] if answered else held)
  return turns(content.get("prompt", ""))


def markdown(text: str) -> markupsafe.Markup:
  """A Markdown file as HTML; markup in it is shown, not done.

  Its author is who runs the server: links are kept, but for `javascript:` and
  its like, which markdown-it refuses.
  """
  return markupsafe.Markup(_MARKDOWN.render(plain(text)))


def _said(turn: Any, key: str) -> str:
  return str(turn.get(key, "")) if isinstance(turn, Mapping) else str(turn)


def _short(character: str) -> str:
  """What stands for a character that cannot be seen: 'NUL', 'RLO', 'U+0085'."""
  code = ord(character)
  if code < 0x20:
    return _CONTROL[code]
  return _SHORT.get(character, f"U+{code:04X}")


def _mark(character: str) -> markupsafe.Markup:
  code = ord(character)
  name = unicodedata.name(character, "control character")
  if 0xD800 <= code <= 0xDFFF:
    name = "half of a surrogate pair"
  # A separator of lines is shown, and separates them.
  then = "\n" if character in "\u2028\u2029\x85" else ""
  return _MARK.format(code, name.lower(), _short(character), then)
