#!/usr/bin/env python3
"""Trade-offs between objectives: one PARM, an ARM for each objective, and a PARM trained on shuffled preferences.

    benches/front.py --base models/base.gguf --prompts models/prompts.jsonl --scorer cheerful --scorer talkative > table.md

Answers of the base are rated by every scorer, and pairs that differ in all ratings are labelled by all. The PARM reads them `--epochs` times;
each of the k ARMs, of the rank that the PARM has in all, reads them 1/k as often: as many training tokens. Then texts are written for
held-out prompts over a grid of preferences α: the PARM at α with weight λ, and the ARMs at weights λ·α. All guide less the base.

Rewards are in standard deviations of the base's texts, from the base's mean. Hypervolume: what the means over the prompts dominate, from
one standard deviation below the base on. MIP: the mean of α · rewards. Errors are of 400 bootstraps over the prompts.
"""

import argparse
import itertools
import json
import pathlib
import random
import statistics
import subprocess

SYSTEMS = {"parm": "one PARM", "arms": "an ARM for each", "control": "PARM, shuffled α"}


def lines(path):
    return [json.loads(line) for line in path.read_text(encoding="utf-8").splitlines()]


def write_lines(path, values):
    path.write_text("".join(json.dumps(value, ensure_ascii=False) + "\n" for value in values), encoding="utf-8")


def read_prompts(path):
    """JSONL with a prompt per line, or a prompt per line."""
    text = pathlib.Path(path).read_text(encoding="utf-8").splitlines()
    return [json.loads(line)["prompt"] if line.startswith("{") else line for line in text if line.strip()]


def run(command, **kwargs):
    subprocess.run(list(map(str, command)), check=True, **kwargs)


def labelled(args, names, prompts, work):
    """The base's answers, rated by all scorers, as pairs with a label for each objective."""
    rated = []
    for name, scorer in zip(names, args.scorer):
        out = work / f"{name}.jsonl"
        answers = work / f"{name}.jsonl.answers.jsonl"
        if not answers.exists():
            command = [args.genarm, "pairs", "--base", args.base, "--prompts", work / "prompts.jsonl", "--scorer", scorer, "--out", out]
            command += ["-k", args.answers, "-n", args.n_predict, "--temp", 1, "--seed", 5, *(["--chat"] if args.chat else [])]
            run(command + (["--answers-from", work / f"{names[0]}.jsonl.answers.jsonl"] if rated else []), stdout=subprocess.DEVNULL)
        rated.append({record["prompt"]: record["answers"] for record in lines(answers) if "prompt" in record})
    rng = random.Random(3)
    pairs = []
    for prompt in sorted(rated[0]):
        by_text = zip(*(by[prompt] for by in rated))
        answers = [(one[0]["text"], [rating["score"] for rating in one]) for one in by_text]
        differing = [
            (a, b) for a, b in itertools.combinations(answers, 2) if a[0] != b[0] and all(x != y for x, y in zip(a[1], b[1]))
        ]
        rng.shuffle(differing)
        for (a, scores_a), (b, scores_b) in differing[: args.per_prompt]:
            better = {name: "a" if x > y else "b" for name, x, y in zip(names, scores_a, scores_b)}
            pairs.append({"prompt": prompts[prompt], "a": a, "b": b, "preferred": better})
    rng.shuffle(pairs)
    return pairs[: args.pairs]


def train(args, names, work):
    k = len(names)
    common = [args.genarm, "train", "--backbone", args.base, "--pairs", work / "labelled.jsonl", "--lora-targets", "all-linear"]
    common += ["--held-out", 0.1, "--eval-every", 1000, "--keep", "last", "--seed", 1, "--beta", args.beta, *args.train]
    parm = ["--objective", "parm", "--prefer", ",".join(names), "--epochs", args.epochs]
    rank = 4 + 4 * k
    jobs = {"parm": parm, "control": [*parm, "--shuffle-preferences"]}
    n = len(lines(work / "labelled.jsonl"))
    for name in names:
        steps = max(1, round(0.9 * n * args.epochs / k / args.batch))
        jobs[f"arm-{name}"] = ["--prefer", name, "--epochs", args.epochs, "--max-steps", steps, "--lora-rank", rank, "--lora-alpha", 2 * rank]
    for job, flags in jobs.items():
        if not (work / f"{job}.gguf").exists():
            with open(work / f"{job}.json", "w") as out:
                run([*common, *flags, "--batch", args.batch, "--out", work / f"{job}.gguf"], stdout=out)


def grid(k):
    """Preferences that add up to 1: eleven for two objectives, fifteen for three."""
    n = {2: 10, 3: 4}.get(k, 2)
    return [tuple(i / n for i in point) for point in itertools.product(range(n + 1), repeat=k) if sum(point) == n]


def configuration(args, system, names, alphas, work):
    base = str(pathlib.Path(args.base).resolve())
    arm = lambda file: {
        "model": base,
        "lora": [{"path": str((work / f"{file}.gguf").resolve())}],
        "reference": {"model": base},
        "weight": 0,
    }
    if system == "arms":
        arms = {name: arm(f"arm-{name}") for name in names}
        weights = lambda alpha: {name: args.weight * a for name, a in zip(names, alpha)}
    else:
        arms = {"taste": arm(system)}
        weights = lambda alpha: {"taste": args.weight, **{f"taste.{name}": a for name, a in zip(names, alpha)}}
    config = {"base": {"model": base, "n_ctx": 512}, "arms": arms}
    config["profiles"] = {f"a{i}": weights(alpha) for i, alpha in enumerate(alphas)}
    if not args.chat:
        config["prompt"] = {"chat_template": "raw"}
    return config, next(iter(arms))


def texts(args, system, names, alphas, work):
    """Rewards by point and prompt: the base's, and those of every α."""
    config, first = configuration(args, system, names, alphas, work)
    file, out = work / f"{system}.yaml", work / f"{system}.sweep.jsonl"
    file.write_text(json.dumps(config))
    command = [args.genarm, "sweep", "-f", file, "--prompts", work / "held-out.jsonl", "--grid", f"{first}=0", "--out", out]
    command += ["-n", args.n_predict, "--seed", 1, "--temp", 1, "--top-k", 0, "--top-p", 1, "--min-p", 0, "--parallel", args.parallel]
    command += [*(["--chat"] if args.chat else []), *(flag for scorer in args.scorer for flag in ("--scorer", scorer))]
    run(command, stdout=subprocess.DEVNULL)
    header, *records = lines(out)
    profile = {point.get("label", "none"): i for i, point in enumerate(header["points"])}
    rewards = lambda i: {r["prompt"]: [r["rewards"][name] for name in names] for r in records if r["point"] == i}
    return rewards(profile["none"]), [rewards(profile[f"a{i}"]) for i in range(len(alphas))]


def hypervolume(points, reference):
    """The volume that points dominate above the reference point: slices along the last coordinate."""
    points = [point for point in points if all(x > r for x, r in zip(point, reference))]
    if not points:
        return 0.0
    if len(reference) == 1:
        return max(point[0] for point in points) - reference[0]
    levels = sorted({point[-1] for point in points}, reverse=True)
    below = [*levels[1:], reference[-1]]
    slices = ((z, low, [point[:-1] for point in points if point[-1] >= z]) for z, low in zip(levels, below))
    return sum((z - low) * hypervolume(inside, reference[:-1]) for z, low, inside in slices)


def measures(points, alphas, scale, prompts):
    k = len(scale)
    means = [[(statistics.fmean(point[p][i] for p in prompts) - scale[i][0]) / scale[i][1] for i in range(k)] for point in points]
    mip = statistics.fmean(sum(a * x for a, x in zip(alpha, mean)) for alpha, mean in zip(alphas, means))
    return hypervolume(means, [-1.0] * k), mip, means


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--base", required=True)
    parser.add_argument("--prompts", required=True, help="prompts to train on, and where --held-out is not given to measure on: every second")
    parser.add_argument("--held-out", help="prompts to measure on")
    parser.add_argument("--n-held-out", type=int, default=100)
    parser.add_argument("--scorer", action="append", required=True, help="as in genarm sweep; its name is the objective's")
    parser.add_argument("--chat", action="store_true", help="put the prompts through the chat template")
    parser.add_argument("--answers", type=int, default=16, help="answers per prompt")
    parser.add_argument("--per-prompt", type=int, default=20, help="most pairs of a prompt")
    parser.add_argument("--pairs", type=int, default=2000, help="most pairs")
    parser.add_argument("--n-predict", type=int, default=64)
    parser.add_argument("--epochs", type=int, default=2)
    parser.add_argument("--batch", type=int, default=16)
    parser.add_argument("--beta", type=float, default=0.2)
    parser.add_argument("--weight", type=float, default=1.0, help="λ")
    parser.add_argument("--parallel", type=int, default=32)
    parser.add_argument("--train", type=str.split, default=[], help="more flags of genarm train, as one word")
    parser.add_argument("--genarm", default="target/release/genarm")
    parser.add_argument("--work", type=pathlib.Path, default=pathlib.Path("target/front"), help="folder of all that is made; what is there is kept")
    args = parser.parse_args()

    names = [scorer.split("=")[0] for scorer in args.scorer]
    args.work.mkdir(parents=True, exist_ok=True)
    prompts = read_prompts(args.prompts)
    held_out = read_prompts(args.held_out) if args.held_out else prompts[1::2]
    prompts = prompts if args.held_out else prompts[::2]
    for name, texts_of in (("prompts", prompts), ("held-out", held_out[: args.n_held_out])):
        write_lines(args.work / f"{name}.jsonl", [{"prompt": text} for text in texts_of])
    if not (args.work / "labelled.jsonl").exists():
        write_lines(args.work / "labelled.jsonl", labelled(args, names, prompts, args.work))
    train(args, names, args.work)

    alphas = grid(len(names))
    rewards = {system: texts(args, system, names, alphas, args.work) for system in SYSTEMS}
    of_base = rewards["parm"][0]
    columns = [[of_base[p][i] for p in of_base] for i in range(len(names))]
    scale = [(statistics.fmean(column), statistics.stdev(column)) for column in columns]
    held = sorted(of_base)
    rng = random.Random(1)
    samples = [rng.choices(held, k=len(held)) for _ in range(400)]
    drawn = {system: [measures(points, alphas, scale, sample)[:2] for sample in samples] for system, (_, points) in rewards.items()}
    error = lambda values: statistics.stdev(values)
    print(f"{len(lines(args.work / 'labelled.jsonl'))} pairs, {len(held)} held-out prompts, {len(alphas)} α, λ {args.weight:g}\n")
    print("| | hypervolume | MIP | less one PARM: hypervolume | MIP |\n|---|---|---|---|---|")
    for system, (_, points) in rewards.items():
        volume, mip, _ = measures(points, alphas, scale, held)
        row = f"| {SYSTEMS[system]} | {volume:.2f} ± {error([x for x, _ in drawn[system]]):.2f}"
        row += f" | {mip:.3f} ± {error([y for _, y in drawn[system]]):.3f}"
        if system != "parm":
            ours = measures(rewards["parm"][1], alphas, scale, held)
            apart = [[x - y for x, y in zip(a, b)] for a, b in zip(drawn[system], drawn["parm"])]
            row += f" | {volume - ours[0]:+.2f} ± {error([x for x, _ in apart]):.2f} | {mip - ours[1]:+.3f} ± {error([y for _, y in apart]):.3f} |"
        else:
            row += " | | |"
        print(row)
    print("\n| α | " + " | ".join(f"{SYSTEMS[system]}: {', '.join(names)}" for system in rewards) + " |\n|---|" + "---|" * len(rewards))
    for i, alpha in enumerate(alphas):
        cells = [measures(points, alphas, scale, held)[2][i] for _, points in rewards.values()]
        print(f"| {', '.join(f'{a:g}' for a in alpha)} | " + " | ".join(", ".join(f"{x:+.2f}" for x in cell) for cell in cells) + " |")


if __name__ == "__main__":
    main()
