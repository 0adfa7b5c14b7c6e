"""Attention and attributions of a BERT on k-mers."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from omicllm.nn.kmer_bert import KmerBert
from omicllm.nn.kmer_bert_scores import class_margin, integrated_gradients, received_attention


@pytest.fixture(scope="module")
def bert():
    torch.manual_seed(0)
    return KmerBert(69, d_model=16, n_layers=2, n_heads=2, d_ff=24, dropout=0.1, n_classes=3).eval()


@pytest.fixture(scope="module")
def ids():
    rng = np.random.default_rng(0)
    rows = np.zeros((3, 12), dtype=np.int64)
    for row, n in zip(rows, (10, 6, 4), strict=True):
        row[0], row[n + 1] = 2, 3
        row[1 : n + 1] = rng.integers(5, 69, n)
    rows[1, 3] = 1  # an unknown word
    return torch.from_numpy(rows)


def test_attention_is_that_of_transformers(bert, ids):
    from transformers import BertForMaskedLM

    config = type(bert.lm.config).from_dict(bert.lm.config.to_dict())
    eager = BertForMaskedLM._from_config(config, attn_implementation="eager").eval()
    eager.load_state_dict(bert.lm.state_dict())
    mask = (ids != 0).long()
    with torch.inference_mode():
        layers = eager.bert(ids, attention_mask=mask, output_attentions=True).attentions
    got = received_attention(bert, ids).numpy()
    for i, n in enumerate((10, 6, 4)):
        own = layers[-1][i].sum(dim=0).numpy()[1 : n + 1, 1 : n + 1].mean(axis=0)
        np.testing.assert_allclose(got[i, 1 : n + 1], own, atol=1e-5)
        assert got[i, 0] == 0 and (got[i, n + 1 :] == 0).all()


def test_attributions_add_up_to_the_score(bert, ids):
    words = bert.lm.bert.embeddings.word_embeddings.weight.detach()
    kept = ((ids >= 5) | (ids == 1)).unsqueeze(-1)
    mask = (ids != 0).long()
    start = torch.where(kept, words[5:].mean(dim=0), words[ids])
    with torch.inference_mode():
        ends = [class_margin(bert, x, mask, kept, 2) for x in (start, words[ids])]
        scores = bert.class_scores(ids)
    np.testing.assert_allclose(ends[1], scores[:, 2] - scores[:, :2].mean(dim=1), atol=1e-5)
    got = integrated_gradients(bert, ids, 2, n_steps=64)
    np.testing.assert_allclose(got.sum(dim=1), ends[1] - ends[0], atol=1e-4)
    assert (got[~kept[..., 0]] == 0).all()
    assert all(p.grad is None for p in bert.parameters())
