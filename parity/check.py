"""Compare what peers print with the values that the tests hold; run by `make parity`.

Usage: check.py PYTHON=SCRIPT ..., each script run by the interpreter that has its peer.
"""

import ast
import subprocess
import sys
from pathlib import Path

TESTS = Path(__file__).parent.parent / "tests" / "methods"


def held(method: str) -> float | None:
    """Return the value of PEER in the method's test file, or None where it has none."""
    tree = ast.parse((TESTS / f"test_{method}.py").read_text(encoding="utf-8"))
    for node in tree.body:
        if isinstance(node, ast.Assign) and getattr(node.targets[0], "id", "") == "PEER":
            assert isinstance(node.value, ast.Tuple)
            return float(ast.literal_eval(node.value.elts[2]))
    return None


def main() -> int:
    """Print one line per method; return 1 if a value differs or a held one was not computed."""
    differing, seen = [], set()
    for argument in sys.argv[1:]:
        python, _, script = argument.partition("=")
        printed = subprocess.run(
            [python, script], check=True, capture_output=True, text=True, cwd=Path(__file__).parent
        )
        for line in printed.stdout.splitlines():
            method, value = line.split()
            seen.add(method)
            known = held(method)
            same = known is not None and abs(known - float(value)) <= 1e-6 * abs(known)
            print(f"{'same' if same else 'DIFFERS':8} {method:16} {value}" + ("" if same else f"  held: {known}"))
            differing += [] if same else [method]
    everything = {path.stem.removeprefix("test_") for path in TESTS.glob("test_*.py")}
    missing = sorted(m for m in everything - seen if held(m) is not None)
    print(f"{len(seen)} values of peers computed, {len(differing)} differ; held but not computed: {missing or 'none'}")
    return 1 if differing or missing else 0


if __name__ == "__main__":
    sys.exit(main())
