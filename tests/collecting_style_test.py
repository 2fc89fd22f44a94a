"""The pages' colours can be read: WCAG 2.2 AA, in the light and in the dark."""

import importlib.resources
import re

import pytest

_SOURCE = importlib.resources.files("instruct_jax") / "collecting/static"
_CSS = (_SOURCE / "style.css").read_text("utf-8")
_TEXTS = (  # a colour of text, and what it stands on
  ("text", "page"),
  ("text", "card"),
  ("text", "tint"),
  ("text", "note"),
  ("text", "wrong-tint"),
  ("soft", "page"),
  ("soft", "card"),
  ("soft", "tint"),
  ("accent", "page"),
  ("accent", "card"),
  ("accent", "tint"),
  ("on-accent", "accent"),
  ("wrong", "page"),
  ("wrong", "card"),
)
_EDGES = (("edge", "card"), ("edge", "page"), ("accent", "card"))


def _palettes():
  blocks = re.findall(r":root \{(.*?)\}", _CSS, re.DOTALL)
  return [
    dict(re.findall(r"--([\w-]+): (#[0-9a-f]{6})", block)) for block in blocks
  ]


LIGHT, DARK = _palettes()


def _luminance(colour):
  values = [int(colour[n : n + 2], 16) / 255 for n in (1, 3, 5)]
  linear = [
    v / 12.92 if v <= 0.04045 else ((v + 0.055) / 1.055) ** 2.4 for v in values
  ]
  return sum(w * v for w, v in zip((0.2126, 0.7152, 0.0722), linear))


def _contrast(one, two):
  low, high = sorted(map(_luminance, (one, two)))
  return (high + 0.05) / (low + 0.05)


def test_contrast_is_as_wcag_defines_it():
  assert _contrast("#000000", "#ffffff") == pytest.approx(21.0)
  assert _contrast("#777777", "#ffffff") == pytest.approx(4.478, abs=1e-3)


@pytest.mark.parametrize("palette", [LIGHT, DARK], ids=["light", "dark"])
def test_colours_can_be_read(palette):
  for text, ground in _TEXTS:
    assert _contrast(palette[text], palette[ground]) >= 4.5, (text, ground)
  for edge, ground in _EDGES:
    assert _contrast(palette[edge], palette[ground]) >= 3.0, (edge, ground)


def test_no_colour_stands_outside_the_palettes():
  rest = re.sub(r":root \{.*?\}", "", _CSS, flags=re.DOTALL)
  assert re.findall(r"#[0-9a-fA-F]{3,8}\b(?![^{]*\{)", rest) == []


def test_nothing_is_loaded_from_elsewhere():
  for path in _SOURCE.iterdir():
    text = path.read_text("utf-8").replace("http://www.w3.org/2000/svg", "")
    assert "://" not in text, path
  for path in (_SOURCE.parent / "templates").iterdir():
    text = path.read_text("utf-8")
    assert "://" not in text, path
    # The policy lets no script and no style stand in a page.
    assert not re.search(r"\bon\w+=|<style|style=", text), path
    assert not re.search(r"<script(?! src)", text), path
