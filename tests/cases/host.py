"""A host whose base runs elsewhere: host.py TOKENS CONFIG PROFILE WEIGHTS.

It reads, again and again, a number n, n new tokens and a row of logits; puts the row through the logits processor of the package
genarm; and writes the row. TOKENS has a line for each token of the vocabulary; PROFILE and WEIGHTS are JSON.
"""

import json
import sys

import numpy as np

from genarm import Guidance

with open(sys.argv[1], encoding="ascii") as file:
    n_vocab = sum(1 for _ in file)
history: list[int] = []
profile, weights = (json.loads(argument) for argument in sys.argv[3:])
with Guidance(sys.argv[2], profile=profile, weights=weights) as guidance:
    process = guidance.logits_processor()
    while head := sys.stdin.buffer.read(4):
        n = int.from_bytes(head, sys.byteorder)
        history += np.frombuffer(sys.stdin.buffer.read(4 * n), dtype=np.int32).tolist()
        row = np.frombuffer(sys.stdin.buffer.read(4 * n_vocab), dtype=np.float32).copy()
        sys.stdout.buffer.write(process(np.array(history), row).tobytes())
        sys.stdout.buffer.flush()
