"""One training step of SPAM on cached features: batch 128, 250 genes, 84 features."""

from __future__ import annotations

import time

import numpy as np
import torch
from _common import table

from omicllm.nn.tissue_fusion import TissueFusion
from omicllm.train._spam import AlignmentPlan, CountPlan, TissueTensors

N, D, G, K, BATCH, STEPS = 4000, 93, 250, 12, 128, 40


def main():
    torch.manual_seed(0)
    rows = []
    counts = torch.poisson(torch.full((N, G), 2.0))
    features = torch.randn(N, D)
    data = TissueTensors(
        features=features, around=features, index=torch.randint(N, (N, K)),
        weight=torch.rand(N, K), genes=torch.randn(N, G), counts=counts,
        total=counts.sum(1) * 2, values=torch.log1p(counts), start=torch.zeros(N, G),
        log_share=torch.full((G + 1,), -6.0), slope=torch.ones(G), level=torch.ones(G),
    )  # fmt: skip
    for tokens in ("multi", "single"):
        axes = torch.linalg.qr(torch.randn(G, 20))[0]
        net = TissueFusion(D, G, axes, tokens=tokens)
        none = np.arange(0)
        train = CountPlan(net, data, none, none, lr=1e-3, weight_decay=0.05, patience=1)
        align = AlignmentPlan(
            net, data, ("gene", "space"), lr=1e-3, weight_decay=0, temperature=0.15
        )
        align._log = lambda *a, **k: None
        for what in ("training", "pretraining (joint)"):
            optimizer = torch.optim.AdamW(net.parameters())
            took = []
            for _ in range(STEPS):
                start = time.perf_counter()
                batch = torch.randint(N, (BATCH,))
                known = torch.rand(BATCH) < 0.5
                if what == "training":
                    loss = train.loss(batch, torch.randn(BATCH, G), known)
                else:
                    loss = align.training_step((batch,), 0)
                optimizer.zero_grad()
                loss.backward()
                optimizer.step()
                took.append(1e3 * (time.perf_counter() - start))
            rows.append(
                {"step": what, "tokens": tokens, "threads": torch.get_num_threads(),
                 "median ms": float(np.median(took)), "fastest ms": min(took),
                 "parameters": sum(p.numel() for p in net.parameters())}
            )  # fmt: skip
    table(rows)


if __name__ == "__main__":
    main()
