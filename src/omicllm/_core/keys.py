"""Every slot each verb writes, in one place.

A slot is ``"<attribute>:<name>"``; ``{root}`` in a name is the method's root, which
``key_added=`` replaces everywhere in its row. `omicllm._core.results` refuses to write anything
that is not listed here, a test compares what verbs write with this table, and the documentation
page of keys is generated from it. The rows are in `keys_tissue`, `keys_text` and `keys_genome`.
"""

from __future__ import annotations

from omicllm._core.keys_genome import GENOME
from omicllm._core.keys_row import Keys
from omicllm._core.keys_text import TEXT
from omicllm._core.keys_tissue import TISSUE

__all__ = ["KEYS", "UNS_SUFFIX", "Keys", "markdown_table", "uns_name"]

KEYS: dict[str, Keys] = {**TISSUE, **TEXT, **GENOME}

#: Verbs that share a root keep their parameters apart: verb -> suffix of the `uns` entry.
UNS_SUFFIX = {
    "tl.embed_people": "_people",
    "tl.embed_sequences": "_sequences",
    "tl.spatially_variable_genes": "_svg",
    "tl.gene_neighbors": "_neighbors",
    "tl.predict_expression": "_predicted",
    "tl.project_genes": "_cells",
    "tl.ult_decode": "_decode",
    "tl.ult_quality": "_quality",
}


def uns_name(verb: str, key_added: str | None = None) -> str:
    """Name of the `uns` entry of a verb."""
    return (key_added or KEYS[verb].root) + UNS_SUFFIX.get(verb, "")


def markdown_table() -> str:
    """Return the table of keys as Markdown, for the documentation."""
    lines = ["| verb | slot | holds |", "|---|---|---|"]
    for verb, keys in KEYS.items():
        name = uns_name(verb)
        for slot, what in keys.slots.items():
            attribute, key = keys.name(slot)
            lines.append(f'| `{verb}` | `{attribute}["{key}"]` | {what} |')
        lines.append(f'| `{verb}` | `uns["{name}"]` | `params`, `keys`, `version` |')
        lines += [
            f'| `{verb}` | `uns["{name}"]["{key}"]` | {what} |' for key, what in keys.arrays.items()
        ]
    return "\n".join(lines) + "\n"
