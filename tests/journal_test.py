"""Metrics and samples in files that survive a kill, and TensorBoard."""

import json
import math
import os
import time

import jax.numpy as jnp
import numpy as np
import pytest
import tensorboardX.proto.event_pb2 as event_pb2
from hypothesis import given
from hypothesis import strategies as st

from instruct_jax.base import journal, logged


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


def test_a_line_has_step_first_names_in_order_and_every_digit(tmp_path):
  third = np.float32(1) / np.float32(3)
  with journal.Log(tmp_path / "run", tensorboard=False) as log:
    shown = log.write(3, {"b/x": jnp.float32(third), "a/y": (1.0, 3.0)})
  text = (tmp_path / "run" / "metrics.jsonl").read_text()
  assert list(json.loads(text)) == ["step", "a/y", "b/x"]
  assert json.loads(text)["a/y"] == 1 / 3
  assert np.float32(json.loads(text)["b/x"]) == third
  assert shown == {"b/x": float(third), "a/y": 1 / 3}
  assert text.endswith("}\n")


def test_non_finite_values_stay_valid_json_and_come_back(tmp_path):
  with journal.Log(tmp_path, tensorboard=False) as log:
    log.write(1, {"a": math.nan, "b": math.inf, "c": (-1.0, 0.0), "d": -np.inf})
  line = (tmp_path / "metrics.jsonl").read_text()
  json.loads(line, parse_constant=lambda _: pytest.fail("not JSON"))
  (got,) = logged.read_metrics(tmp_path)
  assert math.isnan(got["a"])
  assert math.isnan(got["c"])
  assert (got["b"], got["d"]) == (math.inf, -math.inf)


def test_samples_keep_their_text(tmp_path):
  rows = [
    {"prompt": "Grüße\n\u2028", "response": "NaN", "score": np.float32(0.5)},
    {"prompt": "\udc80", "response": "", "ranks": np.array([1, 2])},
  ]
  with journal.Log(tmp_path, tensorboard=False) as log:
    log.samples(2, rows)
  got = logged.read_samples(tmp_path)
  assert got[0] == {"step": 2} | rows[0]
  assert got[1]["prompt"] == "\udc80"
  assert got[1]["ranks"] == [1, 2]


def test_missing_files_have_no_lines(tmp_path):
  assert logged.read_metrics(tmp_path / "nothing") == []
  journal.Log(tmp_path, tensorboard=False).truncate(5)
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
    log = journal.Log(where, tensorboard=False)
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
  log = journal.Log(broken, tensorboard=False)
  log.truncate(cut)
  assert all(x["step"] <= cut for x in logged.read_metrics(broken))
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
  journal.Log(tmp_path, tensorboard=False).truncate(2)
  assert file.read_bytes() == b'{"step": 1}\n{"step": 2}\n'


def test_tensorboard_gets_scalars_and_is_purged_on_resume(tmp_path):
  with journal.Log(tmp_path) as log:
    for step in range(4):
      log.write(step, {"loss/a": (1.0, 2.0), "loss/b": math.nan})
  with journal.Log(tmp_path) as log:  # at once: must not overwrite the file
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


def test_write_is_cheap(tmp_path):
  with journal.Log(tmp_path) as log:
    log.write(0, {"a": 1.0})
    start = time.perf_counter()
    for step in range(1, 51):
      log.write(step, {f"group/{n}": (1.0 * n, 2.0) for n in range(30)})
    each = (time.perf_counter() - start) / 50
  assert each < 0.05  # it takes 2 ms on two busy cores
