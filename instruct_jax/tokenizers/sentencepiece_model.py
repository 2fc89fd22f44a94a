"""What a SentencePiece model's file holds, as protobuf messages.

The fields that are read here, from sentencepiece_model.proto; others stay as
they are. The module that comes with the library is made for the newest
protobuf, and refuses to be imported where an older one is installed, as beside
Apache Beam.
"""

from typing import Any

from google.protobuf import (
  descriptor_pb2,
  descriptor_pool,
  message_factory,
)

_PACKAGE = "sentencepiece"
_FIELD = descriptor_pb2.FieldDescriptorProto
# Message -> {field: (number, type, what it is by default)}.
_FIELDS: dict[str, dict[str, tuple[int, int, str]]] = {
  "SentencePiece": {
    "piece": (1, _FIELD.TYPE_STRING, ""),
    "score": (2, _FIELD.TYPE_FLOAT, ""),
    "type": (3, _FIELD.TYPE_ENUM, "NORMAL"),
  },
  "TrainerSpec": {
    "model_type": (3, _FIELD.TYPE_ENUM, "UNIGRAM"),
    "vocab_size": (4, _FIELD.TYPE_INT32, "8000"),
    "byte_fallback": (35, _FIELD.TYPE_BOOL, "false"),
    "unk_id": (40, _FIELD.TYPE_INT32, "0"),
    "bos_id": (41, _FIELD.TYPE_INT32, "1"),
    "eos_id": (42, _FIELD.TYPE_INT32, "2"),
    "pad_id": (43, _FIELD.TYPE_INT32, "-1"),
  },
  "NormalizerSpec": {
    "name": (1, _FIELD.TYPE_STRING, ""),
    "precompiled_charsmap": (2, _FIELD.TYPE_BYTES, ""),
    "add_dummy_prefix": (3, _FIELD.TYPE_BOOL, "true"),
    "remove_extra_whitespaces": (4, _FIELD.TYPE_BOOL, "true"),
  },
}
_ENUMS = {
  "SentencePiece": (
    "Type",
    ("NORMAL", "UNKNOWN", "CONTROL", "USER_DEFINED", "UNUSED", "BYTE"),
  ),
  "TrainerSpec": ("ModelType", ("UNIGRAM", "BPE", "WORD", "CHAR")),
}


def _add(owner: Any, name: str) -> None:
  """One of `_FIELDS`, as a message in `owner`."""
  message = owner.add(name=name)
  if name in _ENUMS:
    kind, values = _ENUMS[name]
    enum = message.enum_type.add(name=kind)
    for number, value in enumerate(values, 1):
      enum.value.add(name=value, number=number)
  for field, (number, of, default) in _FIELDS[name].items():
    added = message.field.add(
      name=field, number=number, type=of, label=_FIELD.LABEL_OPTIONAL
    )
    if default:
      added.default_value = default
    if of == _FIELD.TYPE_ENUM:
      within = "ModelProto." if name == "SentencePiece" else ""
      added.type_name = f".{_PACKAGE}.{within}{name}.{_ENUMS[name][0]}"


def _made() -> Any:
  file = descriptor_pb2.FileDescriptorProto(
    name="sentencepiece_model.proto", package=_PACKAGE, syntax="proto2"
  )
  for name in ("TrainerSpec", "NormalizerSpec"):
    _add(file.message_type, name)
  model = file.message_type.add(name="ModelProto")
  _add(model.nested_type, "SentencePiece")
  for number, (name, of, label) in enumerate(
    (
      ("pieces", "ModelProto.SentencePiece", _FIELD.LABEL_REPEATED),
      ("trainer_spec", "TrainerSpec", _FIELD.LABEL_OPTIONAL),
      ("normalizer_spec", "NormalizerSpec", _FIELD.LABEL_OPTIONAL),
    ),
    1,
  ):
    model.field.add(
      name=name,
      number=number,
      type=_FIELD.TYPE_MESSAGE,
      label=label,
      type_name=f".{_PACKAGE}.{of}",
    )
  pool = descriptor_pool.DescriptorPool()  # The library's own has these names.
  pool.Add(file)
  return {
    name: message_factory.GetMessageClass(
      pool.FindMessageTypeByName(f"{_PACKAGE}.{name}")
    )
    for name in ("ModelProto", "TrainerSpec")
  }


_classes = _made()
ModelProto: Any = _classes["ModelProto"]
TrainerSpec: Any = _classes["TrainerSpec"]
