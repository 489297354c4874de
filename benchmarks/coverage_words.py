"""The words around the tables of coverage: what a case draws, and where an interval fails and why."""

from typing import Final

OPENING: Final = """# How often do the intervals hold the truth?

Every 95 % interval of `preflab.stats` was computed on data whose truth is known, 500 to 4,000 times for each kind of data.
Coverage is the share of intervals that held the truth. A case **fails**, in bold, where coverage is below 93 % by more than
twice its Monte Carlo error. [Statistics](../statistics.md) says when to use which.

```
python -m benchmarks.coverage docs/results/coverage.md
```

The same command gives the same numbers, in five minutes on one core.

In short:

* Where few items are right, or few are wrong, Student's interval and the bootstrap of 0s and 1s fail, and Wilson's does not. `preflab
  eval` uses Wilson's unless items come in clusters; read a clustered share near 0 or 100 % with that in mind.
* Clusters that are not given cost 22 points of coverage in the example below; the same judged battles counted twice, 12.
* Two seeds that differ far more than items do leave 88 %. Three are nearly enough.
* A t interval over fewer than ten seeds speaks of these items, not of others: `crossed_interval` speaks of both.
* Bootstraps of nearly all or nearly nothing (a profile near 0 or 1, a probability of improvement near 1) and of two runs
  fail badly: five runs see no defeat where one pair in fifty is lost, and their interval is a point.
"""

CLOSING: Final = """## Tests

How often a test finds a difference at 5 % where there is none. More than 5 % is a false claim; less is power given away.

McNemar's exact test is careful, as all exact tests of counts are. Six items allow 64 sign patterns, hence 3 %. With **one seed**
a comparison speaks of these trained models only: asked about the methods behind them, it is wrong one time in six where
seeds matter as much as items, and seven times in ten where they dominate. That is why the report wants seeds.
"""

WORDS: Final = {
    "wilson_interval": "Coverage jumps around 95 % with the share, because counts are whole numbers.",
    "mean_interval": """Student's interval of independent items, and of items in clusters. It fails for 0s and 1s where fewer than about five
items are of the rarer kind: all alike, they show no spread at all. It fails for skewed values, whose largest are yet to be
seen, and for four clusters of very unequal size.""",
    "bootstrap_interval": """BCa. Better than Student's for skewed values from a hundred items on, worse for fewer than about thirty
units of any kind, because drawing n of n shows a variance of (n - 1)/n and normal quantiles are too close. The largest or
smallest values cannot be drawn before they are seen.""",
    "paired_interval": """Bonett and Price's interval. Wide where models hardly ever differ: with two discordant items it cannot know better.""",
    "seed_interval": """Of the mean over trainings, the items being fixed. Normal seeds give 95 % by construction, at a price in width.
Seeds that fail now and then are skewed, and failures are missing from most small samples.""",
    "crossed_interval": """One hundred items; the truth is the mean over other seeds **and** other items. Two seeds that dominate are mostly
similar by luck and sometimes not; the t quantile of their degrees of freedom, which are estimated too, does not make up
for it.""",
    "crossed_intervals": """The same for eight methods at once, whose seed variances are moderated: narrower by up to four fifths with two seeds,
and better covered where seeds dominate.""",
    "hierarchical_interval": """The same truth. Below ten seeds this is the t interval over seed means, which leaves items out: it fails
where items matter, and more so the narrower more seeds make it. From ten seeds on it errs on the wide side, by 30 % at ten seeds
that do not matter.""",
    "win_rate": """One seed: Wilson's interval with ties as half a win, which is wide where ties are many. Several seeds: over items and
seeds.""",
    "length_adjusted_rate": """The rate at equal lengths of `preflab judge`, from a logistic GLM.""",
    "strengths": """Bradley-Terry strengths of three players against the fourth. Where players are far apart and battles few, some pairs have not seen
the weaker one win. Both orders of an item must be one cluster.""",
    "interquartile_interval": """Runs are drawn, tasks are given. Two runs are too few whatever the number of tasks; three runs of three tasks
are four or five values between the quartiles.""",
    "performance_profile": """Each threshold by itself. Few runs above it often means none, and the interval is then a point.""",
    "probability_of_improvement": """Good in the middle. Near 1 most samples hold no defeat, and the interval is the point 1.""",
    "calibration": """Wilson's interval of each of ten bins against the mean forecast in it.""",
    "rank": """The central 95 % of ranks over bootstrap samples, against the true rank. Ranks are whole numbers, so the range is on the wide
side.""",
}  # fmt: skip
"""By interval."""
