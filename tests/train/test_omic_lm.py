"""`train._omic_lm`: what a batch of the small language model holds."""

from __future__ import annotations

import numpy as np

from omicllm.train._omic_lm import ProfileData


def feed(z, codes, present=None, **kwargs):
    settings = {
        "mix": True, "gene_dropout": 0.0, "batch_size": 64, "n_members": 1, "seed": 0, **kwargs,
    }  # fmt: skip
    here = np.ones(z.shape, dtype=bool) if present is None else present
    # Values themselves stand in for tokens.
    return ProfileData(z, here, codes, lambda z, keep: (z.copy(), keep), **settings)


def test_a_text_is_a_mixture_of_two_rows_of_its_class():
    z = np.array([[0.0, 1], [2, 1], [10, 1], [14, 1]], dtype=np.float32)
    ids, _, at, codes = feed(z, np.array([0, 0, 1, 1])).draw(np.random.default_rng(0))
    value, codes = ids[:, 0].numpy(), codes.numpy()
    assert at.tolist() == [0, 1]
    assert ((value >= 0) & (value <= 2))[codes == 0].all()
    assert ((value >= 10) & (value <= 14))[codes == 1].all()
    assert len(np.unique(value)) > 30
    plain = feed(z, np.array([0, 0, 1, 1]), mix=False).draw(np.random.default_rng(0))[0]
    assert set(plain[:, 0].tolist()) == {0, 2, 10, 14}


def test_rows_are_mixed_with_rows_that_lack_the_same():
    z = np.array([[0.0, 5], [1, 5], [100, 0], [101, 0]], dtype=np.float32)
    present = np.array([[True, True], [True, True], [True, False], [True, False]])
    ids, keep, _, _ = feed(z, np.zeros(4, dtype=int), present).draw(np.random.default_rng(0))
    lacking = ~keep[:, 1].numpy()
    assert 0 < lacking.sum() < 64
    assert (ids[:, 0].numpy() >= 100).tolist() == lacking.tolist()


def test_rare_classes_are_drawn_as_often():
    codes = np.array([0] * 95 + [1] * 5)
    data = feed(np.zeros((100, 3), dtype=np.float32), codes, batch_size=1000)
    drawn = data.draw(np.random.default_rng(0))[3]
    assert abs(float(drawn.float().mean()) - 0.5) < 0.05


def test_gene_dropout_hides_the_same_positions_in_a_batch():
    z = np.arange(200, dtype=np.float32).reshape(2, 100)
    data = feed(z, np.array([0, 1]), gene_dropout=0.7, mix=False)
    rng = np.random.default_rng(0)
    ids, keep, at, codes = data.draw(rng)
    assert ids.shape == keep.shape == (64, 30) and (np.diff(at.numpy()) > 0).all()
    np.testing.assert_array_equal(ids.numpy(), z[codes.numpy()][:, at.numpy()])
    assert data.draw(rng)[2].tolist() != at.tolist()


def test_members_see_batches_of_their_own_and_epochs_differ():
    z = np.random.default_rng(0).normal(size=(40, 6)).astype(np.float32)
    data = feed(z, np.arange(40) % 2, n_members=2, batch_size=20)
    loader = data.train_dataloader()
    first, second = list(loader), list(loader)
    assert len(first) == data.n_steps == 2 and len(first[0]) == 2
    values = [batch[m][0].numpy() for epoch in (first, second) for batch in epoch for m in (0, 1)]
    assert len({v.tobytes() for v in values}) == 8
