#!/usr/bin/env python3
"""The N pairs of `genarm pairs` whose ratings are furthest apart, in an order of chance (always the same one).

    benches/widest.py N PAIRS.jsonl [--ended] > FEWER.jsonl

With --ended only pairs whose better answer came to its own end.
"""

import json
import random
import sys

n, path = int(sys.argv[1]), sys.argv[2]
with open(path, encoding="utf-8") as lines:
    pairs = [json.loads(line) for line in lines]
if "--ended" in sys.argv:
    pairs = [pair for pair in pairs if pair["finish_chosen"] == "eos"]
pairs = sorted(pairs, key=lambda pair: pair["score_chosen"] - pair["score_rejected"], reverse=True)[:n]
random.Random(8).shuffle(pairs)
for pair in pairs:
    print(json.dumps(pair, ensure_ascii=False))
