#!/usr/bin/env python3
"""A scorer for `genarm pairs` and `genarm sweep`: how positive a text is, by the Opinion Lexicon of Bing Liu (CC BY 4.0).

    --scorer opinion="cmd:benches/opinion.py POSITIVE NEGATIVE"

POSITIVE and NEGATIVE are the lexicon's two files, a word per line (lines that begin with ; are comments). The score is the number of
positive words less that of negative ones, per ten words; a word right after a negation counts for the other side.
"""

import json
import re
import sys

NEGATIONS = {"not", "no", "never", "don't", "doesn't", "didn't", "isn't", "wasn't", "aren't", "can't", "cannot", "won't", "without"}


def read(path):
    with open(path, encoding="latin-1") as lines:
        return {line.strip() for line in lines if line.strip() and not line.startswith(";")}


def main():
    positive, negative = map(read, sys.argv[1:3])
    for line in sys.stdin:
        words = re.findall(r"[a-z'\-]+", json.loads(line)["response"].lower())
        score = 0
        for before, word in zip(["", *words], words):
            side = (word in positive) - (word in negative)
            score += -side if before in NEGATIONS else side
        print(round(10 * score / max(len(words), 10), 4), flush=True)


if __name__ == "__main__":
    main()
