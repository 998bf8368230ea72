"""One module a verb: each a short list of steps, and a frozen dataclass with the fields of the `--json` output."""
