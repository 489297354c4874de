"""Compute peers' values with the peers themselves and compare them with those that the tests hold; `make parity`.

Usage: check.py FOLDER, the folder that holds trl 0.24.0; trl 1.16.0 is installed beside this Python.
"""

import ast
import os
import subprocess
import sys
from pathlib import Path

HERE = Path(__file__).parent
TESTS = HERE.parent / "tests" / "methods"


def held(method: str) -> float | None:
    """Return the value of PEER in the method's test file, or None where it has none."""
    tree = ast.parse((TESTS / f"test_{method}.py").read_text(encoding="utf-8"))
    for node in tree.body:
        if isinstance(node, ast.Assign) and getattr(node.targets[0], "id", "") == "PEER":
            assert isinstance(node.value, ast.Tuple)
            return float(eval(compile(ast.Expression(node.value.elts[2]), method, "eval")))
    return None


def printed(script: str, path: str = "") -> dict[str, float]:
    """Run a script and return the values it prints, method to mean loss."""
    environment = {**os.environ, "PYTHONPATH": path, "TRL_EXPERIMENTAL_SILENCE": "1"}
    done = subprocess.run(
        [sys.executable, HERE / script], check=True, stdout=subprocess.PIPE, text=True, env=environment
    )
    return {method: float(value) for method, value in map(str.split, done.stdout.splitlines())}


def main() -> int:
    """Print one line per method; return 1 if a value differs or a held one was not computed."""
    found = printed("trl_1_16.py") | printed("trl_0_24.py", str(Path(sys.argv[1]).resolve()))
    # One of them is computed in float32.
    differing = [m for m, value in found.items() if (known := held(m)) is None or abs(known / value - 1) > 1e-6]
    for method, value in found.items():
        print(f"{'DIFFERS' if method in differing else 'same':8} {method:16} {value!r}  held: {held(method)!r}")
    everything = {path.stem.removeprefix("test_") for path in TESTS.glob("test_*.py")}
    missing = sorted(method for method in everything - set(found) if held(method) is not None)
    print(
        f"{len(found)} values computed, {len(differing)} differ; held but not computed: {', '.join(missing) or 'none'}"
    )
    return 1 if differing or missing else 0


if __name__ == "__main__":
    sys.exit(main())
