"""Which tokens a BERT on k-mers looks at, and which ones its classes rest on."""

from __future__ import annotations

from typing import TYPE_CHECKING

import torch

from omicllm.genome.kmers import N_SPECIAL, UNK

if TYPE_CHECKING:
    from omicllm.nn.kmer_bert import KmerBert


def received_attention(bert: KmerBert, ids: torch.Tensor) -> torch.Tensor:
    """Attention that each token receives in the last layer: (n, length), 0 for special tokens.

    Summed over heads, and averaged over the k-mers that attend, since the classifier reads the
    mean of these (DNABERT's classifier reads ``[CLS]``, and its attention is that of ``[CLS]``).
    """
    mask = ids != 0
    is_word = _kmers(ids)
    with torch.inference_mode():
        states = bert.lm.bert(
            input_ids=ids, attention_mask=mask.long(), output_hidden_states=True
        ).hidden_states[-2]
        attention = bert.lm.bert.encoder.layer[-1].attention.self
        # The weights themselves are not kept by fused attention: they are made again here.
        query, key = (
            f(states).unflatten(-1, (attention.num_attention_heads, -1)).transpose(1, 2)
            for f in (attention.query, attention.key)
        )
        logits = query @ key.transpose(-1, -2) / query.shape[-1] ** 0.5
        weights = logits.masked_fill(~mask[:, None, None, :], -torch.inf).softmax(dim=-1).sum(1)
        is_query = is_word.unsqueeze(-1)
        mean = (weights * is_query).sum(dim=1) / is_query.sum(dim=1).clamp(min=1)
        return mean * is_word


def integrated_gradients(
    bert: KmerBert, ids: torch.Tensor, target: int, *, n_steps: int = 16
) -> torch.Tensor:
    """What each k-mer adds to the score of a class: (n, length), 0 for special tokens.

    The score is that of class `target` less the mean of the other classes. Gradients are
    integrated (midpoint rule, `n_steps` points) along the line from a row of mean k-mer embeddings
    to the embeddings of the row, and multiplied by the way gone; so the values of a row add up to
    the difference of the scores at both ends (Sundararajan et al. 2017, arXiv:1703.01365).
    """
    words = bert.lm.bert.embeddings.word_embeddings
    is_word = _kmers(ids).unsqueeze(-1)
    mask = (ids != 0).long()
    weight = words.weight.detach()
    end = weight[ids]
    start = torch.where(is_word, weight[N_SPECIAL:].mean(dim=0), end)
    total = torch.zeros_like(end)
    with torch.enable_grad():
        for i in range(n_steps):
            point = (start + (i + 0.5) / n_steps * (end - start)).requires_grad_()
            score = class_margin(bert, point, mask, is_word, target).sum()
            total += torch.autograd.grad(score, point)[0]
    return ((end - start) * total / n_steps).sum(dim=-1).detach()


def class_margin(
    bert: KmerBert, embedded: torch.Tensor, mask: torch.Tensor, is_word: torch.Tensor, target: int
) -> torch.Tensor:
    """Score of a class less the mean of the others (n,), from embeddings of tokens."""
    hidden = bert.lm.bert(inputs_embeds=embedded, attention_mask=mask).last_hidden_state
    pooled = (hidden * is_word).sum(dim=1) / is_word.sum(dim=1).clamp(min=1)
    assert bert.head is not None
    scores = bert.head(pooled).float()
    others = (scores.sum(dim=1) - scores[:, target]) / (scores.shape[1] - 1)
    return scores[:, target] - others


def _kmers(ids: torch.Tensor) -> torch.Tensor:
    """Tokens that are k-mers, unknown ones included."""
    return (ids >= N_SPECIAL) | (ids == UNK)
