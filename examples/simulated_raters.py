"""Vote in a human study by rule, to see a report before people have voted. These are not people.

    python examples/simulated_raters.py runs/people

A simulated rater prefers the image with the higher score of a held-out evaluator, the more surely
the larger the difference, and says "same" where the difference is small. Raters differ in how sure
they are. Every fifth one does not look, and fails the checks.
"""

import secrets
import sys
from pathlib import Path

import numpy as np

from likewise.people.files import Pair, open_study
from likewise.people.store import Vote, VoteStore

SCORES = {"identity": ["evaluator/identity"], "prompt": ["evaluator/prompt"]}
BOTH = ["evaluator/identity", "evaluator/prompt"]
SAME = 0.05  # differences below look the same


def choose(pair: Pair, question: str, sureness: float, rng: np.random.Generator) -> float:
    """1 for the first image, 0 for the second, 0.5 for "same"."""
    if pair.check:
        return 0.5 if pair.check == "same" else 1.0
    names = SCORES.get(question, BOTH)
    gap = sum(pair.first.scores[name] - pair.second.scores[name] for name in names)
    if abs(gap) < SAME:
        return 0.5
    return float(rng.random() < 1 / (1 + np.exp(-sureness * gap)))


def rate(folder: Path) -> int:
    """Let raters come until the study is complete; how many came."""
    study = open_study(folder)
    store = VoteStore(study.votes, len(study.settings.questions))
    raters = 0
    while store.join(secret := secrets.token_hex(12)):
        found = store.find(secret)
        assert found is not None
        rng = np.random.default_rng(raters)
        raters += 1
        sureness, attentive = rng.uniform(2, 8), raters % 5 != 0
        state = store.state(found[0])
        while state.showing is not None and state.pair is not None:
            name = study.settings.questions[state.question].name
            outcome = choose(study.pairs[state.pair], name, sureness, rng)
            outcome = outcome if attentive else float(rng.random() < 0.5)
            first, second = ("right", "left") if state.flipped else ("left", "right")
            choice = "tie" if outcome == 0.5 else first if outcome == 1 else second
            spent = int(rng.lognormal(8, 0.4))
            vote = Vote(state.showing, state.question, choice, secrets.token_hex(8), spent)
            state = store.vote(found[0], vote)
    store.close()
    return raters


if __name__ == "__main__":
    print(f"{rate(Path(sys.argv[1]))} simulated raters; these are not people")
