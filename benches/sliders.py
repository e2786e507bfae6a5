#!/usr/bin/env python3
"""What objectives cost per token: one PARM with 2, 3 and 5 of them against as many LoRA ARMs, all in shared batches with the base.

    benches/sliders.py --base SmolLM2-135M-Instruct.Q4_1.gguf

The adapters are trained for one step on a handful of made-up pairs: what they say does not matter for what they cost. A LoRA ARM has rank 8, a
PARM rank 4 and 4 for each objective; all act on all seven matrices. `genarm bench` times all of them in turns.
"""

import argparse
import json
import pathlib
import statistics
import subprocess
import tempfile


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--base", required=True, type=pathlib.Path)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--n-gen", type=int, default=32)
    parser.add_argument("--genarm", default="target/release/genarm")
    args = parser.parse_args()
    base = str(args.base.resolve())
    with tempfile.TemporaryDirectory() as folder:
        folder = pathlib.Path(folder)
        pairs = folder / "pairs.jsonl"
        pair = lambda i: {"prompt": f"Tell me about the number {i}.", "a": f"It is {i}.", "b": f"{i} is fine.", "preferred": {f"o{k}": "a" for k in range(5)}}
        pairs.write_text("".join(json.dumps(pair(i)) + "\n" for i in range(4)))

        def train(out, *flags):
            command = [args.genarm, "train", "--backbone", base, "--pairs", pairs, "--lora-targets", "all-linear", "--max-steps", 1]
            command += ["--batch", 2, "--micro-batch", 2, "--held-out", 0.25, "--keep", "last", *flags, "--out", out]
            subprocess.run(list(map(str, command)), check=True, capture_output=True)
            return str(out)

        lora = train(folder / "lora.gguf", "--prefer", "o0", "--lora-rank", 8)
        arm = lambda file: {"lora": [{"path": file}], "weight": 1}
        setups = {"one LoRA ARM": {"a0": arm(lora)}}
        for k in (2, 3, 5):
            copies = []
            for i in range(k):
                copy = folder / f"lora{i}.gguf"
                copy.write_bytes(pathlib.Path(lora).read_bytes())
                copies.append(copy)
            names = ",".join(f"o{i}" for i in range(k))
            setups[f"{k} LoRA ARMs"] = {f"a{i}": arm(str(copy)) for i, copy in enumerate(copies)}
            setups[f"PARM, {k} objectives"] = {"taste": arm(train(folder / f"parm{k}.gguf", "--objective", "parm", "--prefer", names))}
        times = {name: [] for name in setups}
        for _ in range(args.rounds):
            for i, (name, arms) in enumerate(setups.items()):
                config = folder / f"{i}.yaml"
                config.write_text(json.dumps({"base": {"model": base, "n_ctx": 512}, "arms": arms}))
                command = [args.genarm, "bench", "-f", config, "--repeats", 1, "--n-gen", args.n_gen, "--json"]
                output = subprocess.run(list(map(str, command)), check=True, capture_output=True, text=True)
                results = json.loads(output.stdout)
                times[name].append((results["shared_batch"]["guided"], results["seconds_per_token"]["base"]))
    print("| | ms per token | × the base alone | × one LoRA ARM |\n|---|---|---|---|")
    one = times["one LoRA ARM"]
    for name, values in times.items():
        guided = [1e3 * guided for guided, _ in values]
        to_base = statistics.median(guided / base for guided, base in values)
        to_one = statistics.median(guided / of_one for (guided, _), (of_one, _) in zip(values, one))
        print(f"| {name} | {statistics.median(guided):.1f} ({min(guided):.1f}–{max(guided):.1f}) | {to_base:.2f} | {to_one:.2f} |")


if __name__ == "__main__":
    main()
