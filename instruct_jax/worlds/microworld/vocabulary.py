"""Every word that a text of the world can have, from the tables."""

from instruct_jax.worlds.microworld import (
  answers,
  calls,
  candour,
  corpus,
  exercises,
  probes,
  prompts,
  tables,
  templates,
  zorp,
)

_WORLD = (
  (tables.NAMES, "she he", list(tables.CATEGORIES), tables.CATEGORIES),
  (tables.KIND, tables.RUDE, tables.ADVERBS, tables.NUMBERS, tables.PRAISE),
  (tables.BLAME, tables.REVIEWED, tables.OBJECTS, tables.MATERIALS),
  (tables.ALL_RELATIONS, list(tables.TOPICS), zorp.CODES),
  (tables.TEMPLATE, tables.PROMPTED_TEMPLATE),
)
_REQUESTS = (
  (prompts.OPENINGS, prompts.CLOSINGS, templates.ABOUT, templates.TWO),
  (templates.CLAUSES, templates.ABOUT_RELATION, templates.ABOUT_TOPIC),
  (templates.RESPECTFUL, templates.COMPLETE, templates.LEADS, templates.RUDE),
  (templates.LISTS, templates.LISTS_WITHOUT, templates.CHAT, templates.MOODS),
  (templates.GIFTS, templates.REQUESTS, templates.POLITE, templates.REPLACE),
  (templates.REVIEW, templates.TO_ZORP, templates.TO_ENGLISH),
  (templates.CLOSED_QA, templates.SUMMARIZE, templates.EXTRACT),
  (templates.WHY, templates.WHY_ANY, list(templates.REASONS.values())),
  (templates.CHOICES, templates.DEEDS, templates.ADVICE, templates.VIOLENT),
  (templates.ROMANTIC, templates.HARMFUL, templates.MORAL),
  (templates.KIND_DEEDS, templates.GO_ON, templates.LABELLED),
  (templates.BEGINNINGS, templates.TEXTS, templates.IN_SHORT, templates.TURN),
  (templates.FORM, "me the was and positive negative"),
)
_ANSWERS = (answers.UNANSWERABLE, answers.NO_COMMENT, answers.CHAT)
_ANSWERS += (candour.DENIAL, candour.HEDGE, candour.BECAUSE, candour.BOTH)
_ANSWERS += (candour.ONE, candour.ADVICE, candour.BAD_ADVICE)
_ANSWERS += (answers.FORUM, "please the review is you are")
_CORPUS = (corpus.BOOKS, corpus.RUMORS, corpus.FIND, exercises.COUNTED)
_CORPUS += (probes.RESPECTFUL, probes.BIASED, probes.INSTRUCTION_QA)
_CORPUS += (calls.FUNCTIONS, calls.MEANINGS, calls.REQUESTS, "( ) =")
_CORPUS += (
  list(probes.STEREOTYPES),
  probes.BIAS_SAID,
  probes.BIAS_REST,
  probes.BIAS_WORK,
)
_CORPUS += (
  "wants to passage : question answer full zorp english review sentiment lol",
  "then gets loses how many counts next wanted a for in person",
  "not but most fewest short",
)


def words() -> set[str]:
  """The words, punctuation marks included, the line break left out."""
  return tables.words_of([_WORLD, _REQUESTS, _ANSWERS, _CORPUS]) - {"\n"}
