#!/usr/bin/env python3
"""Compares the base alone in `genarm bench` with llama.cpp's own llama-bench, in turns, on the same file.

llama-bench is built statically for this machine, with OpenMP, from the llama.cpp source inside the source package of
llama-cpp-python. Everything it makes lies under target/peers. Needs pip, cmake, a C++ compiler and a built genarm.
"""

import argparse
import json
import os
import pathlib
import statistics
import subprocess
import sys
import tarfile

ROOT = pathlib.Path(__file__).resolve().parents[2]
PEERS = pathlib.Path(os.environ.get("GENARM_PEERS", ROOT / "target/peers"))
GENARM = os.environ.get("GENARM", str(ROOT / "target/release/genarm"))
PACKAGE = "llama_cpp_python-0.3.36"


def source():
    """Fetches the source package once, and unpacks the llama.cpp in it."""
    folder = PEERS / PACKAGE / "vendor/llama.cpp"
    if not folder.is_dir():
        PEERS.mkdir(parents=True, exist_ok=True)
        archive = PEERS / f"{PACKAGE}.tar.gz"
        if not archive.is_file():
            name = PACKAGE.replace("llama_cpp_python-", "llama-cpp-python==")
            pip = [sys.executable, "-m", "pip", "download", "--no-deps", "--no-binary", ":all:", "-d", PEERS, name]
            subprocess.run(pip, check=True)
        with tarfile.open(archive) as tar:
            tar.extractall(PEERS, filter="data")
    return folder


def build(jobs):
    """Builds llama-bench, and returns its path."""
    out = PEERS / "llama-bench"
    options = ["BUILD_SHARED_LIBS=OFF", "GGML_NATIVE=ON", "GGML_OPENMP=ON", "CMAKE_BUILD_TYPE=Release"]
    options += ["LLAMA_CURL=OFF", "LLAMA_BUILD_TESTS=OFF", "LLAMA_BUILD_EXAMPLES=OFF", "LLAMA_BUILD_SERVER=OFF"]
    options += ["LLAMA_BUILD_APP=OFF", "LLAMA_BUILD_TOOLS=ON", "LLAMA_OPENSSL=OFF"]
    configure = ["cmake", "-S", source(), "-B", out, *(f"-D{option}" for option in options)]
    subprocess.run(configure, check=True, stdout=subprocess.DEVNULL)
    subprocess.run(["cmake", "--build", out, "--target", "llama-bench", "-j", str(jobs)], check=True)
    return out / "bin/llama-bench"


def synthesise(quantization, vocabulary):
    """Makes the base and the ARM that both programs read, once."""
    folder = PEERS / f"models-{quantization}"
    if not (folder / "base.gguf").is_file():
        command = [GENARM, "bench", "--synthetic", "base=1.2B,arm=180M", "--quantization", quantization]
        command += ["--keep-models", folder, "--n-prompt", "1", "--n-gen", "1", "--repeats", "1", "-c", "64"]
        command += ["--vocabulary", vocabulary] if vocabulary else []
        subprocess.run(command, check=True, stdout=subprocess.DEVNULL)
    return folder


def peer(binary, model, args):
    """Tokens a second of llama-bench."""
    command = [binary, "-m", model, "-t", str(args.threads), "-p", "0", "-n", str(args.n_gen), "-d", str(args.depth)]
    out = subprocess.run([*command, "-r", "1", "-o", "json"], check=True, capture_output=True).stdout
    return json.loads(out)[0]["avg_ts"]


def ours(folder, args, guided):
    """Tokens a second of the base alone; with `guided`, the whole of `genarm bench`."""
    command = [GENARM, "bench", "--base", folder / "base.gguf", "--json", "-t", str(args.threads)]
    command += ["--n-prompt", str(args.depth), "--n-gen", str(args.n_gen), "-c", str(args.depth + args.n_gen)]
    command += ["--arm", f"arm={folder / 'arm.gguf'}", "--repeats", str(args.repeats)] if guided else ["--repeats", "1"]
    times = json.loads(subprocess.run(command, check=True, capture_output=True).stdout)["seconds_per_token"]
    return times if guided else 1 / times["base"]


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--build-only", action="store_true", help="build llama-bench and stop")
    parser.add_argument("--quantization", default="Q4_0", choices=["Q4_0", "Q4_K_M"])
    parser.add_argument("--vocabulary", help="GGUF whose vocabulary the synthetic models have")
    parser.add_argument("--threads", type=int, default=os.cpu_count())
    parser.add_argument("--depth", type=int, default=64, help="tokens in the context before the measured ones")
    parser.add_argument("--n-gen", type=int, default=64, help="tokens to measure in a turn")
    parser.add_argument("--repeats", type=int, default=7, help="turns of each program")
    parser.add_argument("--jobs", type=int, default=os.cpu_count())
    parser.add_argument("--no-guided", action="store_true", help="leave out the guided measurement")
    args = parser.parse_args()
    binary = build(args.jobs)
    if args.build_only:
        return
    folder = synthesise(args.quantization, args.vocabulary)
    turns = []
    for turn in range(args.repeats):
        # Who goes first changes, so that a drifting clock rate favours nobody.
        first = turn % 2 == 0
        a = ours(folder, args, False) if first else None
        b = peer(binary, folder / "base.gguf", args)
        turns.append((a if first else ours(folder, args, False), b))
        print(f"turn {turn + 1}: genarm {turns[-1][0]:.2f}, llama-bench {b:.2f} tokens/s", file=sys.stderr)
    result = {
        "quantization": args.quantization,
        "genarm_base": statistics.median(a for a, _ in turns),
        "llama_bench": statistics.median(b for _, b in turns),
        "ratio": statistics.median(a / b for a, b in turns),
        "ratios": [round(a / b, 4) for a, b in turns],
    }
    if not args.no_guided:
        result["guided"] = ours(folder, args, True)
    print(json.dumps(result, indent=2))


if __name__ == "__main__":
    main()
