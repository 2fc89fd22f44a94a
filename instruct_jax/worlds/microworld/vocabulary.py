"""Every word that a text of the world can have, from the tables."""

from instruct_jax.worlds.microworld import (
  answers,
  corpus,
  prompts,
  tasks,
  templates,
  world,
  zorp,
)

_WORLD = (
  (world.NAMES, "she he", list(world.CATEGORIES), world.CATEGORIES),
  (world.KIND, world.RUDE, world.ADVERBS, world.NUMBERS, world.PRAISE),
  (world.BLAME, world.REVIEWED, world.OBJECTS, world.MATERIALS),
  (world.ALL_RELATIONS, list(world.TOPICS), zorp.CODES),
  (world.TEMPLATE, world.PROMPTED_TEMPLATE),
)
_REQUESTS = (
  (prompts.OPENINGS, prompts.CLOSINGS, templates.ABOUT, templates.TWO),
  (templates.CLAUSES, templates.ABOUT_RELATION, templates.ABOUT_TOPIC),
  (templates.RESPECTFUL, templates.COMPLETE, templates.LEADS, templates.RUDE),
  (templates.LISTS, templates.LISTS_WITHOUT, templates.CHAT, templates.MOODS),
  (templates.GIFTS, templates.REQUESTS, templates.POLITE, templates.REPLACE),
  (templates.REVIEW, templates.TO_ZORP, templates.TO_ENGLISH),
  (templates.CLOSED_QA, templates.SUMMARIZE, templates.EXTRACT),
  (templates.FORM, "me the was and positive negative"),
)
_ANSWERS = (answers.UNANSWERABLE, answers.NO_COMMENT, answers.CHAT)
_ANSWERS += (answers.FORUM, "please the review is you are")
_CORPUS = (corpus.BOOKS, corpus.RUMORS, corpus.FIND, tasks.COUNTED)
_CORPUS += (tasks.RESPECTFUL, tasks.BIASED, tasks.INSTRUCTION_QA)
_CORPUS += (tasks.BIAS_SAID, tasks.BIAS_REST, tasks.BIAS_WORK)
_CORPUS += (
  "passage : question answer full zorp english review sentiment lol",
  "then gets loses how many counts next wanted a for in person",
)


def words() -> set[str]:
  """The words, punctuation marks included, the line break left out."""
  return world.words_of([_WORLD, _REQUESTS, _ANSWERS, _CORPUS]) - {"\n"}
