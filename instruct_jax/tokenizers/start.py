"""What stands in front of every prompt and text: `config.data.start`.

  reference    what the tokenizer itself puts there: Llama's its BOS; GPT-2's,
               Pythia's and Qwen's nothing; one that is trained here, the
               end-of-text token
  none         nothing
  end_of_text  the end-of-text token
  bos          the token that the tokenizer's files call so

A data set is tokenized with it, its tokenizer is saved with it, and an export
says it to transformers. A prompt that would be no tokens at all is one
end-of-text: a model has to read something. Documents of plain text have
end-of-text between them, whatever this says.
"""

from typing import Any

from instruct_jax.base import errors

REFERENCE, NONE, END_OF_TEXT, BOS = "reference", "none", "end_of_text", "bos"
CHOICES = (REFERENCE, NONE, END_OF_TEXT, BOS)


def check(choice: str, *, trained: bool = False) -> None:
  """UserError for what is none of the `CHOICES`.

  A tokenizer that is `trained` here has no bos token.
  """
  if choice not in CHOICES:
    raise errors.unknown("data.start", choice, CHOICES)
  if trained and choice == BOS:
    raise errors.UserError(
      "data.start='bos': a tokenizer that is trained here has no bos token;"
      f" take one of {', '.join(CHOICES[:-1])}"
    )


def put(tokenizer: Any, choice: str) -> Any:
  """The tokenizer, with `start` and `start_ids` as chosen.

  Raises UserError for an unknown choice, and for 'bos' where there is none.
  """
  check(choice)
  bos = tokenizer.special_ids.get(tokenizer.special_names.get("bos_token"))
  if choice == BOS and bos is None:
    raise errors.UserError(
      "data.start='bos': this tokenizer's files name no bos_token; take one of"
      f" {', '.join(CHOICES[:-1])}"
    )
  tokenizer.start = choice
  tokenizer.start_ids = {
    REFERENCE: tokenizer.reference_ids,
    NONE: (),
    END_OF_TEXT: (tokenizer.eot_id,),
    BOS: (bos,),
  }[choice]
  return tokenizer


def before_choices(tokenizer: Any) -> str:
  """What a tokenizer was used with that was saved before there was a choice."""
  return REFERENCE if tokenizer.reference_ids else END_OF_TEXT
