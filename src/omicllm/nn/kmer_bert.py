"""A BERT on k-mer tokens, with the two heads it is trained with."""

from __future__ import annotations

from typing import Any

import torch
from torch import nn


class KmerBert(nn.Module):
    """BERT encoder (transformers), masked-token head, and a linear head on the mean of tokens.

    Parameters
    ----------
    vocab_size
        Number of token ids.
    d_model, n_layers, n_heads, d_ff
        Width, layers, attention heads, width of the feed-forward part.
    dropout
        Of hidden states and attention.
    n_classes
        Outputs of the linear head; 0 for none.
    """

    def __init__(
        self,
        vocab_size: int,
        *,
        d_model: int,
        n_layers: int,
        n_heads: int,
        d_ff: int,
        dropout: float,
        n_classes: int = 0,
    ) -> None:
        super().__init__()
        from transformers import BertConfig, BertForMaskedLM

        config = BertConfig(
            vocab_size=vocab_size,
            hidden_size=d_model,
            num_hidden_layers=n_layers,
            num_attention_heads=n_heads,
            intermediate_size=d_ff,
            hidden_dropout_prob=dropout,
            attention_probs_dropout_prob=dropout,
            max_position_embeddings=512,
            pad_token_id=0,
            attn_implementation="sdpa",
        )
        self.lm: Any = BertForMaskedLM(config)
        self.dropout = nn.Dropout(dropout)
        self.head: nn.Linear | None = None
        if n_classes:
            self.add_head(n_classes)

    def add_head(self, n_classes: int) -> None:
        """Put a new linear head on the mean of tokens."""
        like = self.lm.bert.embeddings.word_embeddings.weight
        self.head = nn.Linear(like.shape[1], n_classes).to(like.device)

    def hidden(self, ids: torch.Tensor) -> torch.Tensor:
        """Last hidden states (n, length, d_model); pads (id 0) are not attended to."""
        mask = (ids != 0).long()
        return self.lm.bert(input_ids=ids, attention_mask=mask).last_hidden_state

    def pooled(self, ids: torch.Tensor) -> torch.Tensor:
        """Mean hidden state of the k-mers of each row, special tokens left out: (n, d_model)."""
        kept = ((ids >= 5) | (ids == 1)).unsqueeze(-1)
        hidden = self.hidden(ids)
        return (hidden * kept).sum(dim=1) / kept.sum(dim=1).clamp(min=1)

    def masked_loss(self, ids: torch.Tensor, labels: torch.Tensor) -> torch.Tensor:
        """Mean cross-entropy over tokens whose label is not negative."""
        at = labels >= 0
        # The vocabulary is large: its scores are made for masked tokens only.
        scores = self.lm.cls(self.hidden(ids)[at])
        return nn.functional.cross_entropy(scores.float(), labels[at])

    def class_scores(self, ids: torch.Tensor) -> torch.Tensor:
        """Scores of the classes (n, n_classes)."""
        if self.head is None:
            msg = "There is no head: call add_head(n_classes)."
            raise RuntimeError(msg)
        return self.head(self.dropout(self.pooled(ids)))
