#!/usr/bin/env python3
"""Measures `genarm generate` with llama.cpp's llama-completion (or llama-cli), each with its defaults, beside busy processes.

    benches/busy.py MODEL.gguf --peer llama-completion --busy 0,1,2

Both take turns, and start the same text with the same number of tokens. The busy processes are started here, each in a
session of its own as another program of a desktop is, and compute until the round is over.
"""

import argparse
import json
import os
import pathlib
import re
import statistics
import subprocess
import sys

ROOT = pathlib.Path(__file__).resolve().parent.parent
GENARM = os.environ.get("GENARM", str(ROOT / "target/release/genarm"))
PROMPT = "Once upon a time there was a"


def genarm(args):
    command = [GENARM, "generate", "--base", args.model, "-n", str(args.tokens), "--temp", "0", "--json", *args.flag, PROMPT]
    output = subprocess.run(command, check=True, capture_output=True, text=True, stdin=subprocess.DEVNULL)
    answer = json.loads(output.stdout)
    return answer["timings"]["tokens_per_second"]


def peer(args):
    command = [args.peer, "-m", args.model, "-n", str(args.tokens), "--temp", "0", "-no-cnv", "-p", PROMPT]
    output = subprocess.run(command, check=True, capture_output=True, text=True, stdin=subprocess.DEVNULL)
    lines = [line for line in output.stderr.splitlines() if re.search(r"\beval time", line) and "prompt" not in line]
    return float(re.search(r"([0-9.]+) tokens per second", lines[-1]).group(1))


def turns(args, n_busy):
    """Tokens per second of both, as many times as there are rounds."""
    busy = [
        subprocess.Popen([sys.executable, "-c", "while True: pass"], start_new_session=True) for _ in range(n_busy)
    ]
    try:
        return [(genarm(args), peer(args)) for _ in range(args.rounds)]
    finally:
        for process in busy:
            process.kill()
            process.wait()


def shown(rates):
    return f"{statistics.median(rates):.1f} ({min(rates):.1f}–{max(rates):.1f})"


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("model")
    parser.add_argument("--peer", default="llama-completion", help="the other program [default: %(default)s]")
    parser.add_argument("--busy", default="0,1,2", help="numbers of busy processes [default: %(default)s]")
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--tokens", type=int, default=128)
    parser.add_argument("--flag", action="append", default=[], help="another flag of genarm, as in --flag=--threads=2")
    args = parser.parse_args()
    print("| busy processes | genarm, tokens/s | peer, tokens/s | ratio of the medians | ratios of the rounds |\n|---|---|---|---|---|")
    for n_busy in map(int, args.busy.split(",")):
        pairs = turns(args, n_busy)
        ours, theirs = zip(*pairs)
        ratio = statistics.median(ours) / statistics.median(theirs)
        each = [a / b for a, b in pairs]
        print(f"| {n_busy} | {shown(ours)} | {shown(theirs)} | {ratio:.2f} | {min(each):.2f}–{max(each):.2f} |", flush=True)


if __name__ == "__main__":
    main()
