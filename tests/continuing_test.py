"""What a policy says to texts of any length, against its logits one by one."""

import dataclasses

import jax
import numpy as np
import pytest

from instruct_jax.base import errors
from instruct_jax.inference import continuing, likelihood
from tests import likelihood_test as by_hand

KEY = jax.random.key(3)
REACH = by_hand.REACH
PROMPTS = ["the cat", "a", "", "x" * 30, "what is it ?"]


def greedy(tokens, count):
  """What the model says greedily, and where it would end."""
  ids = list(tokens)
  for _ in range(count):
    logits = by_hand.logits_of(ids)[-1]
    if by_hand.TOKENIZER.pad_id < len(logits):
      logits[by_hand.TOKENIZER.pad_id] = -np.inf
    ids.append(int(logits.argmax()))
    if ids[-1] == by_hand.TOKENIZER.eot_id:
      break
  return ids[len(tokens) :]


def expected(text, count):
  """By hand, to the last tokens of a text that leave room."""
  ids = [*by_hand.TOKENIZER.start_ids, *by_hand.TOKENIZER.encode(text)]
  said = greedy(ids[count - REACH :], count)
  return by_hand.TOKENIZER.decode(said), len(said)


@pytest.fixture(scope="module")
def said():
  return continuing.to_texts(
    by_hand.reader(), PROMPTS, KEY, continuing.Request(max_tokens=10)
  )


def test_greedily_as_the_logits_say(said):
  for text, one in zip(PROMPTS, said, strict=True):
    assert (one.text, one.tokens) == expected(text, 10)
    assert not one.is_cut


def test_prompts_that_leave_no_room_lose_their_beginning():
  long = "abcdefg " * 10
  request = continuing.Request(max_tokens=10)
  one, other = continuing.to_texts(by_hand.reader(), [long, "a"], KEY, request)
  assert one.is_cut
  assert not other.is_cut
  assert (one.text, one.tokens) == expected(long, 10)


def test_a_template_stands_around_prompts():
  reader = dataclasses.replace(by_hand.reader(), template="Q{prompt}A")
  request = continuing.Request(max_tokens=10)
  (one,) = continuing.to_texts(reader, ["the cat"], KEY, request)
  assert (one.text, one.tokens) == expected("Qthe catA", 10)


def test_a_stop_ends_it_and_is_not_said(said):
  text = said[0].text
  assert len(text) > 4, "the model of this test says nothing"
  stop = text[3]
  before = text[: text.index(stop)]
  request = continuing.Request(max_tokens=10, stops=(stop,))
  (one,) = continuing.to_texts(by_hand.reader(), PROMPTS[:1], KEY, request)
  assert (one.text, one.ended) == (before, True)
  assert one.tokens <= said[0].tokens


def test_a_stop_of_several_tokens_is_found_in_the_text(said):
  text = said[0].text
  stop = text[2:4]
  request = continuing.Request(max_tokens=10, stops=(stop,))
  (one,) = continuing.to_texts(by_hand.reader(), PROMPTS[:1], KEY, request)
  assert (one.text, one.ended) == (text[: text.index(stop)], True)


def test_tokens_that_hold_a_stop():
  found = continuing.stop_tokens(by_hand.TOKENIZER, ("a", "\n"))
  assert sorted(by_hand.TOKENIZER.decode([n]) for n in found) == ["\n", "a"]
  assert continuing.stop_tokens(by_hand.TOKENIZER, ()) == ()


@pytest.mark.parametrize("mesh", [{"data": 4, "fsdp": 2}])
def test_devices_and_batches_change_no_sample(mesh, monkeypatch):
  request = continuing.Request(max_tokens=7, temperature=1.0)
  one = continuing.to_texts(by_hand.reader(), PROMPTS, KEY, request)
  monkeypatch.setattr(continuing, "AT_ONCE", 2)
  assert continuing.to_texts(by_hand.reader(), PROMPTS, KEY, request) == one
  assert (
    continuing.to_texts(by_hand.reader(**mesh), PROMPTS, KEY, request) == one
  )
  other = continuing.to_texts(
    by_hand.reader(), PROMPTS, jax.random.key(4), request
  )
  assert [x.text for x in other] != [x.text for x in one]


def test_what_is_said_depends_on_the_episode_alone():
  request = continuing.Request(max_tokens=7, temperature=1.0)
  ids = by_hand.TOKENIZER.encode("the cat")
  asked = dict.fromkeys((0, 5, 9), ids)
  whole: dict[int, continuing.Said] = {}
  for some in continuing.by_batch(by_hand.reader(), asked, KEY, request):
    whole |= some
  (alone,) = continuing.by_batch(by_hand.reader(), {5: ids}, KEY, request)
  assert alone[5] == whole[5]
  assert len({whole[n].text for n in asked}) > 1


def test_more_tokens_than_the_model_reads_are_an_error():
  request = continuing.Request(max_tokens=REACH)
  with pytest.raises(errors.UserError, match=f"{REACH} tokens"):
    continuing.to_texts(by_hand.reader(), ["a"], KEY, request)
  assert isinstance(by_hand.reader(), likelihood.Reader)
