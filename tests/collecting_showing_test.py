"""Texts as HTML: everything is seen, nothing is done."""

import html
import re

import hypothesis
import pytest
from hypothesis import strategies as st

pytest.importorskip("markdown_it")

from instruct_jax.collecting import showing


def _read(markup):
  """The text of HTML, as a browser would show it."""
  return html.unescape(re.sub("<[^>]*>", "", str(markup)))


@pytest.mark.parametrize(
  ("text", "markup"),
  [
    ("a < b & c", "a &lt; b &amp; c"),
    ("<script>x</script>", "&lt;script&gt;x&lt;/script&gt;"),
    ("'\"", "&#39;&#34;"),
    ("one\r\ntwo\tthree\n", "one\ntwo\tthree\n"),
    ("😀 e\u0301 نص", "😀 e\u0301 نص"),
    # What joins letters and emoji is what scripts need.
    ("👩\u200d💻 می\u200cخواهم", "👩\u200d💻 می\u200cخواهم"),
  ],
)
def test_text_is_shown_as_it_is(text, markup):
  assert str(showing.shown(text)) == markup


@pytest.mark.parametrize(
  ("character", "mark", "title"),
  [
    ("\x00", "NUL", "U+0000 control character"),
    ("\x1b", "ESC", "U+001B control character"),
    ("\r", "CR", "U+000D control character"),
    ("\x7f", "DEL", "U+007F control character"),
    ("\x9b", "U+009B", "U+009B control character"),
    ("\u202e", "RLO", "U+202E right-to-left override"),
    ("\u2066", "LRI", "U+2066 left-to-right isolate"),
    ("\u200b", "ZWSP", "U+200B zero width space"),
    ("\ufeff", "BOM", "U+FEFF zero width no-break space"),
    ("\ud800", "U+D800", "U+D800 half of a surrogate pair"),
    ("\U000e0041", "U+E0041", "U+E0041 tag latin capital letter a"),
  ],
)
def test_what_cannot_be_seen_is_marked(character, mark, title):
  markup = str(showing.shown(f"a{character}b"))
  assert markup == f'a<span class="mark" title="{title}">{mark}</span>b'
  assert showing.plain(f"a{character}b") == f"a[{mark}]b"


def test_a_separator_of_lines_separates_lines():
  assert _read(showing.shown("a\u2028b\x85c")) == "aLS\nbU+0085\nc"


@hypothesis.given(st.text())
def test_no_text_reaches_out(text):
  markup = str(showing.shown(text))
  outside = re.sub(
    r'<span class="mark" title="[^"<>]*">[^<>]*</span>', "", markup
  )
  assert not set(outside) & set("<>\"'")
  seen = [c for c in markup if ord(c) < 32 and c not in "\t\n"]
  assert not seen
  assert not re.search("[\u202a-\u202e\u2066-\u2069\ud800-\udfff]", markup)
  markup.encode("utf-8")


@hypothesis.given(st.text(st.characters(categories=("L", "N", "P", "Zs"))))
def test_what_can_be_seen_is_all_there(text):
  assert _read(showing.shown(text)) == text


def test_an_excerpt_is_one_line_of_bounded_length():
  assert str(showing.excerpt("a\n  b")) == "a b"
  long = str(showing.excerpt("word " * 30_000))
  assert long.endswith("word…")
  assert len(long) <= 121
  assert str(showing.excerpt(" " * 9999)) == "…"


@pytest.mark.parametrize(
  ("prompt", "turns"),
  [
    ({"prompt": "Hi"}, [("", "Hi")]),
    ({"prompt": ["odd"]}, [("odd", "odd")]),
    ({}, [("", "")]),
    (
      {
        "prompt": "x",
        "record": {
          "messages": [
            {"role": "system", "content": "Be kind."},
            {"role": "user", "content": "Hi"},
            {"role": "assistant", "content": "an answer of the file's"},
          ]
        },
      },
      [("system", "Be kind."), ("user", "Hi")],
    ),
    ({"prompt": "x", "record": {"messages": "no list"}}, [("", "x")]),
    ({"prompt": "x", "record": {"messages": [1]}}, [("1", "1")]),
  ],
)
def test_the_turns_of_a_prompt(prompt, turns):
  assert showing.prompt_of(prompt) == turns


def test_markdown_shows_markup_and_refuses_scripts():
  page = str(
    showing.markdown(
      "# T\n\n<b onclick=x>b</b> [a](javascript:alert) [b](https://x.org)"
      "\n\n| a |\n| - |\n| 1 |\n\n\u202e"
    )
  )
  assert "<h1>T</h1>" in page
  assert "<b" not in page
  assert 'href="javascript' not in page
  assert 'href="https://x.org"' in page
  assert "<td>1</td>" in page
  assert "[RLO]" in page
