"""The same metrics on W&B's pages; offline, which needs no network."""

import json
import logging
import sys
import time

import pytest

from instruct_jax.base import errors, journal, weights_and_biases

OFFLINE = weights_and_biases.OFFLINE


@pytest.fixture(autouse=True)
def at_home(tmp_path, monkeypatch):
  """Nothing of W&B lies anywhere but in a folder of the test."""
  monkeypatch.delenv("WANDB_DIR", raising=False)
  for name in ("WANDB_CONFIG_DIR", "WANDB_CACHE_DIR"):
    monkeypatch.setenv(name, str(tmp_path / "home"))
  monkeypatch.delenv("WANDB_API_KEY", raising=False)


def chunks(data):
  """Records of a file in the form of LevelDB's log, after W&B's header."""
  at, parts = 7, []
  while at + 7 <= len(data):
    if 32768 - at % 32768 < 7:  # no header fits into what is left of a block
      at += 32768 - at % 32768
      continue
    size, kind = int.from_bytes(data[at + 4 : at + 6], "little"), data[at + 6]
    parts.append(data[at + 7 : at + 7 + size])
    at += 7 + size
    if kind in (1, 4):  # whole, or the last part of one
      yield b"".join(parts)
      parts = []


def records(folder, seconds=30.0):
  """What offline runs keep, in W&B's own format.

  Its service writes on for a moment after a run has ended.
  """
  pytest.importorskip("wandb")
  from wandb.proto import wandb_internal_pb2

  end = time.monotonic() + seconds
  while True:
    found = [
      [wandb_internal_pb2.Record.FromString(x) for x in chunks(p.read_bytes())]
      for p in sorted(folder.glob("wandb/offline-run-*/*.wandb"))
    ]
    if found and all(any(r.HasField("exit") for r in run) for run in found):
      return [record for run in found for record in run]
    assert time.monotonic() < end, "it never ended"
    time.sleep(0.05)


def rows(folder):
  """{step: {name: value}}"""
  found = {}
  for record in records(folder):
    if record.WhichOneof("record_type") == "history":
      items = {
        item.key or ".".join(item.nested_key): json.loads(item.value_json)
        for item in record.history.item
      }
      found[items.pop("_step")] = {
        k: v for k, v in items.items() if not k.startswith("_")
      }
  return found


def ids(folder):
  return {
    record.run.run_id
    for record in records(folder)
    if record.WhichOneof("record_type") == "run"
  }


def test_it_has_what_the_journal_has(tmp_path):
  pytest.importorskip("wandb")
  folder = tmp_path / "sft-tiny"
  with journal.Log(folder, wandb=OFFLINE, config={"seed": 3}) as log:
    log.write(10, {"loss": (3.0, 2.0)})
    log.write(20, {"loss": (1.0, 2.0), "rate/x": 7.0})
  assert rows(folder) == {10: {"loss": 1.5}, 20: {"loss": 0.5, "rate/x": 7.0}}
  (run,) = (r.run for r in records(folder) if r.HasField("run"))
  assert run.display_name == "sft-tiny"
  assert run.project == weights_and_biases.PROJECT
  settings = {x.key: json.loads(x.value_json) for x in run.config.update}
  assert settings["seed"] == 3


@pytest.mark.slow
def test_a_run_that_goes_on_is_one_run_there(tmp_path):
  pytest.importorskip("wandb")
  for step in (1, 2):
    with journal.Log(tmp_path / "a", wandb=OFFLINE) as log:
      log.write(step, {"loss": 1.0})
  with journal.Log(tmp_path / "b", wandb=OFFLINE) as log:
    log.write(1, {"loss": 1.0})
  (one,), (other,) = ids(tmp_path / "a"), ids(tmp_path / "b")
  assert one != other
  assert set(rows(tmp_path / "a")) == {1, 2}


def test_another_run_of_the_same_name_is_another_there(tmp_path, monkeypatch):
  wandb = pytest.importorskip("wandb")
  opened = []
  monkeypatch.setattr(wandb, "init", lambda **given: opened.append(given["id"]))
  for folder in ("one/a", "two/a", "one/a"):
    weights_and_biases.Page(OFFLINE, tmp_path / folder, {})
  (tmp_path / "one/a").rename(tmp_path / "one/a.old1")
  weights_and_biases.Page(OFFLINE, tmp_path / "one/a", {})
  weights_and_biases.Page(OFFLINE, tmp_path / "one/a.old1", {})
  first, second, again, fresh, moved = opened
  assert first == again == moved
  assert len({first, second, fresh}) == 3


def test_off_is_off(tmp_path, monkeypatch):
  monkeypatch.setitem(sys.modules, "wandb", None)  # cannot be imported
  with journal.Log(tmp_path) as log:
    log.write(1, {"loss": 1.0})
  assert not (tmp_path / "wandb").exists()
  weights_and_biases.check("off")


def test_without_the_package_it_says_what_to_install(monkeypatch):
  monkeypatch.setitem(sys.modules, "wandb", None)
  with pytest.raises(errors.UserError, match=r"pip install 'instruct_jax\[wan"):
    weights_and_biases.check(OFFLINE)


def test_what_it_refuses_stops_the_start_with_a_remedy(tmp_path, monkeypatch):
  wandb = pytest.importorskip("wandb")

  def refuse(**_):
    raise wandb.errors.CommError("no network")

  monkeypatch.setattr(wandb, "init", refuse)
  with pytest.raises(errors.UserError, match=r"no network.*wandb=offline"):
    weights_and_biases.Page("online", tmp_path, {})


def test_what_fails_later_stops_nothing_and_is_said_once(
  tmp_path, monkeypatch, caplog
):
  wandb = pytest.importorskip("wandb")

  class Gone:
    def log(self, values, step):
      raise BrokenPipeError("the service is gone")

    def finish(self):
      raise BrokenPipeError("the service is gone")

  monkeypatch.setattr(wandb, "init", lambda **_: Gone())
  with (
    caplog.at_level(logging.WARNING),
    journal.Log(tmp_path, wandb=OFFLINE) as log,
  ):
    log.write(1, {"loss": 1.0})
    log.write(2, {"loss": 1.0})
  assert caplog.text.count("the service is gone") == 1
  assert len((tmp_path / "metrics.jsonl").read_text().splitlines()) == 2
