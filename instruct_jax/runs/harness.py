"""A model for lm-evaluation-harness: any run or checkpoint.

To import this module is to make `instruct_jax` known there; the package comes
with the extra `lm-eval`. Tokens, windows and stops are by its conventions.
"""

import json
from collections.abc import Sequence
from typing import Any

import jax
from lm_eval import utils as windows
from lm_eval.api import model as harness_model
from lm_eval.api import registry
from lm_eval.models import utils as harness_utils

from instruct_jax.base import errors
from instruct_jax.inference import continuing, likelihood
from instruct_jax.runs import measured
from instruct_jax.tokenizers import templates

NAME = "instruct_jax"
_SETTINGS = ("temperature", "top_k", "top_p")  # of `continuing.Request`
_OTHERS = ("do_sample",)  # that say nothing more
Requests = Sequence[Any]  # lm_eval.api.instance.Instance, with `args`


@registry.register_model(NAME)
class Model(harness_model.LM):
  """What the harness asks of a model; it wants a class of its own kind."""

  def __init__(
    self,
    pretrained: str,
    *,
    template: str = "none",
    seed: int = 0,
    batch_size: Any = None,
    max_batch_size: Any = None,
    device: Any = None,
  ):
    """Opens a run's folder or an hf:/path; the harness always gives the last
    three, which are decided here."""
    del batch_size, max_batch_size, device
    super().__init__()
    (self._given,) = measured.models([str(pretrained)], template=template)
    self.reader = self._given.open()
    self.key = jax.random.key(int(seed))

  @property
  def tokenizer_name(self) -> str:
    """What the harness names its cache of requests by."""
    return f"{self._given.described['digest']}"

  def get_model_info(self) -> dict[str, Any]:
    """What the harness writes beside its results."""
    return dict(self._given.described)

  def loglikelihood(
    self, requests: Requests, disable_tqdm: bool = False
  ) -> list[tuple[float, bool]]:
    """(nats, whether it is what greedy decoding says) of (context, text)."""
    del disable_tqdm
    pairs = [request.args for request in requests]
    said = likelihood.of_texts(self.reader, pairs)
    found = [(one.logprob, one.is_greedy) for one in said]
    for pair, one in zip(pairs, found):
      self.cache_hook.add_partial("loglikelihood", pair, one)
    return found

  def loglikelihood_rolling(
    self, requests: Requests, disable_tqdm: bool = False
  ) -> list[float]:
    """Nats of whole texts, by the harness's windows: each token once, behind
    as many as the model reads."""
    del disable_tqdm
    tokenizer = self.reader.tokenizer
    start = list(tokenizer.start_ids)
    prefix = start[-1] if start else tokenizer.eot_id
    texts = [request.args[0] for request in requests]
    pairs, owners = [], []
    for owner, ids in enumerate(tokenizer.encode_batch(texts)):
      for window in windows.get_rolling_token_windows(
        token_list=[*start, *ids],
        prefix_token=prefix,
        max_seq_len=self.reader.reach,
        context_len=1,
      ):
        context, predicted = windows.make_disjoint_window(window)
        pairs.append((tuple(context), tuple(predicted)))
        owners.append(owner)
    sums = [0.0] * len(texts)
    said = likelihood.of_tokens(self.reader, pairs)
    for owner, one in zip(owners, said):
      sums[owner] += one.logprob
    for text, one in zip(texts, sums):
      self.cache_hook.add_partial("loglikelihood_rolling", (text,), one)
    return sums

  def generate_until(
    self, requests: Requests, disable_tqdm: bool = False
  ) -> list[str]:
    """What is said to each context, up to the first of its stops."""
    del disable_tqdm
    asked: dict[str, list[int]] = {}
    for place, request in enumerate(requests):
      settings = json.dumps(request.args[1], sort_keys=True)
      asked.setdefault(settings, []).append(place)
    prompts = templates.encode(
      [request.args[0] for request in requests],
      self.reader.tokenizer,
      self.reader.template,
    )
    found: dict[int, continuing.Said] = {}
    for settings, places in asked.items():
      request = request_of(json.loads(settings))
      mine: dict[int, Sequence[int]] = {n: prompts[n] for n in places}
      for some in continuing.by_batch(self.reader, mine, self.key, request):
        found.update(some)
    for place, request in enumerate(requests):
      text = found[place].text
      self.cache_hook.add_partial("generate_until", request.args, text)
    return [found[place].text for place in range(len(requests))]


def request_of(settings: dict[str, Any]) -> continuing.Request:
  """What is asked, by the settings of a task.

  Raises UserError for one that is not known here.
  """
  given = dict(harness_utils.normalize_gen_kwargs(settings))
  stops = harness_utils.handle_stop_sequences(given.pop("until"), eos=None)
  length = given.pop("max_gen_toks")
  for name in given:
    if name not in (*_SETTINGS, *_OTHERS):
      known = (*_SETTINGS, *_OTHERS, "until", "max_gen_toks")
      raise errors.unknown("generation_kwargs", name, known)
  if given.pop("do_sample"):
    given.setdefault("temperature", 1.0)  # as `transformers` has it
  numbers = {name: given[name] for name in _SETTINGS if name in given}
  return continuing.Request(int(length), tuple(stops), **numbers)
