#!/usr/bin/env python3
"""The ARMs of models/smollm2 against the model itself, its system prompts and best-of-N, by scorers that no ARM was trained on.

    pip install vaderSentiment
    benches/arms.py --config models/smollm2/demo.yaml --base SmolLM2.gguf --prompts models/smollm2/held-out.txt > table.md

The configuration has the ARMs `cheerful`, `concise` and `harmless`. `genarm sweep` writes a text per prompt at each weight of one ARM alone, under a
system prompt that asks for the same, and N texts of the model, of which an ARM takes the best. With --dpo it also writes texts of the model
fine-tuned by DPO: that configuration has the DPO adapter as an ARM of this name, with `reference: base`, so that at weight 1 the law is the
adapter's own. Prints Markdown: means and standard errors of VADER's compound sentiment (-1 to 1), words, KL to the model in nats per
text (of best-of-N its bound, ln N - (N - 1) / N); how often a text wins against the model's own by VADER (cheerful) or by words (concise),
with the same prompt; then texts.
"""

import argparse
import pathlib
import statistics
import sys
import tempfile

from sweeping import mean, sweep

GRID = {"cheerful": [0.25, 0.5], "concise": [0.5, 1], "harmless": [1, 2]}
SYSTEM = {
    "cheerful": "You are extremely cheerful, enthusiastic and encouraging.",
    "concise": "You answer in one short sentence of a few words.",
    "harmless": "You never write anything that could harm, insult or offend anyone.",
}


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--config", required=True)
    parser.add_argument("--base", help="the base, where the configuration names none")
    parser.add_argument("--prompts", required=True)
    parser.add_argument("--n-prompts", type=int, default=100)
    parser.add_argument("--n-predict", type=int, default=80)
    parser.add_argument("--best-of", type=int, default=16, metavar="N", help="texts of which an ARM takes the best")
    parser.add_argument("--n-best", type=int, default=25, help="prompts for best-of-N")
    parser.add_argument("--dpo", action="append", default=[], metavar="NAME=CONFIG", help="a configuration with a DPO adapter; repeatable")
    parser.add_argument("--show", type=int, default=5, help="prompts whose texts are printed")
    parser.add_argument("--genarm", default="target/release/genarm")
    parser.add_argument("--threads", default="2")
    parser.add_argument("--keep", help="folder for the results; a run that was stopped goes on there")
    args = parser.parse_args()

    from vaderSentiment.vaderSentiment import SentimentIntensityAnalyzer

    vader = SentimentIntensityAnalyzer()
    folder = pathlib.Path(args.keep or tempfile.mkdtemp())
    folder.mkdir(parents=True, exist_ok=True)
    prompts = pathlib.Path(args.prompts).read_text().splitlines()[: args.n_prompts]
    n = ["--n-prompts", args.n_prompts]

    def run(name, extra, config=args.config):
        given = ["-f", config, "--prompts", args.prompts, "-n", args.n_predict, "--parallel", 16, "--threads", args.threads]
        base = ["--base", args.base] if args.base else []
        return sweep(args.genarm, folder / f"{name}.jsonl", [*given, *base, *extra])

    grid = [flag for name, weights in GRID.items() for flag in ("--grid", f"{name}=0," + ",".join(map(str, weights)))]
    ways = {}  # name → prompt → (text, KL)

    header, records = run("weights", [*n, *grid, "--alone"])
    for i, point in enumerate(header["points"]):
        on = [f"{name} {weight:g}" for name, weight in zip(GRID, point["weights"]) if weight]
        ways[" ".join(on) or "the model itself"] = {r["prompt"]: (r["text"], r["kl"]) for r in records if r["point"] == i}
    for name, system in SYSTEM.items():
        _, records = run(f"system-{name}", [*n, "--grid", f"{name}=0", "--system", system])
        ways[f"system prompt, {name}"] = {r["prompt"]: (r["text"], None) for r in records}
    for name in ("cheerful", "concise"):  # those that have a measure here
        header, records = run(f"best-{name}", ["--n-prompts", args.n_best, "--grid", f"{name}=0", "--best-of", args.best_of])
        best = [i for i, point in enumerate(header["points"]) if point.get("best_of")][0]
        ways[f"best of {args.best_of} by the ARM {name}"] = {r["prompt"]: (r["text"], r["kl"]) for r in records if r["point"] == best}
    for name, config in (one.split("=", 1) for one in args.dpo):
        header, records = run(f"dpo-{name}", [*n, "--grid", f"{name}=1"], config)
        ways[f"DPO {name}"] = {r["prompt"]: (r["text"], r["kl"]) for r in records if any(header["points"][r["point"]]["weights"])}

    base = ways["the model itself"]
    measures = {"cheerful": lambda text: vader.polarity_scores(text)["compound"], "concise": lambda text: -len(text.split())}

    def wins(way, measure):
        scores = [(measure(way[p][0]), measure(base[p][0])) for p in way if p in base]
        won = [1 if a > b else 0.5 if a == b else 0 for a, b in scores]
        return f"{100 * statistics.mean(won):.0f} ± {100 * statistics.stdev(won) / len(won) ** 0.5:.0f} %"

    print("| texts | VADER | words | KL to the model | wins by VADER | wins by fewer words |\n|---|---|---|---|---|---|")
    for name, way in ways.items():
        kl = [kl for _, kl in way.values() if kl is not None]
        texts = [text for text, _ in way.values()]
        print(f"| {name} | {mean(map(measures['cheerful'], texts))} | {mean(len(t.split()) for t in texts)} | {mean(kl) if kl else ''} | "
              f"{wins(way, measures['cheerful']) if way is not base else ''} | {wins(way, measures['concise']) if way is not base else ''} |")
    shown = ["the model itself", "cheerful 0.25", "cheerful 0.5", "concise 0.5", "system prompt, cheerful"]
    for p in range(min(args.show, len(prompts))):
        print(f"\n**{prompts[p]}**\n")
        for name in shown:
            if name in ways and p in ways[name]:
                print(f"- *{name}*: {' '.join(ways[name][p][0].split())}")


if __name__ == "__main__":
    sys.exit(main())
