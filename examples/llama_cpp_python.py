#!/usr/bin/env python3
"""Guides llama-cpp-python in both ways that it offers: with a LogitsProcessor, and with a native sampler in its own chain.

    GENARM_LIBRARY=target/release/libgenarm.so PYTHONPATH=python/genarm/src \\
        python3 examples/llama_cpp_python.py --model models/base.gguf --config models/demo.yaml "Once upon a time"
"""

import argparse
import ctypes
import json

import llama_cpp
import numpy as np
from genarm import Guidance


def with_logits_processor(llm: llama_cpp.Llama, guidance: Guidance, prompt: list[int], n: int) -> list[int]:
    """llama-cpp-python generates; the processor adds to every row of logits before it samples."""
    steer = llama_cpp.LogitsProcessorList([guidance.logits_processor(llm)])
    tokens = []
    for token in llm.generate(prompt, temp=0.0, logits_processor=steer):
        if len(tokens) == n or token == llm.token_eos():
            break
        tokens.append(token)
    return tokens


def with_native_sampler(llm: llama_cpp.Llama, guidance: Guidance, prompt: list[int], n: int) -> list[int]:
    """A sampler chain as in C: genarm, then greedy. It accepts the prompt; then llama_sampler_sample accepts what it chooses."""
    chain = llama_cpp.llama_sampler_chain_init(llama_cpp.llama_sampler_chain_default_params())
    guidance.sampler(llm).add_to(chain)
    llama_cpp.llama_sampler_chain_add(chain, llama_cpp.llama_sampler_init_greedy())
    try:
        for token in prompt:
            llama_cpp.llama_sampler_accept(chain, token)
        llm.reset()
        llm.eval(prompt)
        tokens = []
        while len(tokens) < n:
            token = llama_cpp.llama_sampler_sample(chain, llm.ctx, -1)
            if token == llm.token_eos():
                break
            tokens.append(token)
            llm.eval([token])
        return tokens
    finally:
        llama_cpp.llama_sampler_free(chain)


def distributions(llm: llama_cpp.Llama, guidance: Guidance, tokens: list[int]) -> dict[str, list[float]]:
    """The guided probabilities after some tokens, through both ways: what the test compares."""
    llm.reset()
    llm.eval(tokens)
    logits = np.ctypeslib.as_array(llama_cpp.llama_get_logits_ith(llm.ctx, -1), shape=(llm.n_vocab(),)).copy()
    processed = guidance.logits_processor(llm)(np.array(tokens, dtype=np.intc), logits.copy())

    sampler = guidance.sampler(llm)
    native = ctypes.cast(sampler._living(), llama_cpp.llama_cpp.llama_sampler_p_ctypes)
    for token in tokens:
        llama_cpp.llama_sampler_accept(native, token)
    data = (llama_cpp.llama_token_data * logits.size)(*((i, logit, 0.0) for i, logit in enumerate(logits)))
    array = llama_cpp.llama_token_data_array(data, logits.size, -1, False)
    llama_cpp.llama_sampler_apply(native, ctypes.byref(array))
    applied = np.array([candidate.logit for candidate in data])

    softmax = lambda row: (np.exp(row - row.max()) / np.exp(row - row.max()).sum()).tolist()
    return {"logits_processor": softmax(processed.astype(np.float64)), "native_sampler": softmax(applied)}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--model", required=True, help="the base, a GGUF file")
    parser.add_argument("--config", required=True, help="ARMs and weights, a YAML file")
    parser.add_argument("-n", type=int, default=32, help="tokens to generate")
    parser.add_argument("--distributions", help="print the probabilities after these token ids as JSON")
    parser.add_argument("prompt", nargs="?", default="Once upon a time")
    args = parser.parse_args()

    llm = llama_cpp.Llama(args.model, n_ctx=512, verbose=False)
    with Guidance(args.config) as guidance:
        if args.distributions:
            tokens = [int(token) for token in args.distributions.split(",")]
            print(json.dumps(distributions(llm, guidance, tokens)))
            return
        prompt = llm.tokenize(args.prompt.encode())
        for way in (with_logits_processor, with_native_sampler):
            tokens = way(llm, guidance, prompt, args.n)
            print(f"{way.__name__}: {llm.detokenize(tokens).decode(errors='replace')}")


if __name__ == "__main__":
    main()
