"""Records whose prompt is a conversation: {"messages": [{"role", "content"}]}.

In place of "prompt" (of prompts and rankings, ending with what the user asks)
or of "prompt" and "response" (of demonstrations, ending with what the assistant
says). In memory such a record has those keys too, made of its messages; in
files it has its messages alone.
"""

from collections.abc import Callable, Mapping, Sequence
from typing import Any

from instruct_jax.data.read import records, typed
from instruct_jax.tokenizers import messages as messages_lib

Record = dict[str, Any]

KEY = "messages"
_ROLES = {
  "tool": "what tools say is not trained on here",
  "function": "what functions say is not trained on here",
  "developer": 'call it "system"',
}
_TEXTS = ("responses", "text")  # beside its messages
_CALLS = ("tool_calls", "function_call", "tool_call_id")
_FORM = '{"role": "user", "content": "..."}'


def has(record: Mapping[str, Any]) -> bool:
  """Whether a record's prompt is a conversation."""
  return KEY in record


def ends_with_user(record: Mapping[str, Any]) -> bool:
  """Whether a conversation, right or not, ends with what is asked."""
  last = record[KEY][-1:] if isinstance(record[KEY], list) else []
  return [x.get("role") for x in last if isinstance(x, dict)] == ["user"]


def wrong(record: Record, response: str) -> str:
  """What is wrong with the conversation of a record, or ''.

  `response` is the key that the last answer is kept under; '' where the
  conversation ends with what is asked.
  """
  given = record[KEY]
  reason = (
    _wrong_list(given) or _wrong_order(given) or _wrong_end(given, response)
  )
  if reason:
    return reason
  made = _made(given, response)
  for key, value in made.items():
    if key != KEY and record.get(key, value) != value:
      return (
        f'has "{KEY}" and "{key}", which say different things; leave one of the'
        " two out"
      )
  return ""


def with_prompt(record: Record, response: str) -> Record:
  """A record that is right with the keys that its messages give."""
  return record | _made(record[KEY], response)


def written(record: Record, response: str) -> Record:
  """A record as it stands in a file: without what its messages say."""
  if not has(record):
    return record
  return {k: x for k, x in record.items() if k not in ("prompt", response)}


def changed(record: Record, change: Callable[[Any], Any]) -> Record:
  """A record with a change made to each of its texts, a list's too."""
  given = [x | {"content": change(x["content"])} for x in record[KEY]]
  others = {k: change(record[k]) for k in _TEXTS if k in record}
  answer = "response" if "response" in record else ""
  return record | others | _made(given, answer)


def opening(record: Record) -> str:
  """What opens the conversation: all before the assistant first speaks."""
  return messages_lib.opening(messages_lib.plain(record[KEY]))


def exchanges(record: Record, response: str, *, last: bool) -> list[Record]:
  """Of a demonstration one for each answer that is trained on, all or the last:
  with the prompt that it answers, and itself as `response`."""
  every = messages_lib.plain(record[KEY])
  answers = messages_lib.trained(record[KEY])
  return [
    record | {"prompt": messages_lib.Dialogue(every[:n]), response: every[n][1]}
    for n in (answers[-1:] if last else answers)
  ]


def _made(given: Sequence[Mapping[str, Any]], response: str) -> Record:
  every = messages_lib.plain(given)
  made: Record = {
    KEY: [dict(one) | {"content": text} for one, (_, text) in zip(given, every)]
  }
  if not response:
    return made | {"prompt": messages_lib.Dialogue(every)}
  return made | {
    "prompt": messages_lib.Dialogue(every[:-1]),
    response: every[-1][1],
  }


def _wrong_list(given: Any) -> str:
  if not isinstance(given, list):
    return f'"{KEY}" should be a list of {_FORM}, not {typed.shown(given)}'
  if not given:
    return f'"{KEY}" is empty; leave the line out'
  for n, one in enumerate(given):
    if reason := _wrong_message(one):
      return f'"{KEY}"[{n}]{reason}'
  return ""


def _wrong_message(one: Any) -> str:
  if not isinstance(one, dict):
    return f" should be {_FORM}, not {typed.shown(one)}"
  if "from" in one and "role" not in one:
    return (
      ' has "from" and "value"; python -m instruct_jax.data convert chat makes'
      f" {_FORM} of them"
    )
  role = one.get("role")
  if role not in messages_lib.ROLES:
    known = ", ".join(messages_lib.ROLES)
    why = _ROLES.get(role, "") if isinstance(role, str) else ""
    what = typed.shown(role) if "role" in one else "missing"
    return (
      f'["role"] should be one of {known}, but is {what}'
      f"{f' ({why})' if why else ''}; leave the conversation out or correct it"
    )
  for call in _CALLS:
    if one.get(call):
      return f' has "{call}", and tools are not trained on here; leave it out'
  if one.get("weight", 1) not in (0, 1):
    value = typed.shown(one["weight"])
    return f'["weight"] should be 1, or 0 for no loss, not {value}'
  return _wrong_content(one)


def _wrong_content(one: Mapping[str, Any]) -> str:
  content = one.get("content")
  for n, part in enumerate(content if isinstance(content, list) else ()):
    kind = part.get("type", "text") if isinstance(part, dict) else None
    if kind != "text":
      what = typed.shown(part if kind is None else kind)
      return f'["content"][{n}] is {what}, and only text is read; leave it out'
    if not isinstance(part.get("text"), str):
      return f'["content"][{n}] should be {{"type": "text", "text": "..."}}'
  if not isinstance(content, str | list):
    what = typed.shown(content) if "content" in one else "missing"
    return f'["content"] should be a string, but is {what}'
  if records.is_blank(messages_lib.plain([one])[0][1]):
    return '["content"] is empty; leave the message out or give it a text'
  return ""


def _wrong_order(given: Sequence[Mapping[str, Any]]) -> str:
  """Roles that most templates refuse, too: each has its turn."""
  roles = [one["role"] for one in given]
  first = 1 if roles[0] == messages_lib.SYSTEM else 0
  for n, role in enumerate(roles[first:]):
    where = f'"{KEY}"[{n + first}]["role"]'
    if role == messages_lib.SYSTEM:
      return (
        f'{where} is "system"; one message of the system, the first, is right'
      )
    expected = messages_lib.ROLES[1 + n % 2]
    if role != expected and n:
      return (
        f'{where} is "{role}" again; users and assistants take turns, so join'
        " the two messages"
      )
    if role != expected:
      return f'{where} is "{role}"; a user speaks first'
  if len(roles) == first:
    return f'"{KEY}" has no message of a user'
  return ""


def _wrong_end(given: Sequence[Mapping[str, Any]], response: str) -> str:
  ends = given[-1]["role"]
  if not response:
    if ends == messages_lib.USER:
      return ""
    return (
      f'"{KEY}" ends with what the assistant says; a prompt ends with what the'
      " user asks"
    )
  if ends == messages_lib.ASSISTANT and messages_lib.trained(given):
    return ""
  if not any(one["role"] == messages_lib.ASSISTANT for one in given):
    return f'"{KEY}" has no message of the assistant to train on'
  if ends != messages_lib.ASSISTANT:
    return (
      f'"{KEY}" ends with what the user asks, which nobody answers; leave the'
      " last message out"
    )
  return f'"{KEY}": every answer has the weight 0; leave the line out'
