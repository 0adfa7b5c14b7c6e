"""Simulated promoters: what is planted is where the windows say."""

from __future__ import annotations

import numpy as np
import pandas as pd
import pytest

import omicllm as ol


def test_promoters_are_read_back(tiny, tmp_path):
    tiny.var["kind"] = [str(i % 3) if i % 3 else None for i in range(40)]
    fasta, table = ol.datasets.simulated_promoters(
        tiny, groups="kind", folder=tmp_path / "sim", length=120, rate=0.7
    )
    assert {p.name for p in fasta.parent.iterdir()} == {"promoters.fa", "promoters.csv"}
    (tmp_path / "plain").touch()
    assert fasta.stat().st_mode == (tmp_path / "plain").stat().st_mode
    assert list(table["gene_name"]) == list(tiny.var_names) and set(table["strand"]) == {"+", "-"}
    ol.pp.gene_windows(tiny, table=fasta.parent / "promoters.csv", upstream=120, genome=fasta)
    ol.pp.attach_sequences(tiny, genome=fasta)
    sequences = tiny.var["sequence"]
    assert set(sequences.str.len()) == {120} and sequences.is_unique
    words = {}
    for gene, group, motifs in table[["gene_name", "group", "motifs"]].itertuples(index=False):
        assert (group == "") == (tiny.var.loc[gene, "kind"] is None)
        for motif in filter(None, motifs.split(",")):
            assert motif in sequences[gene]
            words.setdefault(group, set()).add(motif)
    assert set(words) == {"1", "2"} and all(len(w) == 3 for w in words.values())
    share = [len(m.split(",")) / 3 if m else 0 for m in table.loc[table["group"] != "", "motifs"]]
    assert 0.5 < np.mean(share) < 0.9


def test_seeds_and_a_dict_of_groups(tiny, tmp_path):
    groups = {"Gene1": "a", "Gene2": "a"}
    made = [
        ol.datasets.simulated_promoters(
            tiny, groups=groups, folder=tmp_path / str(i), length=60, rng=seed, gc=0.9
        )
        for i, seed in enumerate((0, 0, 1))
    ]
    texts = [fasta.read_text() for fasta, _ in made]
    assert texts[0] == texts[1] != texts[2]
    pd.testing.assert_frame_equal(made[0][1], made[1][1])
    assert made[0][1]["group"].value_counts().to_dict() == {"": 38, "a": 2}
    bases = "".join(line for line in texts[0].splitlines() if line[0] != ">")
    assert 0.85 < (bases.count("G") + bases.count("C")) / len(bases) < 0.95


@pytest.mark.parametrize(
    "kwargs,error,message",
    [
        ({"groups": "kind"}, KeyError, "'kind' is not in adata.var"),
        ({"length": 20}, ValueError, "3 motifs of 8 bases do not fit"),
        ({"rate": 2}, ValueError, "rate must lie between"),
        ({"n_contigs": 0}, ValueError, "n_contigs must be a whole number"),
    ],
)
def test_what_cannot_be(tiny, tmp_path, kwargs, error, message):
    with pytest.raises(error, match=message):
        ol.datasets.simulated_promoters(
            tiny, **({"groups": {}, "folder": tmp_path / "sim"} | kwargs)
        )
    assert not (tmp_path / "sim").exists()
