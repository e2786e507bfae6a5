#!/usr/bin/env python3
"""Personas of a chat model against the model itself and against their system prompts, by scorers that no ARM was trained on.

    pip install vaderSentiment pyphen
    benches/personas.py --base chat.gguf --prompts FILE [--n-prompts 100] [--n-predict 40]

FILE has a prompt per line. For each persona `genarm sweep` writes texts at weights 0 (the model itself), 0.5, 1 and 2, and one more
sweep writes some under the system prompt alone: at weight 1 the law gives the same distribution, so the texts must be the same. Prints Markdown: means and standard errors of VADER's compound sentiment (-1 to 1),
words, Flesch reading ease, and KL to the model in nats per text; then texts of one prompt in each way.
"""

import argparse
import pathlib
import re
import sys
import tempfile

from sweeping import mean, sweep

PERSONAS = {
    "cheerful": "You are extremely cheerful, enthusiastic and encouraging.",
    "terse": "You answer in one short sentence of a few words.",
    "plain": "You explain everything to a small child, in very short words and simple sentences.",
}
WEIGHTS = [0, 0.5, 1, 2]


def texts(swept, weight):
    """The texts at a weight of the only ARM, each with its KL."""
    header, records = swept
    points = header["points"]
    at = {i for i, point in enumerate(points) if abs(point["weights"][0] - weight) < 1e-6}
    return [(record["text"], record["kl"]) for record in records if record["point"] in at]


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--base", required=True)
    parser.add_argument("--prompts", required=True)
    parser.add_argument("--n-prompts", type=int, default=100)
    parser.add_argument("--n-predict", type=int, default=40)
    parser.add_argument("--parallel", type=int, default=16)
    parser.add_argument("--n-system", type=int, default=25, help="prompts that are answered under the system prompt alone")
    parser.add_argument("--show", type=int, default=2, help="prompts whose texts are printed")
    parser.add_argument("--genarm", default="target/release/genarm")
    args = parser.parse_args()

    import pyphen
    from vaderSentiment.vaderSentiment import SentimentIntensityAnalyzer

    vader = SentimentIntensityAnalyzer()
    hyphens = pyphen.Pyphen(lang="en_US")

    def flesch(text):
        words = re.findall(r"[A-Za-z']+", text)
        if not words:
            return float("nan")
        sentences = max(1, len(re.findall(r"[.!?]+", text)))
        syllables = sum(len(hyphens.positions(word)) + 1 for word in words)
        return 206.835 - 1.015 * len(words) / sentences - 84.6 * syllables / len(words)

    scorers = {
        "VADER": lambda text: vader.polarity_scores(text)["compound"],
        "words": lambda text: len(text.split()),
        "Flesch": flesch,
    }

    def run(name, extra, n_prompts=args.n_prompts):
        given = ["--base", args.base, "--prompts", args.prompts, "--n-prompts", n_prompts, "-n", args.n_predict, "--parallel", args.parallel]
        return sweep(args.genarm, folder / f"{name}.jsonl", [*given, *extra])

    rows, shown = [], []
    with tempfile.TemporaryDirectory() as folder:
        folder = pathlib.Path(folder)
        for name, system in PERSONAS.items():
            persona = ["--persona", f"{name}={system}"]
            grid = ["--grid", f"{name}={','.join(map(str, WEIGHTS))}"]
            ways = {f"{name} {w:g}" if w else "the model itself": texts(swept, w)
                    for swept in [run(name, [*persona, *grid])] for w in WEIGHTS}
            prompt = run(f"{name}-system", [*persona, "--system", system, "--grid", f"{name}=0"], args.n_system)
            under = [text for text, _ in texts(prompt, 0)]
            same = sum(a == b for a, (b, _) in zip(under, ways[f"{name} 1"]))
            print(f"{name}: {same} of {len(under)} texts at weight 1 are those of the system prompt alone", flush=True)
            for way, found in ways.items():
                if way == "the model itself" and rows:
                    continue
                cells = [mean(value for text, _ in found if (value := score(text)) == value) for score in scorers.values()]
                rows.append([way, *cells, mean([kl for _, kl in found])])
                shown.append((way, [text for text, _ in found[: args.show]]))
    print("| way | " + " | ".join(scorers) + " | KL, nats |\n|---|" + "---|" * (len(scorers) + 1))
    for row in rows:
        print("| " + " | ".join(row) + " |")
    for way, found in shown:
        for text in found:
            print(f"\n**{way}**: {' '.join(text.split())}")


if __name__ == "__main__":
    sys.exit(main())
