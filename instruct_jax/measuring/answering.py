"""What all models say to users' prompts, each in its own template."""

import dataclasses
from collections.abc import Mapping, Sequence
from typing import Any

from instruct_jax.base import errors, ranges
from instruct_jax.measuring import contract, models
from instruct_jax.measuring import options as options_lib

OPTIONS = {
  "max_tokens": "of an answer; as many as the model was trained to say",
  "temperature": "of answers; 1",
}
NOTE = "Prompts stand in each model's own template."
_USUAL = 256  # tokens, of a model that does not say how long its answers are


def answers(
  bench: contract.Bench, records: Sequence[Mapping[str, Any]]
) -> dict[str, list[models.Said]]:
  """{model: its answers [N] to the prompts of the records}.

  Raises UserError for no model, and options that cannot be.
  """
  check_models(bench)
  prompts = [record["prompt"] for record in records]
  heat, most = _temperature(bench), options_lib.whole(bench, "max_tokens", 0)
  found = {}
  for name in bench.names:
    model = bench.open(name)
    ctx = model.reader.ctx
    length = _USUAL if ctx is None else ctx.config.data.response_length
    found[name] = in_own_template(model).say(
      prompts, max_tokens=most or length, temperature=heat
    )
  return found


def check_models(bench: contract.Bench) -> None:
  """UserError where nobody can be asked."""
  if not bench.names:
    raise errors.UserError("--run: name the models that answer the prompts")


def in_own_template(model: models.Model) -> models.Model:
  """The model as it is spoken to; one without a template as it is."""
  if model.reader.ctx is None:
    return model
  template = model.reader.ctx.config.data.template
  reader = dataclasses.replace(model.reader, template=template)
  return dataclasses.replace(model, reader=reader)


def counts(said: Mapping[str, Sequence[models.Said]]) -> dict[str, int]:
  """How many prompts and answers of all models were cut."""
  return options_lib.counts([one for of in said.values() for one in of])


def _temperature(bench: contract.Bench) -> float:
  given = bench.options.get("temperature", "1")
  flag = f"--set_option {bench.name}.temperature"
  try:
    heat = float(given)
  except ValueError:
    raise errors.UserError(f"{flag}={given}: a number is right") from None
  ranges.require(flag, heat, ranges.TEMPERATURE)
  return heat
