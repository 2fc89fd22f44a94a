"""Numbers and tables, in a terminal and elsewhere."""

import io
import math
import re

import numpy as np
import pytest
from rich import cells

from instruct_jax.base import terminal


def test_number_and_duration():
  assert terminal.number(1.23456789) == "1.235"
  assert terminal.number(np.float32(1e-9)) == "1e-09"
  assert terminal.number(49420.0) == "49420"
  assert terminal.number(-2.5e7) == "-2.5e+07"
  assert terminal.number(12) == "12"
  assert terminal.number(None) == "-"
  assert terminal.number("text") == "text"
  assert terminal.duration(59.6) == "1:00"
  assert terminal.duration(3723) == "1:02:03"


def style(*values, percent=False):
  return terminal.style_of(values, percent=percent)


def test_the_numbers_of_a_row_have_as_many_decimals_each():
  for values, shown in (
    ((0.0, 6.18123, None), ("0.00", "6.18", "–")),
    ((-0.001, 0.61), ("0.00", "0.61")),  # no negative zero
    ((12, 7), ("12", "7")),
    ((np.int64(12), 7), ("12", "7")),
    ((0.00123, 0.00004), ("0.00123", "0.00004")),
    ((1024.0, 3.0), ("1024", "3")),
    ((1234.5, 3.25), ("1234", "3")),
    ((1.5e-9,), ("1.50e-09",)),
    ((2.5e9,), ("2.50e+09",)),
    ((math.nan, 0.5), ("nan", "0.50")),
    ((), ()),
  ):
    row = style(*values)
    assert tuple(map(row.number, values)) == shown
  shares = style(0.574, 1.0, 1e-4, percent=True)
  assert [shares.number(x) for x in (0.574, 1.0, 1e-4)] == [
    "57.4 %",
    "100.0 %",
    "0.0 %",
  ]
  assert shares.interval(0.557, 0.592) == "[55.7, 59.2]"
  assert style(3.0, 4.55).interval(-1, 12.345) == "[-1.00, 12.35]"
  assert shares.interval(-math.inf, 1) == shares.interval(None, 1) == ""


def test_what_a_stream_cannot_show_is_spelled_out(monkeypatch):
  for name in ("LC_ALL", "LC_CTYPE", "LANG"):
    monkeypatch.delenv(name, raising=False)
  stream = io.TextIOWrapper(io.BytesIO(), encoding="utf-8")
  ascii = io.TextIOWrapper(io.BytesIO(), encoding="ascii")
  text = "a – b ± 1 … \U0001f600"
  spelled = "a - b +/- 1 ... \\U0001f600"
  assert terminal.encodable(text, stream) == text
  assert terminal.encodable(text, ascii) == spelled
  monkeypatch.setenv("LANG", "C")
  assert terminal.encodable(text, stream) == spelled
  monkeypatch.setenv("LC_ALL", "C.UTF-8")
  assert terminal.encodable(text, stream) == text


def test_table_without_a_terminal_is_plain_and_aligned():
  stream = io.StringIO()
  terminal.table(
    [["sft", 0.5, None], ["ppo-ptx", 12.34567, "±"]],
    ["model", "win [%]", ""],
    title="Preference",
    stream=stream,
  )
  assert stream.getvalue() == (
    "Preference\nmodel    win [%]\nsft          0.5  -\nppo-ptx    12.35  ±\n"
  )
  stream = io.StringIO()
  terminal.table([], ["a", "b"], stream=stream)
  assert stream.getvalue() == "a  b\n"


def test_table_in_a_terminal_keeps_brackets(monkeypatch):
  monkeypatch.setenv("FORCE_COLOR", "1")
  monkeypatch.setenv("TERM", "xterm")
  monkeypatch.setenv("COLUMNS", "40")
  stream = io.StringIO()
  terminal.table([["[bold]", 1.0]], ["[x]", "n"], stream=stream)
  assert "[bold]" in stream.getvalue()
  assert "[x]" in stream.getvalue()


ROWS = [
  ["preferred over SFT, training labelers", "57.4 % [55.7, 59.2]", "1 [0, 2]",
   "-1.19 [-1.27, -1.11]", "1024"],
  ["a path", "/a/very/long/path/without/any/space/in/it", "100.0 %", "", "12"],
  ["日本語のラベル は 二倍 の 幅 を とる", "± 3", "\x1b[31mred", "", "7"],
]  # fmt: skip
HEADERS = ["", "GPT (prompted)", "SFT", "PPO-ptx", "n"]
FIGURES = ("57.4 % [55.7, 59.2]", "-1.19 [-1.27, -1.11]", "100.0 %", "[0, 2]")


def printed(monkeypatch, columns, term="xterm", **env):
  monkeypatch.setenv("FORCE_COLOR", "1")
  monkeypatch.setenv("TERM", term)
  monkeypatch.setenv("COLUMNS", str(columns))
  for name, value in env.items():
    monkeypatch.setenv(name, value)
  stream = io.StringIO()
  terminal.table(ROWS, HEADERS, title="Preference, 95 %", stream=stream)
  return re.sub(r"\x1b\[[0-9;]*m", "", stream.getvalue())


@pytest.mark.parametrize("columns", [24, 40, 60, 80, 120, 200])
@pytest.mark.parametrize("term", ["xterm", "dumb"])
def test_a_table_fits_the_window(monkeypatch, columns, term):
  text = printed(monkeypatch, columns, term)
  for line in text.splitlines():
    assert cells.cell_len(line) <= columns, line
  for figure in FIGURES:
    assert figure in text  # on one line
  for word in ["preferred", "training", "labelers", "path"]:
    assert word in text  # whole
  assert "\\x1b[31mred" in text  # spelled out, not obeyed


def test_a_wide_table_repeats_its_first_column(monkeypatch):
  lines = printed(monkeypatch, 80).splitlines()
  heads = [line for line in lines if line.startswith("┃")]
  assert len(heads) == 2
  assert [name in "".join(heads) for name in HEADERS] == [True] * 5
  assert sum("a path" in line for line in lines) == 2


def test_a_table_in_ascii(monkeypatch):
  assert printed(monkeypatch, 100, LC_ALL="C").isascii()
  assert not printed(monkeypatch, 100, LC_ALL="C.UTF-8").isascii()
