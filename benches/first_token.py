#!/usr/bin/env python3
"""Measures the time from the start of the process to the first token: `genarm generate` with llama.cpp's llama-completion (or llama-cli).

    benches/first_token.py SmolLM2.gguf --peer llama-completion --config models/smollm2/demo.yaml

Both take turns on the same prompt, with the files in the page cache. With --config, genarm starts with ARMs too, in the last column.
"""

import argparse
import os
import pathlib
import statistics
import subprocess
import time

ROOT = pathlib.Path(__file__).resolve().parent.parent
GENARM = os.environ.get("GENARM", str(ROOT / "target/release/genarm"))
SENTENCE = "The boat had a red sail, and every morning the wind came over the hills to see it. "


def first_byte(command):
    """Seconds until the program writes anything to its standard output."""
    start = time.perf_counter()
    with subprocess.Popen(command, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL) as process:
        byte = process.stdout.read(1)
        seconds = time.perf_counter() - start
        process.stdout.read()
    if process.returncode or not byte:
        raise SystemExit(f"failed: {' '.join(command)}")
    return seconds


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("model")
    parser.add_argument("--peer", default="llama-completion", help="the other program [default: %(default)s]")
    parser.add_argument("--config", help="preferences, to start with their ARMs too")
    parser.add_argument("--sentences", default="1,60", help="lengths of prompts [default: %(default)s]")
    parser.add_argument("--rounds", type=int, default=9)
    args = parser.parse_args()
    common = ["-n", "1", "--temp", "0"]
    print("| prompt | llama.cpp, ms | genarm, ms | ratio | with ARMs, ms |\n|---|---|---|---|---|")
    for n in map(int, args.sentences.split(",")):
        prompt = SENTENCE * n
        commands = {
            "peer": [args.peer, "-m", args.model, *common, "-no-cnv", "--no-display-prompt", "-c", "4096", "-p", prompt],
            "ours": [GENARM, "generate", "--base", args.model, *common, "-c", "4096", prompt],
        }
        if args.config:
            commands["arms"] = [GENARM, "generate", "-f", args.config, "--base", args.model, *common, "-c", "4096", prompt]
        for command in commands.values():
            first_byte(command)
        times = {name: [] for name in commands}
        for _ in range(args.rounds):
            for name, command in commands.items():
                times[name].append(1e3 * first_byte(command))
        shown = lambda name: f"{statistics.median(times[name]):.0f} ({min(times[name]):.0f}–{max(times[name]):.0f})" if name in times else ""
        ratio = statistics.median(ours / peer for ours, peer in zip(times["ours"], times["peer"]))
        print(f"| {n} sentences | {shown('peer')} | {shown('ours')} | {ratio:.2f} | {shown('arms')} |", flush=True)


if __name__ == "__main__":
    main()
