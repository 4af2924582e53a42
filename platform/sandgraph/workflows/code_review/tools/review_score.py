"""Score a module's quality from 0 to 10."""

from sandgraph import tools

BEST = 10.0
SMALLEST = 10
HALVING_DENSITY = 0.5


def review_score(counts: dict[str, int], statements: int) -> float:
    """`10 / (1 + density / 0.5)`, with two decimals.

    `density` is the sum of the issues' weights (review_rules) per statement. It falls with every issue that goes and
    halves the score at half a weighted issue a statement. Modules of fewer than ten statements count as ten, so that
    one issue in three lines is not a verdict.

    Args:
        counts: How many issues there are of each type.
        statements: How many statements the module has, docstrings aside.
    """
    rules = tools.invoke("review_rules")
    penalty = sum(rules[kind].weight * count for kind, count in counts.items())
    density = penalty / max(statements, SMALLEST)
    return float(round(BEST / (1 + density / HALVING_DENSITY), 2))
