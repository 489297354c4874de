"""How fast preflab trains, beside TRL on the same tokens. See docs/results/performance.md."""
