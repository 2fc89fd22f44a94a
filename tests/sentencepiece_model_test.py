"""Our messages of a SentencePiece model beside those of the library."""

import pytest

from instruct_jax import tokenizers
from instruct_jax.tokenizers import sentencepiece_model as ours

TEXTS = ["the fox jumps over a lazy dog", "and sleeps for a while é"] * 20


@pytest.fixture(scope="module")
def theirs():
  from google.protobuf import runtime_version

  try:
    from sentencepiece import sentencepiece_model_pb2
  except runtime_version.VersionError as error:
    pytest.skip(f"the library's own module wants a newer protobuf ({error})")
  return sentencepiece_model_pb2


def fields(message):
  return {f.name: f for f in message.DESCRIPTOR.fields}


@pytest.mark.parametrize(
  "name", ["TrainerSpec", "NormalizerSpec", "SentencePiece", "ModelProto"]
)
def test_fields_have_the_numbers_types_and_defaults(theirs, name):
  def message(of):
    return of.ModelProto.DESCRIPTOR.file.message_types_by_name.get(
      name, of.ModelProto.DESCRIPTOR.nested_types_by_name.get(name)
    )

  mine, known = message(ours), message(theirs)
  assert mine.fields
  for field in mine.fields:
    other = known.fields_by_name[field.name]
    for what in ("number", "type", "default_value", "is_repeated"):
      assert getattr(field, what) == getattr(other, what), field.name
    if field.enum_type:
      values, others = (
        {value.name: value.number for value in each.enum_type.values}
        for each in (field, other)
      )
      assert values == others


@pytest.mark.parametrize("kind", ["unigram", "bpe"])
def test_a_model_is_read_alike_and_loses_nothing(theirs, tmp_path, kind):
  tokenizers.train(TEXTS, tmp_path, kind=kind, vocab_size=380)
  (path,) = tmp_path.glob("*.model")
  content = path.read_bytes()
  mine = ours.ModelProto.FromString(content)
  known = theirs.ModelProto.FromString(content)
  for name in ("piece", "score", "type"):
    own = [getattr(piece, name) for piece in mine.pieces]
    assert own == [getattr(piece, name) for piece in known.pieces]
  assert len(mine.pieces) > 300
  assert mine.trainer_spec.byte_fallback
  assert mine.trainer_spec.model_type == known.trainer_spec.model_type
  assert theirs.ModelProto.FromString(mine.SerializeToString()) == known
