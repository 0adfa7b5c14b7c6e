"""A BERT on k-mer tokens, with the two heads it is trained with."""

from __future__ import annotations

from typing import Any

import numpy as np
import torch
from torch import nn

from omicllm.genome.kmers import CLS, SEP, KmerTokenizer

#: Longest row of tokens, without [CLS] and [SEP].
_TOKENS = 510
#: Bases as the k-mer rooms number them (A 0, T 1, C 2, G 3, else 4), by nucleotide token.
_CODES = np.array([0, 2, 3, 1, 4], dtype=np.uint8)


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
        is_word = ((ids >= 5) | (ids == 1)).unsqueeze(-1)
        hidden = self.hidden(ids)
        return (hidden * is_word).sum(dim=1) / is_word.sum(dim=1).clamp(min=1)

    def masked_loss(self, ids: torch.Tensor, labels: torch.Tensor) -> torch.Tensor:
        """Mean cross-entropy over tokens whose label is not negative."""
        masked = labels >= 0
        # The vocabulary is large: its scores are made for masked tokens only.
        scores = self.lm.cls(self.hidden(ids)[masked])
        return nn.functional.cross_entropy(scores.float(), labels[masked])

    def class_scores(self, ids: torch.Tensor) -> torch.Tensor:
        """Scores of the classes (n, n_classes)."""
        if self.head is None:
            msg = "There is no head: call add_head(n_classes)."
            raise RuntimeError(msg)
        return self.head(self.dropout(self.pooled(ids)))

    @property
    def trunk(self) -> KmerTrunk:
        """The encoder as a genome model, for the verbs that embed sequences."""
        return KmerTrunk(self)


class KmerTrunk(nn.Module):
    """A BERT on k-mers as a :class:`omicllm.nn.GenomeTrunk`.

    A bin is a piece of up to 510 tokens, and its embedding the mean over them; longer sequences
    are cut into pieces of like length, which do not see each other.

    Parameters
    ----------
    bert
        The network.
    name
        Root of what verbs write.
    """

    length_multiple, max_len = 1, None

    def __init__(self, bert: KmerBert, *, name: str = "genemask") -> None:
        super().__init__()
        embeddings = bert.lm.bert.embeddings.word_embeddings.weight
        self.bert, self.name, self.dim = bert, name, int(embeddings.shape[1])
        k = next(k for k in (3, 4, 5, 6) if 5 + 4**k == embeddings.shape[0])
        self.tokenizer = KmerTokenizer(k, other="unknown")
        self.bin_size = _TOKENS + k - 1

    def embed(self, tokens: Any) -> torch.Tensor:
        """Map tokens (n, length), A 0, C 1, G 2, T 3, N 4, padding -1, to (n, bins, dim).

        Raises
        ------
        ValueError
            A piece with fewer bases than a k-mer.
        """
        rows = np.atleast_2d(np.asarray(torch.as_tensor(tokens).cpu()))
        if rows.dtype.kind == "f":
            msg = "A model of k-mers reads tokens, not one-hot rows: no gradient by base."
            raise TypeError(msg)
        n_bins = -(-rows.shape[1] // self.bin_size)
        words: list[np.ndarray] = []
        bins = np.zeros((len(rows), n_bins), dtype=np.int64)
        for i, row in enumerate(rows):
            bases = _CODES[np.minimum(row[row >= 0], 4)]
            pieces = np.array_split(bases, max(1, -(-len(bases) // self.bin_size)))
            # A shorter sequence has fewer pieces: some are the embedding of several bins.
            bins[i] = len(words) + np.arange(n_bins) * len(pieces) // n_bins
            words += [self.tokenizer.from_codes(piece) for piece in pieces]
        if min(map(len, words)) == 0:
            msg = f"A sequence is shorter than a word of {self.tokenizer.k} bases."
            raise ValueError(msg)
        ids = np.zeros((len(words), max(map(len, words)) + 2), dtype=np.int64)
        for out, numbers in zip(ids, words, strict=True):
            out[0], out[len(numbers) + 1] = CLS, SEP
            out[1 : len(numbers) + 1] = numbers
        where = next(self.bert.parameters()).device
        return self.bert.pooled(torch.from_numpy(ids).to(where))[torch.from_numpy(bins).to(where)]
