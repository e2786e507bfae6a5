"""genarm against llama-cpp-python with a LogitsProcessor that evaluates the same ARMs: same files, threads and sampling.

Usage: target/peers/bin/python benches/peers/llama_cpp_python.py --genarm target/release/genarm --base BASE.gguf
       (--arm ARM.gguf | --lora LORA.gguf)... [--n-predict 64] [--turns 3] [--threads N]

The LogitsProcessor is the way that llama-cpp-python documents for changing logits: it reads only the new tokens, with prefixes
kept, and adds the weighted logits in numpy. Turns are interleaved; the medians are printed, and the ratio within each turn.
"""

import argparse
import json
import statistics
import subprocess
import tempfile
import time
from pathlib import Path

import numpy as np
from llama_cpp import Llama, LogitsProcessorList


class Arm:
    """An ARM that follows the text of the base, a token at a time."""

    def __init__(self, model, weight):
        self.model, self.weight = model, weight

    def __call__(self, input_ids, scores):
        history = [int(token) for token in input_ids]
        held = self.model.n_tokens
        if held > len(history) or history[:held] != list(self.model.input_ids[:held]):
            self.model.reset()
            held = 0
        self.model.eval(history[held:])
        n_vocab = self.model.n_vocab()
        logits = np.ctypeslib.as_array(self.model._ctx.get_logits(), shape=(n_vocab,))
        return scores + self.weight * logits


def peer(args):
    options = dict(n_ctx=args.n_ctx, n_threads=args.threads, n_threads_batch=args.threads, n_batch=512, verbose=False)
    base = Llama(model_path=args.base, **options)
    arms = [Llama(model_path=path, **options) for path in args.arm]
    arms += [Llama(model_path=args.base, lora_path=path, **options) for path in args.lora]
    return base, LogitsProcessorList([Arm(arm, 1.0) for arm in arms])


def time_peer(base, processors, prompt, args):
    base.reset()
    start = None
    n = 0
    for _ in base.generate(prompt, temp=0.8, top_p=0.95, top_k=40, min_p=0.05, logits_processor=processors):
        # The first token waits for the prompt: it is not counted, as in genarm's own figure.
        if start is None:
            start = time.perf_counter()
        elif (n := n + 1) == args.n_predict:
            return n / (time.perf_counter() - start)
    raise SystemExit("the text ended early")


def time_genarm(config, prompt, args):
    command = [args.genarm, "generate", "--config", config, "--prompt-tokens", ",".join(map(str, prompt)), "--json"]
    command += ["-n", str(args.n_predict), "--ignore-eos", "--seed", "1", *args.genarm_options.split()]
    return json.loads(subprocess.run(command, check=True, stdout=subprocess.PIPE).stdout)["timings"]["tokens_per_second"]


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--genarm", required=True)
    parser.add_argument("--genarm-options", default="", help="further options of genarm generate")
    parser.add_argument("--base", required=True)
    parser.add_argument("--arm", action="append", default=[])
    parser.add_argument("--lora", action="append", default=[])
    parser.add_argument("--n-predict", type=int, default=64)
    parser.add_argument("--n-ctx", type=int, default=512)
    parser.add_argument("--turns", type=int, default=3)
    parser.add_argument("--threads", type=int, default=2)
    args = parser.parse_args()
    base, processors = peer(args)
    n_vocab = base.n_vocab()
    with tempfile.TemporaryDirectory() as folder:
        arms = {f"arm{i}": {"model": str(Path(path).resolve())} for i, path in enumerate(args.arm)}
        arms |= {f"lora{i}": {"lora": [{"path": str(Path(path).resolve())}]} for i, path in enumerate(args.lora)}
        settings = {"model": str(Path(args.base).resolve()), "n_ctx": args.n_ctx, "threads": args.threads}
        config = Path(folder) / "config.yaml"
        config.write_text(json.dumps({"base": settings, "arms": arms, "sampling": {"temp": 0.8, "top_p": 0.95}}))
        rows = []
        for turn in range(args.turns):
            prompt = [n_vocab // 2 + (i * 7919 + turn * 104729) % (n_vocab // 4) for i in range(32)]
            rows.append((time_peer(base, processors, prompt, args), time_genarm(config, prompt, args)))
            print(f"turn {turn + 1}: llama-cpp-python {rows[-1][0]:.2f}, genarm {rows[-1][1]:.2f} tokens/s", flush=True)
    theirs, ours = (statistics.median(column) for column in zip(*rows))
    ratio = statistics.median(b / a for a, b in rows)
    print(f"medians: llama-cpp-python {theirs:.2f}, genarm {ours:.2f} tokens/s; genarm is {ratio:.2f} times as fast")


if __name__ == "__main__":
    main()
