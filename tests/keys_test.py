"""Every key is explained, and an unknown or old one is answered."""

import pytest
from ml_collections import ConfigDict

from instruct_jax.base import errors, keys
from tests import experiments_test

USED = {
  key
  for name, variant in experiments_test.CASES
  for key in keys.flatten(experiments_test.MODULES[name].get_config(variant))
}


def test_flatten_leaves_no_key_for_an_empty_section():
  tree = ConfigDict({"a": {"b": 1, "c": {}}, "d": (2, 3)})
  assert keys.flatten(tree) == {"a.b": 1, "d": (2, 3)}


def test_every_key_of_every_experiment_has_a_meaning():
  assert [key for key in sorted(USED) if not keys.meaning(key)] == []


def test_no_meaning_is_of_a_key_that_no_experiment_has():
  meanings = {keys.meaning(key) for key in USED}
  assert [k for k, text in keys.MEANINGS.items() if text not in meanings] == [
    "reward_model.*"  # explained as model.*
  ]


def test_a_pattern_stands_for_one_name():
  assert keys.meaning("batch.songs") == keys.MEANINGS["batch.*"]
  assert keys.meaning("batch.songs.loud") == ""
  assert keys.meaning("reward_model.layers") == keys.MEANINGS["model.layers"]


def test_explained_lines_are_sorted_and_hold_value_and_meaning():
  lines = keys.explained({"seed": 3, "mine": "x", "rl.clip": 0.2})
  assert [line.split()[0] for line in lines] == ["mine", "rl.clip", "seed"]
  assert lines[0] == "mine = 'x'"
  assert lines[1].split("#") == ["rl.clip = 0.2  ", " of the ratio"]


def test_an_old_key_is_refused_with_the_new_one_named():
  known = {"reward.words.weight": 0.0}
  renamed = {"reward.kind": "reward.TERM.weight"}
  with pytest.raises(errors.UserError, match=r"reward\.TERM\.weight"):
    keys.check(["reward.kind"], known, renamed)
  keys.check(["reward.words.weight"], known, renamed)


def test_a_section_is_set_key_by_key():
  """Given whole, it would lack what it does not say."""
  known = {"rl.clip": 0.2, "optimizer.policy.b1": 0.9}
  for key in ("rl", "optimizer", "optimizer.policy"):
    with pytest.raises(
      errors.UserError, match=rf"{key} is a section: .*=\.\.\."
    ):
      keys.check([key], known)


def test_an_unknown_key_is_refused_with_the_nearest():
  with pytest.raises(errors.UserError, match=r"Did you mean 'rl\.clip'"):
    keys.check(["rl.clop"], {"rl.clip": 0.2, "seed": 0})


@pytest.mark.parametrize(
  ("key", "known", "message"),
  [
    ("rl.n", {"rl.group_size": 4}, r"give config\.rl\.group_size"),
    ("rl.n", {"rl.clip": 0.2}, "samples no groups"),
    ("rl.kl_coef", {"rl.group_size": 4}, "has no KL term"),
    ("rl.kl_coef", {"dpo.beta": 0.1}, r"give config\.dpo\.beta"),
    ("rl.beta", {"rl.kl_coef": 0.1}, r"give config\.rl\.kl_coef"),
  ],
)
def test_what_others_call_a_key_is_answered(key, known, message):
  with pytest.raises(errors.UserError, match=message):
    keys.check([key], known)


def test_no_old_key_is_in_use_again():
  assert not USED & set(keys.RENAMED)
