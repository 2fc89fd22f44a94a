"""Metrics: sums and weights, files that survive a kill, a line of progress."""

import io
import json
import math
import os
import pathlib
import pty
import re
import subprocess
import sys
import time

import jax.numpy as jnp
import numpy as np
import pytest
import tensorboardX.proto.event_pb2 as event_pb2
from hypothesis import given
from hypothesis import strategies as st

from instruct_jax.base import metrics


class Clock:
  """Time that passes when told to."""

  def __init__(self):
    self.now = 0.0

  def __call__(self):
    return self.now


def events(folder):
  """Every event in a TensorBoard folder, files in the order of their making."""
  found = []
  files = sorted((folder / "tensorboard").iterdir(), key=os.path.getmtime)
  for file in files:
    data = file.read_bytes()
    while data:
      size = int.from_bytes(data[:8], "little")
      found.append(event_pb2.Event.FromString(data[12 : 12 + size]))
      data = data[16 + size :]
  return found


def test_means_divide_once_and_pass_numbers():
  got = metrics.means(
    {
      "policy/loss": (jnp.float32(3.0), jnp.float32(4.0)),
      "gradient/norm": jnp.float32(0.1),
      "time/seconds": 2,
      "ptx/loss": (0.0, 0),
    }
  )
  assert got["policy/loss"] == 0.75
  assert got["gradient/norm"] == float(np.float32(0.1))
  assert got["time/seconds"] == 2.0
  assert math.isnan(got["ptx/loss"])


def test_add_is_the_mean_of_the_whole():
  whole = metrics.add({"a": (1.0, 2.0), "b": (1, 1)}, {"a": (5.0, 1.0)})
  assert whole == {"a": (6.0, 3.0), "b": (1, 1)}
  with pytest.raises(TypeError, match="'a'"):
    metrics.add({"a": 1.0}, {"a": (5.0, 1.0)})


def test_a_line_has_step_first_names_in_order_and_every_digit(tmp_path):
  third = np.float32(1) / np.float32(3)
  with metrics.Log(tmp_path / "run", tensorboard=False) as log:
    shown = log.write(3, {"b/x": jnp.float32(third), "a/y": (1.0, 3.0)})
  text = (tmp_path / "run" / "metrics.jsonl").read_text()
  assert list(json.loads(text)) == ["step", "a/y", "b/x"]
  assert json.loads(text)["a/y"] == 1 / 3
  assert np.float32(json.loads(text)["b/x"]) == third
  assert shown == {"b/x": float(third), "a/y": 1 / 3}
  assert text.endswith("}\n")


def test_non_finite_values_stay_valid_json_and_come_back(tmp_path):
  with metrics.Log(tmp_path, tensorboard=False) as log:
    log.write(1, {"a": math.nan, "b": math.inf, "c": (-1.0, 0.0), "d": -np.inf})
  line = (tmp_path / "metrics.jsonl").read_text()
  json.loads(line, parse_constant=lambda _: pytest.fail("not JSON"))
  (got,) = metrics.read_metrics(tmp_path)
  assert math.isnan(got["a"])
  assert math.isnan(got["c"])
  assert (got["b"], got["d"]) == (math.inf, -math.inf)


def test_samples_keep_their_text(tmp_path):
  rows = [
    {"prompt": "Grüße\n\u2028", "response": "NaN", "score": np.float32(0.5)},
    {"prompt": "\udc80", "response": "", "ranks": np.array([1, 2])},
  ]
  with metrics.Log(tmp_path, tensorboard=False) as log:
    log.samples(2, rows)
  got = metrics.read_samples(tmp_path)
  assert got[0] == {"step": 2} | rows[0]
  assert got[1]["prompt"] == "\udc80"
  assert got[1]["ranks"] == [1, 2]


def test_missing_files_have_no_lines(tmp_path):
  assert metrics.read_metrics(tmp_path / "nothing") == []
  metrics.Log(tmp_path, tensorboard=False).truncate(5)
  assert list(tmp_path.iterdir()) == []


@given(
  steps=st.lists(st.integers(0, 20), max_size=12),
  cut=st.integers(-1, 21),
  torn=st.integers(0, 200),
)
def test_truncate_after_any_kill_continues_as_if_unbroken(
  tmp_path_factory, steps, cut, torn
):
  """Cut the file anywhere, truncate, go on: the same bytes as without."""
  steps = sorted(steps)
  folder = tmp_path_factory.mktemp("run")
  whole, broken = folder / "whole", folder / "broken"
  for where in (whole, broken):
    log = metrics.Log(where, tensorboard=False)
    for number, step in enumerate(steps):
      log.write(step, {"a/b": (number / 3, 1.0)})
      log.samples(step, [{"text": "ä"}, {"text": "b"}])
  safe = sum(step <= cut for step in steps)  # lines before the checkpoint
  for name in ("metrics.jsonl", "samples.jsonl"):
    if not steps:
      continue
    data = (broken / name).read_bytes()
    lines = data.splitlines(keepends=True)
    kept = len(b"".join(lines[: safe * (1 + (name == "samples.jsonl"))]))
    (broken / name).write_bytes(data[: max(kept, len(data) - torn)])
  log = metrics.Log(broken, tensorboard=False)
  log.truncate(cut)
  assert all(x["step"] <= cut for x in metrics.read_metrics(broken))
  for number, step in enumerate(steps):
    if step > cut:
      log.write(step, {"a/b": (number / 3, 1.0)})
      log.samples(step, [{"text": "ä"}, {"text": "b"}])
  for name in ("metrics.jsonl", "samples.jsonl"):
    if steps:
      assert (broken / name).read_bytes() == (whole / name).read_bytes()
  assert not list(broken.glob(".*.partial"))


def test_truncate_drops_garbage_and_mends_a_missing_newline(tmp_path):
  file = tmp_path / "metrics.jsonl"
  file.write_bytes(b'{"step": 1}\n\x00\xff\n7\n{"x": 1}\n{"step": 2}')
  metrics.Log(tmp_path, tensorboard=False).truncate(2)
  assert file.read_bytes() == b'{"step": 1}\n{"step": 2}\n'


def test_tensorboard_gets_scalars_and_is_purged_on_resume(tmp_path):
  with metrics.Log(tmp_path) as log:
    for step in range(4):
      log.write(step, {"loss/a": (1.0, 2.0), "loss/b": math.nan})
  with metrics.Log(tmp_path) as log:  # at once: must not overwrite the file
    log.truncate(1)
    log.write(2, {"loss/a": (1.0, 4.0)})
  found = events(tmp_path)
  scalars = [
    (event.step, value.tag, value.simple_value)
    for event in found
    for value in event.summary.value
  ]
  assert scalars == [(s, "loss/a", 0.5) for s in range(4)] + [
    (2, "loss/a", 0.25)
  ]
  starts = [e.step for e in found if e.session_log.status]
  assert starts == [2]  # TensorBoard forgets step 2 and later of before


def test_progress_in_a_file_is_a_line_now_and_then():
  clock, stream = Clock(), io.StringIO()
  with metrics.Progress(
    "sft", 100, start=10, show=["loss"], stream=stream, clock=clock
  ) as progress:
    clock.now = 60.0  # compiling is no rate
    progress.update(11, {"loss": 1.23456, "other": 1.0})
    for step in range(12, 51):
      clock.now += 0.5
      progress.update(step)
  lines = stream.getvalue().splitlines()
  assert len(lines) == 3
  assert lines[0].startswith("sft  11/100  11 %")
  assert lines[-1] == "sft  50/100  50 %  2/s  0:25 left  loss 1.235"
  assert "\x1b" not in stream.getvalue()


def test_progress_ends_with_the_end():
  clock, stream = Clock(), io.StringIO()
  progress = metrics.Progress("ppo", 3, stream=stream, clock=clock)
  for step in (1, 2, 3):
    clock.now += 4
    progress.update(step)
  progress.close()
  lines = stream.getvalue().splitlines()
  assert lines[-1] == "ppo  3/3  100 %  4 s each"
  assert len(lines) == 2
  empty = metrics.Progress("none", 0, stream=stream, clock=clock)
  empty.update(0)
  empty.close()
  assert stream.getvalue().splitlines()[-1] == "none  0/0"


TERMINAL = """
import sys, time, logging
from instruct_jax.base import metrics
with metrics.Progress("a long name", 30, show=["m"]) as progress:
  for step in range(1, 31):
    time.sleep(0.01)
    progress.update(step, {"m": step / 7})
    if step == 15:
      logging.getLogger("x").warning("A WARNING")
print("RESULT")
"""


@pytest.mark.parametrize("columns", [10, 200])
def test_progress_in_a_terminal_is_one_line(columns):
  primary, secondary = pty.openpty()
  env = os.environ | {"TERM": "xterm", "COLUMNS": str(columns)}
  root = pathlib.Path(metrics.__file__).parents[2]
  child = subprocess.Popen(
    [sys.executable, "-c", TERMINAL],
    stdout=subprocess.PIPE,
    stderr=secondary,
    env=env | {"JAX_PLATFORMS": "cpu", "PYTHONPATH": str(root)},
  )
  os.close(secondary)
  seen = b""
  while True:
    try:
      part = os.read(primary, 4096)
    except OSError:  # the other end is closed
      break
    if not part:
      break
    seen += part
  assert child.wait() == 0
  assert child.stdout.read() == b"RESULT\n"
  text = re.sub(r"\x1b\[[0-9;?]*[A-Za-z]", "", seen.decode())
  shown = [line for line in re.split(r"[\r\n]+", text) if line.strip()]
  assert any("A WARNING" in line for line in shown)
  assert all(len(line) <= columns for line in shown)
  if columns == 200:
    assert "30/30  100 %" in shown[-1]
  assert text.count("\n") <= 6  # refreshed, not scrolled


def test_number_and_duration():
  assert metrics.number(1.23456789) == "1.235"
  assert metrics.number(np.float32(1e-9)) == "1e-09"
  assert metrics.number(12) == "12"
  assert metrics.number(None) == "-"
  assert metrics.number("text") == "text"
  assert metrics.duration(59.6) == "1:00"
  assert metrics.duration(3723) == "1:02:03"


def test_table_without_a_terminal_is_plain_and_aligned():
  stream = io.StringIO()
  metrics.table(
    [["sft", 0.5, None], ["ppo-ptx", 12.34567, "±"]],
    ["model", "win [%]", ""],
    title="Preference",
    stream=stream,
  )
  assert stream.getvalue() == (
    "Preference\nmodel    win [%]\nsft          0.5  -\nppo-ptx    12.35  ±\n"
  )
  stream = io.StringIO()
  metrics.table([], ["a", "b"], stream=stream)
  assert stream.getvalue() == "a  b\n"


def test_table_in_a_terminal_keeps_brackets(monkeypatch):
  monkeypatch.setenv("FORCE_COLOR", "1")
  monkeypatch.setenv("TERM", "xterm")
  monkeypatch.setenv("COLUMNS", "40")
  stream = io.StringIO()
  metrics.table([["[bold]", 1.0]], ["[x]", "n"], stream=stream)
  assert "[bold]" in stream.getvalue()
  assert "[x]" in stream.getvalue()


def test_peak_memory_is_what_the_system_says():
  held = np.ones(2_000_000)  # 16 MB
  status = pathlib.Path("/proc/self/status")
  if not status.exists():
    pytest.skip("no /proc")
  kilobytes = int(re.search(r"VmHWM:\s+(\d+) kB", status.read_text())[1])
  assert abs(metrics.peak_memory_bytes() - 1024 * kilobytes) < 16e6
  del held


def test_write_is_cheap(tmp_path):
  with metrics.Log(tmp_path) as log:
    log.write(0, {"a": 1.0})
    start = time.perf_counter()
    for step in range(1, 51):
      log.write(step, {f"group/{n}": (1.0 * n, 2.0) for n in range(30)})
    each = (time.perf_counter() - start) / 50
  assert each < 0.05  # it takes 2 ms on two busy cores
