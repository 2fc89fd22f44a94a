"""What the tests of the data pipeline share."""

import ml_collections
import numpy as np

from instruct_jax import tokenizers
from instruct_jax.data import prepare
from instruct_jax.data.batch import encoding, streams
from instruct_jax.data.clean import pipeline
from instruct_jax.data.read import kinds

BYTES = tokenizers.ByteTokenizer()
EOT, PAD = BYTES.eot_id, BYTES.pad_id


def section(**changes):
  """A data section of people's files."""
  data = {
    "source": "files",
    "start": "reference",
    "template": "Q {prompt} A",
    "prompt_length": 12,
    "response_length": 6,
    "row_length": 8,
    "k_max": 4,
    "validation_fraction": 0.0,
    "test_fraction": 0.0,
    "packing": False,
    "loss_on": "all",
    "prefix": 128,
    "per_user": 200,
    "remove_pii": True,
    "tokenizer_sample": 10**6,
    **dict.fromkeys(kinds.KINDS, ""),
  }
  return ml_collections.ConfigDict({**data, **changes})


def config(data):
  """A configuration with a data section and nothing else."""
  return ml_collections.ConfigDict({"data": data})


def rows_of(kind, records, *, packed=False, weights=(), **changes):
  """Rows of records, as `loader.make` has them."""
  data = section(**changes)
  return encoding.encode_records(
    records, data, BYTES, kind, kind, packed=packed, weights=weights
  )


def cleaned(data):
  """What the files of a section hold, cleaned and split."""
  plan = prepare.scan(data)
  return pipeline.clean(plan.records, plan.settings)


def stream_of(texts):
  """The tokens of a text's documents."""
  return streams.joined(streams.token_stream(texts, BYTES))


def equal(a, b):
  """Two batches {kind: {name: array}} are the same."""
  assert a.keys() == b.keys()
  for kind in a:
    assert a[kind].keys() == b[kind].keys()
    for name in a[kind]:
      np.testing.assert_array_equal(a[kind][name], b[kind][name])
