"""`ol.tl.variant_effects`, `saturation_ism`, `input_gradients`, their tables and plots."""

import matplotlib.pyplot as plt
import numpy as np
import pytest
import torch
from helpers import only_declared_written, round_trip, same_object, slots
from made_genome import installed, write_fasta
from made_people import cohort, tiny_trunk

import omicllm as ol
from omicllm.genome import tokens


@pytest.fixture
def data(tmp_path):
    """A cohort and a trained model."""
    mdata, genome = cohort(tmp_path, n=40)
    rna = mdata["rna"]
    personal = ol.pp.haplotypes(mdata["geno"], genome=genome, windows=rna, length=64)
    lent = rna.copy()
    ol.model.PersonalExpression.setup_anndata(lent)
    model = ol.model.PersonalExpression(lent, personal, trunk=tiny_trunk(), n_centre_bins=4)
    with torch.no_grad():  # weights that matter, without the time of training
        for weight in model.module.parameters():
            weight += 0.1 * torch.randn_like(weight)
    model.train(1, pairs_per_gene=10)
    return mdata, genome, model


def by_hand(model, row):
    """Prediction of a sequence, letter by letter as given."""
    return model.predict_tokens(tokens.encode(row)[None])[0]


def test_effect_is_the_change_on_the_reference(data, tmp_path):
    mdata, genome, model = data
    before = {m: slots(mdata[m]) for m in mdata.mod}
    assert ol.tl.variant_effects(mdata, model=model, genome=genome) is None
    geno, rna = mdata["geno"], mdata["rna"]
    only_declared_written(before["geno"], geno, "tl.variant_effects")
    assert slots(rna) == before["rna"]
    W = geno.varm["variant_effects"].toarray()
    assert W.shape == (60, 3) and W.dtype == np.float32
    table = ol.get.variant_effects_df(mdata, mod="geno")
    pos = geno.var["pos"].to_numpy()
    for g, (gene, tss, minus) in enumerate(zip("PQR", (201, 401, 601), (0, 1, 0), strict=True)):
        start, end = tss - 33, tss + 31
        reference = genome.fetch("c", start, end)
        inside = np.flatnonzero((pos > start) & (pos <= end))
        some = table[table["gene"] == gene]
        assert sorted(some["variant"]) == sorted(geno.var_names[inside])
        assert (np.diff(some["effect"].abs()) <= 0).all()
        for j in inside:
            ref, alt = geno.var["ref"].iloc[j], geno.var["alt"].iloc[j]
            if len(alt) > 1:
                continue
            at = pos[j] - 1 - start
            assert reference[at] == ref
            changed = reference[:at] + alt + reference[at + 1 :]
            rows = [tokens.encode(s)[None] for s in (changed, reference)]
            if minus:
                rows = [tokens.reverse_complement(r) for r in rows]
            one, other = (model.predict_tokens(r)[0] for r in rows)
            assert W[j, g] == pytest.approx(one - other, abs=1e-5)
            line = some[some["variant"] == geno.var_names[j]].iloc[0]
            assert line["effect"] == pytest.approx(W[j, g], abs=1e-6)
            assert line["distance"] == (tss - pos[j] if minus else pos[j] - tss)
        assert not W[np.setdiff1d(np.arange(60), inside), g].any()
    assert np.abs(W).max() > 1e-4
    round_trip(geno, tmp_path)


def test_subset_frequency_and_copy(data, tmp_path):
    mdata, genome, model = data
    untouched = mdata["geno"].copy()
    model.save(tmp_path / "model")
    out = ol.tl.variant_effects(
        mdata, model=tmp_path / "model", genome=genome, genes="Q", min_af=0.3, copy=True,
        key_added="ism",
    )  # fmt: skip
    same_object(mdata["geno"], untouched)
    assert out["geno"].varm["ism"].shape == (60, 1)
    af = np.asarray(mdata["geno"].X.mean(axis=0)).ravel() / 2
    used = np.flatnonzero(out["geno"].varm["ism"].toarray())
    assert (np.minimum(af, 1 - af)[used] >= 0.3).all() and len(used)
    assert ol.get.variant_effects_df(out, mod="geno", key="ism", gene="Q")["gene"].eq("Q").all()
    assert len(ol.get.variant_effects_df(out, mod="geno", key="ism", n=1)) == 1


@pytest.mark.parametrize("gene,strand", [("P", "+"), ("Q", "-")])
def test_saturation(data, gene, strand):
    mdata, genome, model = data
    rna = mdata["rna"].copy()
    before = slots(rna)
    ol.tl.saturation_ism(rna, model=model, genome=genome, genes=gene, n_bases=10)
    only_declared_written(before, rna, "tl.saturation_ism")
    entry = rna.uns["saturation_ism"]
    tss = int(rna.var.loc[gene, "tss"])
    sequence = genome.fetch("c", tss - 33, tss + 31, strand=strand)
    at = 27 + int(np.flatnonzero(np.arange(27, 37) + entry["offset"][0] - 27 == 0)[0])
    site = genome.fetch("c", tss - 1, tss, strand=strand)
    assert sequence[at] == site, "offset 0 is the start site"
    frame = ol.get.ism_df(rna, gene=gene)
    assert frame.loc[0, "reference"] == site and frame.shape == (10, 5)
    wanted = by_hand(model, sequence[:30] + "T" + sequence[31:]) - by_hand(model, sequence)
    assert entry["scores"][0, 3, 3] == pytest.approx(wanted, abs=1e-5)
    own = tokens.encode(sequence[27:37])
    assert (entry["reference"][0] == own).all()
    assert not entry["scores"][0, np.arange(10), own].any()


def test_gradients_agree_with_the_model(data):
    mdata, genome, model = data
    rna = mdata["rna"].copy()
    ol.tl.input_gradients(rna, model=model, genome=genome, genes=["R", "P"])
    entry = rna.uns["input_gradients"]
    assert entry["scores"].shape == (2, 64, 4) and entry["genes"].tolist() == ["R", "P"]
    row = tokens.encode(genome.fetch("c", 168, 232))[None]
    gradient = model.input_gradients(row)[0]
    np.testing.assert_allclose(
        entry["scores"][1], gradient - gradient.mean(axis=1, keepdims=True), atol=1e-6
    )
    np.testing.assert_allclose(entry["scores"].sum(axis=2), 0, atol=1e-5)


def test_bad_input(data):
    mdata, genome, model = data
    rna = mdata["rna"]
    untouched = rna.copy()
    with pytest.raises(TypeError, match="must be a trained PersonalExpression"):
        ol.tl.variant_effects(mdata, model=tiny_trunk(), genome=genome)
    with pytest.raises(ValueError, match="n_bases must be a whole number"):
        ol.tl.saturation_ism(rna, model=model, genome=genome, n_bases=0)
    with pytest.raises(KeyError, match="genes not in"):
        ol.tl.input_gradients(rna, model=model, genome=genome, genes="none")
    with pytest.raises(ValueError, match="have 60 bases, but enformer takes multiples of 8"):
        ol.tl.variant_effects(mdata, model=model, genome=genome, length=60)
    model.is_trained_ = False
    with pytest.raises(RuntimeError, match="not trained"):
        ol.tl.saturation_ism(rna, model=model, genome=genome)
    for function, made in (("variant_effects_df", {}), ("ism_df", {"gene": "P"})):
        with pytest.raises(KeyError, match="ol.tl"):
            getattr(ol.get, function)(rna, **made)
    same_object(rna, untouched)


def test_plots(data):
    mdata, genome, model = data
    ol.tl.variant_effects(mdata, model=model, genome=genome)
    ax = ol.pl.variant_effects(mdata, mod="geno", gene="P", n_labels=2)
    table = ol.get.variant_effects_df(mdata, mod="geno", gene="P")
    assert len(ax.collections[-1].get_offsets()) == len(table)
    assert len(ax.texts) == 2
    with pytest.raises(KeyError, match="'Z' is not in the genes"):
        ol.pl.variant_effects(mdata, mod="geno", gene="Z")
    plt.close("all")


def test_sums_over_variants(data, tmp_path):
    mdata, genome, model = data
    rna, geno = mdata["rna"], mdata["geno"]
    with pytest.raises(KeyError, match="personal_pair_regression"):
        ol.tl.linearize(mdata)
    rna.layers["personal_pair_regression"] = model.predict().to_numpy()
    with pytest.raises(KeyError, match="ol.tl.variant_effects"):
        ol.tl.linearize(mdata)
    ol.tl.variant_effects(mdata, model=model, genome=genome, genes=["P", "R"])
    before = slots(rna)
    ol.tl.linearize(mdata)
    only_declared_written(before, rna, "tl.linearize")
    W = geno.varm["variant_effects"].toarray()
    P = rna.layers["linearized"]
    np.testing.assert_allclose(P[:, [0, 2]], geno.X.toarray() @ W / 2, atol=1e-5)
    assert np.isnan(P[:, 1]).all() and np.isnan(rna.var["linearized_pearson"].iloc[1])
    r = np.corrcoef(P[:, 0], rna.layers["personal_pair_regression"][:, 0])[0, 1]
    assert rna.var["linearized_pearson"].iloc[0] == pytest.approx(r, abs=1e-5)
    round_trip(rna, tmp_path)
    # A network that only counts is the sum of its variants exactly.
    rna.layers["linear"] = 7 + 3 * np.nan_to_num(P)
    out = ol.tl.linearize(mdata, prediction="linear", key_added="again", copy=True)
    assert "again" not in rna.layers
    np.testing.assert_allclose(out["rna"].var["again_pearson"].iloc[[0, 2]], 1, atol=1e-5)


@installed("logomaker")
def test_logo(data):
    mdata, genome, model = data
    rna = mdata["rna"].copy()
    ol.tl.saturation_ism(rna, model=model, genome=genome, n_bases=12)
    ax = ol.pl.ism_logo(rna, gene="P", start=-3, end=4)
    low, high = ax.get_xlim()
    assert (round(low + 0.5), round(high - 0.5)) == (-3, 3)
    ol.tl.input_gradients(rna, model=model, genome=genome)
    ol.pl.ism_logo(rna, key="input_gradients")
    plt.close("all")
    with pytest.raises(ValueError, match="No scored base lies between start=50"):
        ol.pl.ism_logo(rna, start=50)


def test_variants_that_are_in_no_sequence(data, tmp_path, caplog):
    """Their effect is not 0 but unknown; sums over variants leave them out."""
    mdata, genome, model = data
    geno = mdata["geno"]
    text = list(genome.fetch("c", 0, 800))
    ol.tl.variant_effects(mdata, model=model, genome=genome, genes="P")
    before = ol.get.variant_effects_df(mdata, mod="geno").set_index("variant")
    first, second, third = before.index[:3]
    text[int(before.loc[first, "pos"]) - 1] = "N"
    geno.var["alt"] = geno.var["alt"].astype(object)
    geno.var.loc[second, "alt"] = "<DEL>"
    other = ol.io.Genome(write_fasta(tmp_path / "n.fa", {"c": "".join(text)}))
    ol.tl.variant_effects(mdata, model=model, genome=other, genes="P")
    after = ol.get.variant_effects_df(mdata, mod="geno").set_index("variant")
    assert np.isnan(after.loc[[first, second], "effect"]).all()
    assert np.isfinite(after["effect"].drop([first, second])).all() and third in after.index
    W = geno.varm["variant_effects"].toarray()[geno.var_names.get_indexer([first, second])]
    assert (W == 0).all()
    assert "1 of" in caplog.text and "n.fa has N" in caplog.text


@pytest.mark.parametrize(
    "verb", ["variant_effects", "saturation_ism", "input_gradients", "embed_genes", "embed_people"]
)
def test_windows_past_the_end_of_a_contig(verb, tmp_path):
    """Refused with advice; padded with N they are as windows of a genome that goes on with N."""
    from made_people import counted

    mdata, genome = cohort(tmp_path)
    rna, geno = mdata["rna"], mdata["geno"]
    rna.var.loc["R", ["window_start", "window_end"]] = [670, 734]
    keys = {"rna": ("saturation_ism", "input_gradients", "embed_genes")}

    def run(fasta):
        if verb.startswith("embed"):
            out = getattr(ol.tl, verb)(
                rna if verb in keys["rna"] else mdata, model=counted(), genome=fasta, copy=True
            )
            return (out.varm if verb == "embed_genes" else out["rna"].obsm)["X_shares"]
        store = ol.pp.haplotypes(geno, genome=longer, windows=rna, length=64)
        torch.manual_seed(0)
        model = ol.model.PersonalExpression(
            _set_up(rna), store, trunk=tiny_trunk(), strategy="baseline", track=0
        )
        out = getattr(ol.tl, verb)(
            rna if verb in keys["rna"] else mdata, model=model, genome=fasta, genes="R", copy=True
        )
        if verb == "variant_effects":
            return out["geno"].varm["variant_effects"].toarray()
        return out.uns[verb]["scores"]

    text = genome.fetch("c", 0, 720)
    genome = ol.io.Genome(write_fasta(tmp_path / "short.fa", {"c": text}))
    longer = ol.io.Genome(write_fasta(tmp_path / "longer.fa", {"c": text + "N" * 200}))
    with pytest.raises(ValueError, match="does not lie inside c.*outside='pad'.*missing='skip'"):
        run(genome)
    np.testing.assert_allclose(
        run(ol.io.Genome(genome.path, outside="pad")), run(longer), rtol=1e-5, atol=1e-6
    )


def _set_up(rna):
    ol.model.PersonalExpression.setup_anndata(rna, split_key="split")
    return rna


@pytest.mark.parametrize("verb", ["variant_effects", "saturation_ism", "input_gradients"])
@pytest.mark.parametrize("shape", ["flat", "right"])
def test_tracks_of_a_trunk_trained_elsewhere(verb, shape, tmp_path):
    """A trunk with tracks (n, bins, tracks) needs no training; other shapes are named."""
    from made_people import Bins

    class Tracks(ol.nn.ModuleTrunk):
        def tracks(self, *, embedding, index=None):
            return embedding[..., index] if shape == "flat" else embedding[..., [index]]

    mdata, genome = cohort(tmp_path)
    rna = mdata["rna"]
    torch.manual_seed(0)
    trunk = Tracks(Bins(), dim=6, bin_size=8, gives="channels", name="elsewhere")
    call = getattr(ol.tl, verb)
    target = mdata if verb == "variant_effects" else rna
    with pytest.raises(TypeError, match="strategy='baseline', track="):
        call(target, model=trunk, genome=genome)
    store = ol.pp.haplotypes(mdata["geno"], genome=genome, windows=rna, length=64)
    model = ol.model.PersonalExpression(
        _set_up(rna.copy()), store, trunk=trunk, strategy="baseline", track=2
    )
    more = {"genes": "P"} if verb == "input_gradients" else {"genes": "P", "both_strands": False}
    if shape == "flat":
        message = r"elsewhere.tracks\(embedding=, index=2\) gives .* must give \(n, bins, number"
        with pytest.raises(ValueError, match=message):
            call(target, model=model, genome=genome, **more)
        return
    out = call(target, model=model, genome=genome, copy=True, **more)
    if verb == "variant_effects":
        window = rna.var.loc["P"]
        row = genome.tokens("c", window["window_start"], window["window_end"])
        table = ol.get.variant_effects_df(out, mod="geno")
        snp = next(
            t for t in table.itertuples() if len(mdata["geno"].var.loc[t.variant, "alt"]) == 1
        )
        changed = row.copy()
        changed[snp.pos - 1 - window["window_start"]] = "ACGT".index(
            mdata["geno"].var.loc[snp.variant, "alt"]
        )
        trunk.eval()
        with torch.no_grad():
            p = trunk.embed(np.stack([row, changed]))[..., 2].sum(dim=1)
        assert snp.effect == pytest.approx(float(p[1] - p[0]), abs=1e-4)
    else:
        assert np.abs(out.uns[verb]["scores"]).max() > 0
    with pytest.raises(ValueError, match="has no tracks. Give it a method tracks"):
        ol.model.PersonalExpression(
            _set_up(rna.copy()),
            store,
            strategy="baseline",
            track=2,
            trunk=ol.nn.ModuleTrunk(Bins(), dim=6, bin_size=8, gives="channels"),
        )
