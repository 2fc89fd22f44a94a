"""Every key has its right values, and what lies just outside is refused."""

import math
import pathlib
import re

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from instruct_jax.base import command, errors, keys, ranges
from tests import experiments_test

CONFIGS = {
  case: keys.flatten(experiments_test.MODULES[case[0]].get_config(case[1]))
  for case in experiments_test.CASES
}
USED = sorted({key for flat in CONFIGS.values() for key in flat})
NUMBERS = sorted(
  key
  for key in USED
  if isinstance(keys.entry(ranges.RANGES, key), ranges.Whole | ranges.Real)
)


def refused(key, value):
  with pytest.raises(errors.UserError) as caught:
    ranges.check({key: value})
  message = str(caught.value)
  shown = repr(value) if isinstance(value, str) else value
  assert message.startswith(f"config.{key}={shown}: must be ")


def next_to(value, toward):
  """The next float32, which is what a number becomes."""
  return float(np.nextafter(np.float32(value), np.float32(toward)))


def outside(row):
  """Values next to what a row holds, and of other types."""
  match row:
    case ranges.Whole():
      yield from (row.least - 1, row.most + 1, row.least + 0.5, 2**63, -(2**63))
      yield from (float(row.least), str(row.least), True, None, (row.least,))
      yield from (math.nan, math.inf, -math.inf)
    case ranges.Real():
      low, high = row.open in ("least", "both"), row.open in ("most", "both")
      yield row.least if low else next_to(row.least, -math.inf)
      yield row.most if high else next_to(row.most, math.inf)
      yield from (math.nan, math.inf, -math.inf, 1e39, -1e39, 10**400)
      yield from (str(row.most), True, None, [row.most])
    case ranges.Or():
      yield from (x for x in outside(row.one) if x != row.other)
    case ranges.Switch():
      yield from (0, 1, "True", "", None, 1.0, ())
    case ranges.OneOf():
      yield from ("", row.names[0].upper(), None, 1, row.names)
    case ranges.Text():
      yield from (" ", "\t \n", "a\0b", "a\x1bb", None, 1, True, ("a",), b"a")
      yield from () if row.or_empty else ("",)
      yield from () if row.lines else ("a\nb", "a\tb")
      yield from ("../a", "/a", "a/b", ".", ".a", "a b") if row.file else ()
    case ranges.Each():
      inner = next(iter(outside(row.one)))
      count = row.count or 1
      yield from ((inner,) * count, None, "abc", 3, {"a": 1})
      yield from ((), (1,) * (count + 1)) if row.count else ()
    case _:
      raise AssertionError(row)


def test_every_key_of_every_experiment_has_a_row():
  assert [k for k in USED if keys.entry(ranges.RANGES, k) is None] == []


def test_no_row_is_of_a_key_that_no_experiment_has():
  rows = {id(keys.entry(ranges.RANGES, key)) for key in USED}
  assert [k for k, row in ranges.RANGES.items() if id(row) not in rows] == []
  assert set(ranges.RANGES) == set(keys.MEANINGS) - {"reward_model.*"}


@pytest.mark.parametrize("case", CONFIGS)
def test_every_variant_is_within(case):
  ranges.check(CONFIGS[case])


@pytest.mark.parametrize("key", USED)
def test_what_lies_just_outside_is_refused(key):
  for value in outside(keys.entry(ranges.RANGES, key)):
    refused(key, value)


@pytest.mark.parametrize("key", NUMBERS)
def test_the_ends_that_belong_to_it_are_taken(key):
  row = keys.entry(ranges.RANGES, key)
  ends = {"least": row.least, "most": row.most}
  for name, value in ends.items():
    if getattr(row, "open", "") not in (name, "both"):
      ranges.check({key: value})


@given(st.floats(width=32), st.floats(-1e6, 1e6), st.floats(0, 1e6))
def test_a_number_is_right_exactly_between_its_ends(value, least, span):
  least, most = np.float32(least), np.float32(least + span)
  row = ranges.Real(float(least), float(most))
  assert row.holds(value) == bool(least <= np.float32(value) <= most)
  around = ranges.Real(float(least), float(most), open="both")
  assert around.holds(value) == bool(least < np.float32(value) < most)


@given(st.integers(), st.integers(), st.integers(0, 100))
def test_a_whole_number_is_right_exactly_between_its_ends(value, least, span):
  row = ranges.Whole(least, least + span)
  assert row.holds(value) == (value in range(least, least + span + 1))


def test_numbers_are_compared_as_what_they_become():
  """As float32 the first is 1, whose bias correction divides by 0."""
  refused("optimizer.policy.b2", 0.99999999)
  refused("optimizer.policy.eps", 1e-50)
  ranges.check({"optimizer.policy.b2": 0.9999999})
  ranges.check({"rl.kl_coef": 0, "rl.clip": np.float32(0.25)})


def test_zero_may_mean_something_where_little_more_is_nothing():
  ranges.check({"evaluation.temperature": 0.0})
  refused("evaluation.temperature", 1e-9)
  refused("rl.temperature", 0.0)


def test_what_only_ones_own_config_has_may_be_anything():
  ranges.check({"mine": object(), "mine.too": math.nan})


ROOT = pathlib.Path(ranges.__file__).parents[2]
DEFINED = re.compile(
  r"(?:DEFINE_(?:multi_)?(?:string|integer|float)|\badd_argument|\badd)\("
  r'\s*"(?:--)?(\w+)"(?![^)]*store_true)'
)
FREE = {"prompt"}  # what is said to a model, or a key of somebody's records


def test_every_flag_of_every_command_has_a_row():
  sources = [*ROOT.glob("instruct_jax/**/*.py"), *ROOT.glob("benchmarks/*.py")]
  texts = [path.read_text() for path in sources]
  parsers = ("import argparse", "from absl import flags")
  texts = [text for text in texts if any(x in text for x in parsers)]
  names = {name for text in texts for name in DEFINED.findall(text)}
  assert {"workdir", "seed", "per_user", "shard_gb", "seconds"} <= names
  assert names - FREE - set(ranges.FLAGS) == set()


@pytest.mark.parametrize("name", ranges.FLAGS)
def test_a_flag_outside_its_row_is_refused(name):
  for value in outside(ranges.FLAGS[name]):
    if isinstance(value, list):
      continue  # of values, as of a flag that is repeated
    with pytest.raises(errors.UserError, match="must be"):
      ranges.check_flags({name: value})
    with pytest.raises(errors.UserError, match="must be"):
      ranges.check_flags({name: [value]})


def test_what_a_parser_cannot_read_is_answered_with_what_is_right():
  parser = command.Parser("somewhere", "")
  parser.add_argument("--samples", type=int)
  with pytest.raises(
    errors.UserError, match=r"--samples=1\.5: must be a whole"
  ):
    parser.parse_args(["--samples=1.5"])


def test_nothing_behind_the_prefix_of_a_checkpoint_is_no_path():
  with pytest.raises(errors.UserError, match=r"--run='hf:': must be hf:/path"):
    ranges.check_flags({"run": ["runs/mine", "hf:"]})
  with pytest.raises(errors.UserError, match=r"needs\.policy='hf: ': must be"):
    ranges.check({"needs.policy": "hf: "})


def test_a_path_object_is_text(tmp_path):
  ranges.check({"data.prompts": tmp_path})
