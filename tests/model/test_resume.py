"""Training that is killed goes on from its last checkpoint and ends as if it had not been."""

from __future__ import annotations

import numpy as np
import pytest
from model.test_genemask import TINY, made

import omicllm as ol


class Stop(BaseException):
    """What ends a process, for a test."""


def train(folder, *, resume=False, stop_after=None):
    import lightning.pytorch as pl

    class After(pl.Callback):
        def on_train_epoch_end(self, trainer, plan):
            if trainer.current_epoch + 1 == stop_after:
                self.due = True

        def on_train_batch_start(self, *_):
            if getattr(self, "due", False):
                raise Stop

    adata = made()
    ol.model.GeneMaskLM.setup_anndata(adata)
    model = ol.model.GeneMaskLM(adata, **TINY)
    options = {"callbacks": [After()]} if stop_after else {}
    model.pretrain(
        max_steps=8, batch_size=8, max_tokens=20, checkpoint_dir=folder, resume=resume, **options
    )
    return model


def test_pretraining_resumes(tmp_path):
    whole = train(tmp_path / "a")
    with pytest.raises(Stop):
        train(tmp_path / "b", stop_after=5)
    resumed = train(tmp_path / "b", resume=True)
    loss, rest = (
        m.history_["pretrain_loss"].to_numpy(dtype=float).ravel() for m in (whole, resumed)
    )
    assert len(loss) == 8 and len(rest) == 3
    np.testing.assert_allclose(rest, loss[5:], rtol=1e-5)
    for name, value in whole.module.state_dict().items():
        np.testing.assert_allclose(
            resumed.module.state_dict()[name].numpy(), value.numpy(), atol=1e-6, err_msg=name
        )
    assert [p.name for p in (tmp_path / "b" / "pretrain").iterdir()] == ["last.ckpt"]


def test_without_a_checkpoint_it_begins(tmp_path):
    model = train(tmp_path / "new", resume=True)
    assert len(model.history_["pretrain_loss"]) == 8
