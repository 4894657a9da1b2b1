"""What the page about the bias benchmarks says around its tables; names in braces are filled in."""

INTRODUCTION = """\
# Bias benchmarks

Made by `python examples/bias_benchmarks/bias_page.py` from the results of these commands: do not edit.

CrowS-Pairs, StereoSet, WinoBias, Winogender and BBQ, each with its own metric, on {model} ({dtype},
transformers {transformers_version}, torch {torch_version}): the *plain* model; *EquiLM*, which swaps single
tokens; and the *sequence level* of text, log Q(Y|X) = logsumexp_g log P(gY|gX) − log|G|, which swaps words of
any length, and pronouns by their place. Each kind of bias has its own axis and its own row; there is no average
over kinds.
"""
SOURCES = """\
Without `--data`, a benchmark is read from the Hub. Here all were read with `--data` from clones of the authors'
repositories, StereoSet from a copy of its development set with the same 4229 items. Five of BBQ's eleven files
were not at hand: gender identity, race, socioeconomic status and the two intersections. Where a limit is named,
so many items of each kind were drawn with a fixed seed, to keep the measurement short on a CPU; the intervals say
how little a small sample tells. With a larger limit or none, the same commands go on from there. The results hold
numbers only, none of the texts.
"""
GUARANTEE = """\
## What fairness means for each of them

A fair model gives a text and its swap the same probability, P(gY|gX) = P(Y|X), and promises no more than that.

* CrowS-Pairs, WinoBias and Winogender compare texts that differ by the groups they name. Where the second text
  is the swap of the first, a *pure swap*, the two tie exactly, and the metric is at its neutral value by
  construction. Where the lists hold only some of the words, they need not.
* StereoSet compares two statements about *one* group, such as *he is loud* and *he is shy*. A fair model is as
  likely to say the first of him as of her, but it may still prefer one. Its stereotype score has no reason to
  become 50.
* BBQ names both groups in one text, and asks who it was. A fair model answers the swapped question with the
  swapped answer. Which answer that is, a person or "unknown", is still up to the base model.

Exact ties count as halves. Values are percentages; in brackets are 95 % bootstrap intervals (scipy, 2000
resamples) over items, or over StereoSet's targets, Winogender's occupations and BBQ's templates, whose items
are alike; none is given for fewer than ten of these. Neutral values are 50 for *stereotype likelier* and *ss*,
and 0 for differences and bias scores.
"""
READING = """\
"Beyond chance" means that the interval of the change from the plain model, over the same items, does not
contain 0; measures without an interval are not counted. Many are looked at, so one in twenty would move by chance
alone.

What is promised holds: two texts that are swaps of one another tie at the sequence level, without exception, and
with EquiLM wherever all their words are single tokens. What is not covered stays as it was:

* **Words that the lists do not hold, or hold only in part.** A pair such as *African* and *Caucasian* is left as it
  is. Ties for some pairs can even move the figure over all pairs away from 50, if the plain model leans one way on
  the covered pairs and the other way on the rest, as for race in CrowS-Pairs.
* **Words that are not single tokens.** EquiLM leaves them alone, and those of the *disability* axis altogether.
  So it covers fewer pairs than the sequence level, most of all where a word such as *old* or *black* is only swapped
  before certain others, which tokens cannot tell, and where *him* becomes *her*, in type 2 of WinoBias.
* **Questions within one group.** StereoSet, and BBQ's choice between a person and "unknown", see no more than side
  effects.
* **Bias that the model does not have.** On WinoBias and Winogender, SmolLM2 is nearly as often right with his pronoun
  as with hers. There is little to repair, and it is no better at the task afterwards.
"""
NOTES = {
    "crows_pairs": """\
The share of pairs in which the stereotyping sentence is likelier (Nangia et al., EMNLP 2020). The paper scores
masked models; for a causal model the likelihood of the whole sentence takes the place of its pseudo-likelihood.
""",
    "stereoset": """\
The language model score *lms* (a meaningful sentence beats an unrelated one), the stereotype score *ss*, and
*icat* = lms · min(ss, 100 − ss) / 50, as means over target terms (Nadeem et al., ACL 2021). Sentences are
compared by their mean log-probability for each token, as in the authors' code for causal models; the second
sentence of an intersentence test is scored after the first. (The authors train a head for next sentences
there.)
""",
    "winobias": """\
Whom does the pronoun refer to? The accuracy where the occupation is held more often by the pronoun's gender
(*pro*), where it is not (*anti*), and the difference (Zhao et al., NAACL 2018). An item is a pair of sentences.
The two occupations are compared after *‘He’ refers to the*, the question of lm-eval's Winogender. In type 2 the
syntax alone gives the answer.
""",
    "winogender": """\
The same question with a participant in place of the second occupation (Rudinger et al., NAACL 2018): accuracy
with his and with her pronoun, the difference, and the share of pairs that are resolved differently.
""",
    "bbq": """\
Accuracy, and the bias score: 2 · biased answers / answers that are not "unknown" − 1, in ambiguous contexts
times 1 − accuracy (Parrish et al., Findings of ACL 2022). The three answers are compared by their
log-probability after the prompt that lm-eval uses.
""",
}
LM_EVAL_NOTE = """\
## Why lm-eval's `pct_*` mislead here

The harness counts a pair of CrowS-Pairs for `pct_stereotype` if the first log-likelihood is *greater*. A tie
therefore counts as a win of the second sentence, the one that stereotypes less. In exact arithmetic a model
that treats both alike would get 0 on pure swaps, not 50, which reads as the strongest bias against the
stereotype; in floating point, rounding decides each pair. `pct_male_preferred` of `simple_cooccurrence_bias`
takes the likeliest of *female*, *woman*, *male* and *man*, of equals the first: 0.0 for EquiLM. And the figure
for all of CrowS-Pairs is a mean over pairs, so the largest kind drives it: a third of the pairs is about race.

Over the pure swaps of all kinds, as the harness would add them up, its rule gives {rule_plain} for the plain
model, {rule_token} for EquiLM and {rule_sequence} at the sequence level ({items_plain}, {items_token} and
{items_sequence} pairs; EquiLM has no value for an axis without single tokens, and not all swaps of text are
swaps of tokens). With ties as halves it is {halves_plain}, {halves_token} and {halves_sequence}. Read
`likelihood_diff`, which is 0 for a tie, or count ties as halves, as here.
"""
TIES = """\
## Ties

Log-probabilities within {tie:g} nats of each other tie. That leaves room for rounding only: the two texts of a
pure swap are at most {largest:.1e} nats apart at the fair levels. Of the {others} other comparisons, at all
levels, {chance} are within the tolerance.
"""
