"""What the scripts that measure with `genarm sweep` share."""

import json
import statistics
import subprocess

SAMPLING = ["--seed", "1", "--temp", "0.8", "--top-k", "0", "--top-p", "0.95"]


def sweep(genarm, out, extra):
    """Runs `genarm sweep --chat` with these arguments; its first line, and its records."""
    command = [genarm, "sweep", "--chat", "--no-profiles", *SAMPLING, "--out", str(out), *map(str, extra)]
    subprocess.run(command, check=True, stdout=subprocess.DEVNULL)
    with open(out, encoding="utf-8") as lines:
        header, *records = map(json.loads, lines)
    return header, records


def mean(values):
    """Mean ± standard error."""
    values = list(values)
    error = statistics.stdev(values) / len(values) ** 0.5 if len(values) > 1 else 0
    return f"{statistics.mean(values):.2f} ± {error:.2f}"
