#!/usr/bin/env python3
"""Measures lookup on a rewriting task, whose answer is mostly a copy of the prompt.

    benches/rewriting.py CORPUS.txt [--work FOLDER]

The demo base is trained to write a text again with one name in place of another (some minutes), grown to the cost of 1.1B parameters,
and guided by the demo's weak-to-strong ARM. Plain decoding, lookup and auto then rewrite held-out texts in turns.
CORPUS is a text file of English stories, such as an excerpt of TinyStories; paragraphs are separated by empty lines.
"""

import argparse
import json
import pathlib
import random
import re
import subprocess

ROOT = pathlib.Path(__file__).resolve().parent.parent
NAMES = "Tom Ben Lily Sam Mia Anna Max Sue Tim Lucy Jack Amy".split()
N_TRAIN, N_PROMPTS = 26_000, 8


def sentences(text):
    """The sentences of each paragraph that has two at least, in plain ASCII."""
    for paragraph in re.split(r"\n\s*\n", text):
        found = [s for s in re.split(r"(?<=[.!?]) ", paragraph.strip()) if s.isascii() and len(s) > 10]
        if len(found) >= 2:
            yield found


def task(paragraph, rng):
    """One to four sentences to be written again: where they name somebody, mostly with another name."""
    start = rng.randrange(len(paragraph))
    text = " ".join(paragraph[start : start + rng.randint(1, 4)])
    name = next((n for n in NAMES if re.search(rf"\b{n}\b", text)), None)
    if name and rng.random() < 0.7:
        other = rng.choice([n for n in NAMES if n != name])
        answer = re.sub(rf"\b{name}\b", other, text)
        return {"prompt": f"Write {other} for {name}.\n{text}\nAgain:\n", "response": answer}
    return {"prompt": f"Write it again.\n{text}\nAgain:\n", "response": text}


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("corpus", type=pathlib.Path)
    parser.add_argument("--work", type=pathlib.Path, default=ROOT / "target/rewriting")
    parser.add_argument("--genarm", default=ROOT / "target/release/genarm")
    args = parser.parse_args()
    args.work.mkdir(parents=True, exist_ok=True)
    rng = random.Random(1)
    paragraphs = list(sentences(args.corpus.read_text()))
    # The last tenth is held out.
    seen, held_out = paragraphs[: -(len(paragraphs) // 10)], paragraphs[-(len(paragraphs) // 10) :]

    pairs = args.work / "pairs.jsonl"
    tasks = {}
    while len(tasks) < N_TRAIN:
        pair = task(rng.choice(seen), rng)
        if 40 < len(pair["response"]) < 420:
            tasks[pair["prompt"]] = pair
    pairs.write_text("".join(json.dumps(pair) + "\n" for pair in tasks.values()))

    copier = args.work / "copier.gguf"
    if not copier.exists():
        train = [args.genarm, "train", "--pairs", pairs, "--objective", "sft", "--full", "--backbone", ROOT / "models/base.gguf"]
        train += "--template none --batch 16 --micro-batch 16 --lr 3e-3 --held-out 0.01 --out-type f16 --seed 1".split()
        subprocess.run([*train, "--out", copier], check=True)

    config = args.work / "rewriting.yaml"
    models = {name: str(ROOT / "models" / name) for name in ("small.gguf", "arm-plain.gguf")}
    lora = [{"path": models["arm-plain.gguf"]}]
    arms = {"plain": {"model": models["small.gguf"], "lora": lora, "weight": 0.1}}
    sampling = {"temp": 0.8, "top_p": 0.95, "top_k": 0, "min_p": 0}
    config.write_text(json.dumps({"base": {"model": str(copier)}, "arms": arms, "sampling": sampling}))

    # Answers of the 50 tokens that are measured and some more: longer texts, so small a model does not copy faithfully.
    texts = []
    while len(texts) < N_PROMPTS:
        pair = task(rng.choice(held_out), rng)
        if 220 < len(pair["response"]) < 300 and pair["prompt"] not in texts:
            texts.append(pair["prompt"])
    prompts = [word for text in texts for word in ("--prompt", text)]
    bench = [args.genarm, "bench", "--inflate", "base=1.1B,arm=125M", "--from", config, "--n-gen", "50", "-c", "512"]
    subprocess.run([*bench, "--repeats", "1", "--drafters", "off,lookup,auto", *prompts], check=True)


if __name__ == "__main__":
    main()
