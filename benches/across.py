#!/usr/bin/env python3
"""How much of what an ARM does to its own family it does to another: the ARMs of models/smollm2 on SmolLM2 and, translated, on another base.

    pip install vaderSentiment
    benches/across.py --own SmolLM2.gguf --other gemma-3-270m.gguf --prompts models/smollm2/held-out.txt > table.md

`genarm sweep` writes a text per prompt and weight, with each ARM alone, as plain continuations of the prompts: the other base need not have a
chat template. The law is that of models/smollm2/demo.yaml: an ARM less the model that it was trained on. Each ARM is the other's control: one
of the same vocabulary and size, trained for something else. Prints Markdown: means and standard errors of VADER's compound sentiment (-1 to 1),
words, the differences of both to the base's own text for the same prompt, and the KL to the base in nats per text; then the other base's
texts of the first prompts.
"""

import argparse
import json
import pathlib
import subprocess
import tempfile

from sweeping import mean

SAMPLING = ["--seed", "1", "--temp", "0.8", "--top-k", "0", "--top-p", "0.95"]
GRID = {"cheerful": [0.25, 0.5, 1], "concise": [0.5, 1]}


def configuration(own, base, adapters):
    """The ARMs on the model that they were trained on, for a base that may be another."""
    arm = lambda name: {
        "model": str(own),
        "lora": [{"path": str(adapters / f"arm-{name}.gguf")}],
        "reference": {"model": str(own)},
        "weight": 0,
        "vocabulary": "translate",
    }
    return {"base": {"model": str(base), "n_ctx": 2048}, "arms": {name: arm(name) for name in GRID}}


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--own", required=True, type=pathlib.Path, help="the model that the ARMs were trained on")
    parser.add_argument("--other", required=True, type=pathlib.Path, help="a base of another vocabulary")
    parser.add_argument("--prompts", required=True)
    parser.add_argument("--n-prompts", type=int, default=25)
    parser.add_argument("--n-predict", type=int, default=48)
    parser.add_argument("--grid", action="append", metavar="NAME=W,W", help="weights of an ARM; repeatable [default: all of the table]")
    parser.add_argument("--show", type=int, default=3, help="prompts whose texts are printed")
    parser.add_argument("--adapters", type=pathlib.Path, default=pathlib.Path("models/smollm2").resolve())
    parser.add_argument("--genarm", default="target/release/genarm")
    parser.add_argument("--keep", help="folder for the results; a run that was stopped goes on there")
    args = parser.parse_args()

    grids = dict(one.split("=", 1) for one in args.grid or [])
    weights = {name: [float(w) for w in grids[name].split(",")] for name in grids} or GRID

    from vaderSentiment.vaderSentiment import SentimentIntensityAnalyzer

    vader = SentimentIntensityAnalyzer()
    folder = pathlib.Path(args.keep or tempfile.mkdtemp())
    folder.mkdir(parents=True, exist_ok=True)
    grid = [flag for name, some in weights.items() for flag in ("--grid", f"{name}=0," + ",".join(map(str, some)))]
    print("| base | weights | VADER | more than without | words | more than without | KL to the base |\n|---|---|---|---|---|---|---|")
    for label, base in (("its own", args.own), ("the other", args.other)):
        config = folder / f"{label.replace(' ', '-')}.yaml"
        config.write_text(json.dumps(configuration(args.own.resolve(), base.resolve(), args.adapters)))
        out = config.with_suffix(".jsonl")
        command = [args.genarm, "sweep", "-f", config, "--alone", "--no-profiles", *SAMPLING, *grid, "--out", out]
        command += ["--prompts", args.prompts, "--n-prompts", args.n_prompts, "-n", args.n_predict, "--parallel", 4]
        subprocess.run(list(map(str, command)), check=True, stdout=subprocess.DEVNULL)
        header, *records = map(json.loads, out.read_text(encoding="utf-8").splitlines())
        names = {}
        for i, point in enumerate(header["points"]):
            names[i] = ", ".join(f"{name} {weight:g}" for name, weight in zip(GRID, point["weights"]) if weight) or "none"
        texts = {name: {r["prompt"]: r for r in records if r["point"] == i} for i, name in names.items()}
        measures = [lambda text: vader.polarity_scores(text)["compound"], lambda text: len(text.split())]
        for name, of in texts.items():
            cells = []
            for measure in measures:
                own = {prompt: measure(record["text"]) for prompt, record in of.items()}
                differences = [value - measure(texts["none"][prompt]["text"]) for prompt, value in own.items()]
                cells += [mean(own.values()), mean(differences) if name != "none" else ""]
            print(f"| {label} | {name} | {' | '.join(map(str, cells))} | {mean(r['kl'] for r in of.values())} |", flush=True)
    prompts = pathlib.Path(args.prompts).read_text(encoding="utf-8").splitlines()
    for prompt in list(texts["none"])[: args.show]:
        print(f"\n**{prompts[prompt]}**\n")
        for name, of in texts.items():
            print(f"- *{name}*: {' '.join(of[prompt]['text'].split())}")


if __name__ == "__main__":
    main()
