#!/usr/bin/env python3
"""Trains the same model on the same batches as `genarm train`, in PyTorch: the yardstick for its tokens a second.

The model is the llama graph of a GGUF as PyTorch users write it: nn.Linear, scaled_dot_product_attention, cross_entropy,
torch.optim.AdamW, gradients clipped to norm 1, F32 on the CPU. Weights are random (speed does not depend on them); shapes,
vocabulary, batch and sequence lengths are those of the run that it is compared with. Sequences are padded to the longest of
their batch, as a collator pads them; padding is not counted as tokens.

    python -m venv target/torch && target/torch/bin/pip install torch numpy
    target/torch/bin/python benches/peers/torch_train.py --objective arm --genarm target/release/genarm

With --peft the model is that of transformers with adapters of peft, as a TRL user has it:

    target/torch/bin/pip install transformers peft
    target/torch/bin/python benches/peers/torch_train.py --peft --backbone SmolLM2.gguf --targets q,k,v,o,gate,up,down --batch 8 --micro-batch 4

Memory is the peak of each process; that of PyTorch has the libraries in it.
"""

import argparse
import json
import os
import pathlib
import random
import resource
import statistics
import subprocess
import sys
import tempfile
import time

import torch
import torch.nn.functional as F
from torch import nn

ROOT = pathlib.Path(__file__).resolve().parents[2]
TARGETS = ["q", "k", "v", "o", "gate", "up", "down"]


class Linear(nn.Module):
    """A matrix, with a LoRA adapter where rank > 0: then only the adapter learns."""

    def __init__(self, n_in, n_out, rank, alpha):
        super().__init__()
        self.base = nn.Linear(n_in, n_out, bias=False)
        self.rank, self.scale = rank, alpha / rank if rank else 0.0
        if rank:
            self.a = nn.Parameter(torch.randn(rank, n_in) * 0.02)
            self.b = nn.Parameter(torch.zeros(n_out, rank))

    def forward(self, x):
        y = self.base(x)
        return y + self.scale * F.linear(F.linear(x, self.a), self.b) if self.rank else y


class Block(nn.Module):
    def __init__(self, shape, lora):
        super().__init__()
        self.shape = shape
        n_kv = shape.n_head_kv * shape.head_dim
        n_q = shape.n_head * shape.head_dim
        rank = lambda name: (lora.rank if name in lora.targets else 0, lora.alpha)
        self.q = Linear(shape.n_embd, n_q, *rank("q"))
        self.k = Linear(shape.n_embd, n_kv, *rank("k"))
        self.v = Linear(shape.n_embd, n_kv, *rank("v"))
        self.o = Linear(n_q, shape.n_embd, *rank("o"))
        self.gate = Linear(shape.n_embd, shape.n_ff, *rank("gate"))
        self.up = Linear(shape.n_embd, shape.n_ff, *rank("up"))
        self.down = Linear(shape.n_ff, shape.n_embd, *rank("down"))
        self.attn_norm = nn.RMSNorm(shape.n_embd, eps=1e-5)
        self.ffn_norm = nn.RMSNorm(shape.n_embd, eps=1e-5)

    def forward(self, x, cos, sin):
        b, t, _ = x.shape
        s = self.shape
        h = self.attn_norm(x)
        heads = lambda y, n: y.view(b, t, n, s.head_dim).transpose(1, 2)
        q, k = rope(heads(self.q(h), s.n_head), cos, sin), rope(heads(self.k(h), s.n_head_kv), cos, sin)
        y = F.scaled_dot_product_attention(q, k, heads(self.v(h), s.n_head_kv), is_causal=True, enable_gqa=True)
        x = x + self.o(y.transpose(1, 2).reshape(b, t, -1))
        h = self.ffn_norm(x)
        return x + self.down(F.silu(self.gate(h)) * self.up(h))


def rope(x, cos, sin):
    a, b = x.chunk(2, dim=-1)
    return torch.cat([a * cos - b * sin, b * cos + a * sin], dim=-1)


class Llama(nn.Module):
    def __init__(self, shape, lora, n_ctx):
        super().__init__()
        self.embed = nn.Embedding(shape.n_vocab, shape.n_embd)
        self.blocks = nn.ModuleList(Block(shape, lora) for _ in range(shape.n_layer))
        self.norm = nn.RMSNorm(shape.n_embd, eps=1e-5)
        half = shape.head_dim // 2
        angles = torch.arange(n_ctx)[:, None] * 10000.0 ** (-torch.arange(half) / half)
        self.register_buffer("cos", angles.cos())
        self.register_buffer("sin", angles.sin())

    def forward(self, tokens):
        x = self.embed(tokens)
        t = tokens.shape[1]
        for block in self.blocks:
            x = block(x, self.cos[:t], self.sin[:t])
        return self.norm(x) @ self.embed.weight.T  # tied, as in the demo base


class Hub(nn.Module):
    """The same model of transformers, with adapters of peft."""

    def __init__(self, shape, lora):
        super().__init__()
        from peft import LoraConfig, get_peft_model
        from transformers import LlamaConfig, LlamaForCausalLM

        config = LlamaConfig(
            vocab_size=shape.n_vocab,
            hidden_size=shape.n_embd,
            intermediate_size=shape.n_ff,
            num_hidden_layers=shape.n_layer,
            num_attention_heads=shape.n_head,
            num_key_value_heads=shape.n_head_kv,
            tie_word_embeddings=True,
        )
        # peft knows the matrices by the names of transformers.
        names = [f"{name}_proj" for name in lora.targets]
        adapters = LoraConfig(r=lora.rank, lora_alpha=lora.alpha, target_modules=names, task_type="CAUSAL_LM")
        self.model = get_peft_model(LlamaForCausalLM(config), adapters)

    def forward(self, tokens):
        return self.model(input_ids=tokens, use_cache=False).logits


def log_probs(model, batch):
    """Sum of log-probabilities of the response tokens of every sequence."""
    tokens, mask = batch
    logits = model(tokens[:, :-1])
    loss = F.cross_entropy(logits.reshape(-1, logits.shape[-1]), tokens[:, 1:].reshape(-1), reduction="none")
    return -(loss.view(tokens.shape[0], -1) * mask[:, 1:]).sum(1)


def step(model, optimizer, micro_batches, args):
    optimizer.zero_grad(set_to_none=True)
    for batch in micro_batches:
        logp = log_probs(model, batch)
        if args.objective == "arm":
            chosen, rejected = logp.chunk(2)
            loss = -F.logsigmoid(args.beta * (chosen - rejected)).mean()
        else:
            loss = -logp.sum() / batch[1][:, 1:].sum()
        (loss / len(micro_batches)).backward()
    torch.nn.utils.clip_grad_norm_([p for p in model.parameters() if p.requires_grad], 1.0)
    optimizer.step()


def batches(lengths, args, generator):
    """Random tokens of the given lengths, padded to the longest of a micro-batch: pairs are 2 sequences each."""
    per_batch = args.micro_batch * (2 if args.objective == "arm" else 1)
    out = []
    for start in range(0, len(lengths) - per_batch + 1, per_batch):
        ls = lengths[start : start + per_batch]
        longest = max(n for _, n in ls)
        tokens = torch.randint(0, args.n_vocab, (per_batch, longest), generator=generator)
        mask = torch.zeros(per_batch, longest)
        for row, (prompt, n) in enumerate(ls):
            mask[row, prompt:n] = 1.0
        out.append(((tokens, mask), sum(n for _, n in ls)))
    return out


def write_pairs(path, n, seed):
    """Pairs of texts of 40 to 70 words out of a small list; `genarm train` and PyTorch see the same lengths."""
    words = "the little girl went to park and saw a big red ball her mom said that we can play with it happy day".split()
    rng = random.Random(seed)
    text = lambda: " " + " ".join(rng.choice(words) for _ in range(rng.randint(40, 70)))
    with open(path, "w") as file:
        for i in range(n):
            pair = {"prompt": f"Once upon a time, there was number {i}.", "chosen": text(), "rejected": text()}
            if path.name.startswith("sft"):
                pair = {"prompt": pair["prompt"], "response": pair["chosen"]}
            file.write(json.dumps(pair) + "\n")


def ours(args, folder, max_steps):
    """Runs `genarm train`, and returns its summary and its peak memory in MB."""
    pairs = folder / f"{args.objective}.jsonl"
    write_pairs(pairs, max_steps * args.batch + 8, 1)
    out = folder / "out.gguf"
    command = [args.genarm, "train", "--backbone", args.backbone, "--pairs", pairs, "--out", out, "--batch", args.batch]
    command += ["--micro-batch", args.micro_batch, "--objective", args.objective, "--no-eos", "--held-out", 0]
    command += ["--max-steps", max_steps, "--threads", args.threads]
    if args.full:
        command += ["--full"]
    else:
        command += ["--lora-rank", args.rank, "--lora-targets", ",".join(args.targets)]
    words = [sys.executable, "-c", MEASURED, *map(str, command)]
    result = subprocess.run(words, check=True, capture_output=True, text=True)
    return json.loads(result.stdout), int(result.stderr.split()[-1]) * 1024 / 1e6


# A small process between: Linux counts the memory of the one that starts a program as that program's.
MEASURED = """import resource, subprocess, sys
code = subprocess.run(sys.argv[1:]).returncode
print(resource.getrusage(resource.RUSAGE_CHILDREN).ru_maxrss, file=sys.stderr)
sys.exit(code)"""


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--objective", choices=["arm", "sft"], default="arm")
    parser.add_argument("--full", action="store_true", help="train every weight, not a LoRA adapter")
    parser.add_argument("--peft", action="store_true", help="the model of transformers, with adapters of peft")
    parser.add_argument("--rank", type=int, default=8)
    parser.add_argument("--alpha", type=float, default=16.0)
    parser.add_argument("--targets", type=lambda s: s.split(","), default=["q", "k", "v"])
    parser.add_argument("--batch", type=int, default=32, help="examples an update")
    parser.add_argument("--micro-batch", type=int, default=16)
    parser.add_argument("--steps", type=int, default=8)
    parser.add_argument("--beta", type=float, default=0.2)
    parser.add_argument("--threads", type=int, default=os.cpu_count())
    parser.add_argument("--turns", type=int, default=3)
    parser.add_argument("--backbone", default=str(ROOT / "models/base.gguf"))
    parser.add_argument("--genarm", default=str(ROOT / "target/release/genarm"))
    args = parser.parse_args()
    if args.peft and args.full:
        parser.error("--peft is for adapters: leave out --full")
    # What `genarm inspect --all` says of models/base.gguf.
    inspected = subprocess.run([args.genarm, "inspect", "--json", args.backbone], check=True, capture_output=True).stdout
    meta = json.loads(inspected)[0]["metadata"]
    shape = argparse.Namespace(
        n_vocab=json.loads(inspected)[0]["n_vocab"],
        n_embd=meta["llama.embedding_length"],
        n_layer=meta["llama.block_count"],
        n_head=meta["llama.attention.head_count"],
        n_head_kv=meta["llama.attention.head_count_kv"],
        n_ff=meta["llama.feed_forward_length"],
    )
    shape.head_dim = shape.n_embd // shape.n_head
    args.n_vocab = shape.n_vocab
    torch.set_num_threads(args.threads)
    torch.manual_seed(0)
    lora = argparse.Namespace(rank=0 if args.full else args.rank, alpha=args.alpha, targets=args.targets)
    model = Hub(shape, lora) if args.peft else Llama(shape, lora, 512)
    if not args.full and not args.peft:
        for name, p in model.named_parameters():
            p.requires_grad = name.endswith((".a", ".b"))
    trainable = [p for p in model.parameters() if p.requires_grad]
    optimizer = torch.optim.AdamW(trainable, lr=1e-4, weight_decay=0.05)

    results, peaks = [], []
    with tempfile.TemporaryDirectory() as folder:
        folder = pathlib.Path(folder)
        for turn in range(args.turns):
            summary, peak = ours(args, folder, args.steps)
            peaks.append(peak)
            # The lengths that genarm saw: all its tokens over all its sequences, spread as the texts are.
            n_seqs = args.steps * args.batch * (2 if args.objective == "arm" else 1)
            mean = summary["n_tokens"] / n_seqs
            rng = random.Random(turn)
            lengths = [(12, max(13, round(rng.uniform(mean - 15, mean + 15)))) for _ in range(n_seqs)]
            per_step = args.batch // args.micro_batch
            # As genarm does: within an update, sequences of like lengths go together.
            n = len(lengths) // args.steps
            lengths = [x for i in range(0, len(lengths), n) for x in sorted(lengths[i : i + n], key=lambda x: x[1])]
            data = batches(lengths, args, torch.Generator().manual_seed(turn))
            step(model, optimizer, [batch for batch, _ in data[:per_step]], args)  # warm up
            start = time.perf_counter()
            n_tokens = 0
            for i in range(0, len(data) - per_step + 1, per_step):
                step(model, optimizer, [batch for batch, _ in data[i : i + per_step]], args)
                n_tokens += sum(n for _, n in data[i : i + per_step])
            theirs = n_tokens / (time.perf_counter() - start)
            results.append((summary["tokens_per_s"], theirs))
            print(f"turn {turn + 1}: genarm {results[-1][0]:.0f}, PyTorch {theirs:.0f} tokens/s", file=sys.stderr)
    print(json.dumps({
        "torch": torch.__version__ + (" with peft" if args.peft else ""),
        "run": f"{args.objective} {'full' if args.full else 'LoRA ' + str(args.rank) + ' on ' + ','.join(args.targets)}",
        "genarm": statistics.median(a for a, _ in results),
        "pytorch": statistics.median(b for _, b in results),
        "ratio": statistics.median(a / b for a, b in results),
        "genarm_peak_mb": max(peaks),
        "pytorch_peak_mb": resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024 / 1e6,
    }, indent=2))


if __name__ == "__main__":
    main()
