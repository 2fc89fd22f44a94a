"""What the paper measures, one file an evaluation; `suite` has them by name.

An evaluation is a function of the bench (`bench.Bench`: subjects, prompts, who
judges) that returns metrics {"group/name": number} and tables {name: rows},
and declares what it needs: `@bench.needs("judge")`. It takes its prompts from
the split `bench.settings.split`. `select` is a stage of its own.
"""
