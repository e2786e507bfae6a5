#!/usr/bin/env python3
"""Measures eight streams of `genarm serve` at once against one, in tokens per second.

With --pauses it measures instead how long seven streams wait between two tokens while the prompt of an eighth is read,
in times of a step without prompts (the median before the prompt comes).

Base and ARM have random weights, and are made once under target/streams. Needs a built genarm.
"""

import argparse
import http.client
import json
import os
import pathlib
import re
import statistics
import subprocess
import threading
import time

ROOT = pathlib.Path(__file__).resolve().parent.parent
GENARM = os.environ.get("GENARM", str(ROOT / "target/release/genarm"))
N_STREAMS = 8


def models(sizes):
    """The folder with base.gguf and arm.gguf of these sizes."""
    folder = ROOT / "target/streams" / re.sub(r"\W+", "-", sizes)
    if not (folder / "base.gguf").is_file():
        command = [GENARM, "bench", "--synthetic", sizes, "--keep-models", folder, "-c", "64"]
        subprocess.run([*command, "--n-prompt", "1", "--n-gen", "1", "--repeats", "1"], check=True, stdout=subprocess.DEVNULL)
    return folder


def serve(folder):
    """A server of these models, and its port."""
    command = [GENARM, "serve", "--port", "0", "--base", folder / "base.gguf", "--arm", f"arm={folder / 'arm.gguf'}:0.5"]
    command += ["--n-ctx", "1024", "--parallel", str(N_STREAMS), "--top-k", "40"]
    server = subprocess.Popen(command, stderr=subprocess.PIPE, text=True)
    for line in server.stderr:
        if "listening on " in line:
            threading.Thread(target=server.stderr.read, daemon=True).start()
            return server, int(line.rsplit(":", 1)[1])
    raise SystemExit("the server ended")


def stream(port, index, seconds, rates):
    """Appends the tokens per second that a stream gives after its first token."""
    connection = http.client.HTTPConnection("127.0.0.1", port)
    prompt = [1000 + 37 * t + 5 * index for t in range(32)]
    body = {"prompt": prompt, "max_tokens": 400, "ignore_eos": True, "temperature": 1, "seed": index, "stream": True}
    connection.request("POST", "/v1/completions", json.dumps(body), {"content-type": "application/json"})
    events = (line for line in connection.getresponse() if line.startswith(b"data: {"))
    next(events)
    start, n = time.monotonic(), 0
    while time.monotonic() - start < seconds and next(events, None) is not None:
        n += 1
    rates.append(n / (time.monotonic() - start))
    connection.close()


def together(port, n, seconds):
    rates = []
    threads = [threading.Thread(target=stream, args=(port, index, seconds, rates)) for index in range(n)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    return rates


def tokens(port, index, n_prompt, arrivals, stopped):
    """Notes when the tokens of a stream arrive, until `stopped`; prompts of other indices have other tokens."""
    connection = http.client.HTTPConnection("127.0.0.1", port)
    prompt = [1000 + (37 * t + 5 * index) % 9000 for t in range(n_prompt)]
    body = {"prompt": prompt, "max_tokens": 1000 - n_prompt, "ignore_eos": True, "temperature": 1, "seed": index, "stream": True}
    connection.request("POST", "/v1/completions", json.dumps(body), {"content-type": "application/json"})
    for line in connection.getresponse():
        if line.startswith(b"data: {"):
            arrivals.append(time.monotonic())
        if stopped.is_set():
            break
    connection.close()


def pauses(port, number, seconds, n_prompt):
    """The median and the longest time between two tokens of seven streams while a prompt is read, in steps before it,
    and the time that the prompt took in seconds."""
    stopped = threading.Event()
    arrivals = [[] for _ in range(N_STREAMS)]
    run = lambda index, n: threading.Thread(target=tokens, args=(port, index + N_STREAMS * number, n, arrivals[index], stopped))
    threads = [run(index, 8) for index in range(N_STREAMS - 1)]
    for thread in threads:
        thread.start()
    time.sleep(seconds)
    came = time.monotonic()
    last = run(N_STREAMS - 1, n_prompt)
    last.start()
    while not arrivals[-1]:
        time.sleep(0.01)
    stopped.set()
    for thread in [*threads, last]:
        thread.join()
    first = arrivals[-1][0]
    gaps = lambda start, end: [b - a for of in arrivals[:-1] for a, b in zip(of, of[1:]) if start < b <= end]
    step = statistics.median(gaps(came - seconds / 2, came))
    during = gaps(came, first)
    return statistics.median(during) / step, max(during) / step, first - came


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--synthetic", default="base=1.2B,arm=180M", help="sizes of the models [default: %(default)s]")
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--seconds", type=float, default=12, help="time of one stream; eight get a third more")
    parser.add_argument("--pauses", action="store_true", help="the longest pause of seven streams while a prompt is read")
    parser.add_argument("--n-prompt", type=int, default=400, help="tokens of that prompt")
    args = parser.parse_args()
    server, port = serve(models(args.synthetic))
    try:
        for number in range(1, args.rounds + 1) if args.pauses else ():
            median, longest, took = pauses(port, number, args.seconds, args.n_prompt)
            print(f"round {number}: a step takes {median:.2f} times as long, at most {longest:.2f}; the prompt took {took:.1f} s", flush=True)
        if args.pauses:
            return
        for number in range(1, args.rounds + 1):
            [one] = together(port, 1, args.seconds)
            rates = together(port, N_STREAMS, args.seconds * 4 / 3)
            total, mean = sum(rates), sum(rates) / N_STREAMS
            apart = max(abs(rate - mean) / mean for rate in rates)
            print(
                f"round {number}: one stream {one:.2f} tokens/s; eight {total:.2f} in all, {total / one:.2f} times as much; "
                f"furthest from the mean {100 * apart:.1f} %"
            )
    finally:
        server.terminate()
        server.wait()


if __name__ == "__main__":
    main()
