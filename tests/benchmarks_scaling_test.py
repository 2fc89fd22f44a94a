"""Weak scaling: what chips send each other stays what it is as they double."""

import pathlib

import pytest
from etils import epath

from benchmarks import plans, scaling
from instruct_jax import paper
from instruct_jax.base import errors, storage
from instruct_jax.planning import jobs, topology, whole
from instruct_jax.runs import references

ROOT = pathlib.Path(__file__).parent.parent
SOURCE = epath.Path("experiments/sft.py")


@pytest.fixture(scope="module")
def found():
  """What is committed."""
  return storage.read_json(scaling.RESULTS)


@pytest.fixture(scope="module")
def sent(tmp_path_factory):
  """{devices: bytes that each is sent} of an SFT update, split over fsdp.

  A device has as many rows as it always has. CPU devices stand in.
  """
  with pytest.MonkeyPatch.context() as patch:
    cache = tmp_path_factory.mktemp("cache")
    patch.setenv("INSTRUCT_JAX_CACHE", str(cache))
    found = {}
    for count in (2, 4, 8):
      config, _ = references.load_config("sft.py:test", SOURCE.parent)
      config.unlock()
      config.mesh.fsdp = count
      config.batch.demonstrations = 8 * count
      place = topology.named(f"h100:{count}")
      plan = whole.of(jobs.of(config.lock(), SOURCE, place, {}), place)
      found[count] = plan["programs"]["sft_update"]
  return found


def test_what_a_device_is_sent_stays_flat_as_devices_double(sent):
  # On a ring (n - 1) / n of what is gathered and scattered travels.
  whole_ = {n: one["collective_bytes"] * n / (n - 1) for n, one in sent.items()}
  assert whole_[2] > 0
  assert max(whole_.values()) < 1.1 * min(whole_.values())


def test_so_does_the_work_of_a_device(sent):
  flops = [one["flops"] for one in sent.values()]
  assert max(flops) < 1.02 * min(flops)


def test_the_series_double_and_go_from_8_to_1024_chips():
  for name, series in scaling.SERIES.items():
    assert list(series) == [8 * 2**n for n in range(8)]
    for chips, (where, slices) in series.items():
      place = topology.named(where, slices)
      assert (place.chip.name, place.chips) == (name, chips)


def test_sixteen_chips_have_the_paper_s_batch():
  assert 16 * scaling.ROWS["prompts"] == paper.PPO_PTX.batch_episodes
  assert 16 * scaling.ROWS["pretraining"] == paper.PPO_PTX.batch_pretraining


def test_the_table_is_that_of_the_results(found):
  text = (ROOT / "docs" / "plan.md").read_text()
  marks = [f"<!-- benchmarks.scaling: {mark} -->" for mark in ("begin", "end")]
  assert f"{marks[0]}\n{scaling.table(found)}\n{marks[1]}" in text


def test_the_table_of_the_placed_variants_is_that_of_the_results():
  found = storage.read_json(plans.RESULTS)
  marks = [f"<!-- benchmarks.plans: {mark} -->" for mark in ("begin", "end")]
  text = (ROOT / "README.md").read_text()
  assert f"{marks[0]}\n{plans.table(found)}\n{marks[1]}" in text


def test_the_figure_shows_every_plan_that_has_numbers(found):
  panels = scaling.plot(found).panels
  for panel in panels:
    for name, line in panel.series.items():
      known = {
        float(chips)
        for chips, one in found[name].items()
        if one["program"]["seconds"] is not None
      }
      assert set(line) == known
  (times, sent_) = (panel.series for panel in panels)
  for name, line in times.items():
    for chips in line:
      one = found[name][str(int(chips))]["program"]
      assert line[chips].value == one["seconds"]
      assert sent_[name][chips].value == one["collective_bytes"] / 1e12


def test_a_plan_that_is_refused_is_a_row_without_numbers():
  one = {
    "topology": "v5e:2x4",
    "slices": 1,
    "chips": 8,
    "chip": "v5e",
    "estimate": False,
    "mesh": {"data": 1, "fsdp": 8, "tensor": 1},
    "batch": {"prompts": 256, "pretraining": 2048},
    "program": {
      "fits": False,
      "bytes": {"total": 24e9, "hbm": 17e9},
      **dict.fromkeys(("seconds", "mfu", "ici_bytes", "dcn_bytes")),
    },
  }
  row = scaling.table({"v5e": {"8": one}}).splitlines()[-1]
  assert "| **does not fit**: 24.0 of 17.0 | – | – |" in row
  assert row.count("|") == scaling.table({}).splitlines()[0].count("|")
  assert not scaling.plot({"v5e": {"8": one}}).panels[0].series["v5e"]


def test_numbers_of_chips_that_no_series_has_are_said():
  with pytest.raises(errors.UserError, match="1024"):
    scaling._asked("8,1025", "v5p")
