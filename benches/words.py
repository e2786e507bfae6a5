#!/usr/bin/env python3
"""A scorer for `genarm pairs` and `genarm sweep`: the fewer words, the better.

    --scorer concise="cmd:benches/words.py"
"""

import json
import sys

for line in sys.stdin:
    print(-len(json.loads(line)["response"].split()), flush=True)
