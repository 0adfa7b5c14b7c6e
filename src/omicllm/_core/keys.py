"""Every slot each verb writes, in one place.

A slot is ``"<attribute>:<name>"``; ``{root}`` in a name is the method's root, which
``key_added=`` replaces everywhere in its row. `omicllm._core.results` refuses to write anything
that is not listed here, a test compares what verbs write with this table, and the documentation
page of keys is generated from it.
"""

from __future__ import annotations

from dataclasses import dataclass, field


@dataclass(frozen=True)
class Keys:
    """The row of one verb: its root and the slots it writes.

    Attributes
    ----------
    root
        Default of ``key_added``; also the name of the `uns` entry with parameters.
    slots
        Slot -> what it holds (dtype, shape, meaning).
    arrays
        Entries of ``uns[root]`` beside ``params``, ``keys`` and ``version``.
    """

    root: str
    slots: dict[str, str]
    arrays: dict[str, str] = field(default_factory=dict)

    def name(self, slot: str, key_added: str | None = None) -> tuple[str, str]:
        """Attribute and key of a slot, with the root filled in."""
        attribute, key = slot.split(":", 1)
        return attribute, key.format(root=key_added or self.root)


KEYS: dict[str, Keys] = {
    "pp.spatial_grid": Keys(
        "spatial_grid",
        {"obsm:{root}": "int32 (n_obs, 2): row and column of each spot in its gene image"},
        {
            "shape": "int64 (2,): height and width of the image (one section)",
            "method": "hex, square or bin",
            "scale": "pixels per coordinate unit (1 where array positions were used)",
            "agg": "sum or mean, how spots that share a pixel are joined",
            "sections": "section names",
            "shapes": "int64 (n_sections, 2): image size of each section",
            "batch_key": "the obs column that says which section a spot is in, or empty",
        },
    ),
    "tl.sigel": Keys(
        "sigel",
        {
            "varm:X_{root}": "float32 (n_vars, d): gene embedding; zero rows for empty genes",
            "varm:X_{root}_umap": "float32 (n_vars, 2): UMAP of the embedding, on request",
            "var:{root}_cluster": "categorical: component of the Student-t mixture",
            "var:{root}_confidence": "float32: largest mixture responsibility of the gene",
            "var:{root}_empty": "bool: the gene is zero everywhere (no cluster, no neighbours)",
        },
        {
            "baseline": "neighbour overlap between two binomial halves of the counts: "
            "`sigel`, `pca` (Pearson residuals, same width), `n_neighbors`, `n_genes`",
            "history": "loss per epoch of each training stage",
            "sections": "section names, with `batch_key=`",
            "X_sections": "float32 (n_sections, n_vars, d): per-section embeddings",
            "model_dir": "folder of the saved model, with `save=`",
        },
    ),
    "tl.spatially_variable_genes": Keys(
        "sigel",
        {
            "var:{root}_svg_score": "float64: squared distance to null images, or Moran's I",
            "var:{root}_svg_pval": "float64: one-sided p value under permutation of spots",
            "var:{root}_svg_qval": "float64: Benjamini-Hochberg q value",
            "var:{root}_svg_rank": "int64: 1 is the most variable",
        },
        {"n_axes": "number of axes that follow the tissue (`method='sigel'`)"},
    ),
    "tl.gene_neighbors": Keys(
        "sigel",
        {
            "varp:{root}_connectivities": "csr float32 (n_vars, n_vars): weights of the gene graph",
            "varp:{root}_distances": "csr float32 (n_vars, n_vars): cosine distances to neighbours",
        },
    ),
    "tl.gene_functions": Keys(
        "gene_functions",
        {
            "var:{root}": "categorical: best function proposed for the gene, beyond those known",
            "var:{root}_score": "float32: its share of the votes of neighbouring genes",
        },
        {
            "table": "DataFrame: functions proposed for genes, with score and precision",
            "enrichment": "DataFrame: clusters and sets, overlap, p and q values",
            "sets": "DataFrame: size and cross-validated AUROC of each set, and co-expression's",
            "baseline": "mean `auroc` over sets, and that of `coexpression`",
        },
    ),
    "tl.pattern_genes": Keys(
        "pattern",
        {
            "var:{root}_score": "float32: cosine of the gene with the pattern; NaN without counts",
            "var:{root}_pval": "float32: p value among random patterns of the same smoothness",
            "var:{root}_qval": "float32: its false discovery rate",
        },
    ),
    "tl.compare_genes": Keys(
        "compare",
        {
            "var:{root}_score": "float32: change of pattern between conditions, in robust SD of "
            "genes as noisy; NaN where not tested",
            "var:{root}_pval": "float32: p value over relabelled sections or spatial blocks",
            "var:{root}_qval": "float32: its false discovery rate",
        },
        {
            "sections": "section names",
            "conditions": "condition of each section",
            "test": "sections or blocks: what was relabelled for the p values",
            "n_null": "number of relabellings",
        },
    ),
    "tl.gene_interactions": Keys(
        "gene_interactions",
        {"var:{root}_degree": "int32: pairs of the gene with a stability or score of a half"},
        {
            "table": "DataFrame: pairs of genes with score, co-expression, stability, "
            "heterogeneity over sections and change between conditions",
            "baseline": "cross-validated `auc` on known pairs, of `cosine` and of `coexpression`",
            "sections": "section names, with `batch_key=`",
            "conditions": "condition of each section, with `condition_key=`",
        },
    ),
}

#: Verbs that share a root keep their parameters apart: verb -> suffix of the `uns` entry.
UNS_SUFFIX = {"tl.spatially_variable_genes": "_svg", "tl.gene_neighbors": "_neighbors"}


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
