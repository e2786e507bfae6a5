#!/usr/bin/env python3
"""Divides HH-RLHF into short pairs to train with and pairs to measure with.

    benches/short_pairs.py harmless-base/test.jsonl.gz TRAIN.jsonl HELD-OUT.jsonl

Keeps pairs of different answers to one conversation, of at most 120 words in the conversation and 60 in an answer, and shuffles them, the
shortest first, with seed 8: the first 250 are held out. No line changes.
"""

import gzip
import json
import random
import sys

N_HELD_OUT = 250


def split(transcript):
    """A transcript's conversation and its last answer."""
    conversation, _, answer = transcript.rpartition("\n\nAssistant:")
    return conversation, answer.strip()


def length(line):
    """Words of a pair; `None` for one that is left out."""
    pair = json.loads(line)
    (prompt, chosen), (other, rejected) = split(pair["chosen"]), split(pair["rejected"])
    words = [len(text.split()) for text in (prompt, chosen, rejected)]
    is_pair = prompt == other and chosen != rejected and min(words[1:]) > 0
    return sum(words) if is_pair and words[0] <= 120 and max(words[1:]) <= 60 else None


def main():
    source, train, held_out = sys.argv[1:]
    with gzip.open(source, "rt", encoding="utf-8") as lines:
        pairs = sorted((line for line in lines if length(line) is not None), key=length)
    random.Random(8).shuffle(pairs)
    for path, some in ((held_out, pairs[:N_HELD_OUT]), (train, pairs[N_HELD_OUT:])):
        with open(path, "w", encoding="utf-8") as file:
            file.writelines(some)


if __name__ == "__main__":
    main()
