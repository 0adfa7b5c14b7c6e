"""What a masked autoencoder may be made of."""

from __future__ import annotations

from typing import Any

__all__ = ["check_config"]

_CHOICES = {"decoder": ("image", "token", "embedding"), "positions": ("learned", "fixed")}
_COUNTS = ("patch_size", "n_heads", "depth", "n_latent", "n_pools", "decoder_depth")


def check_config(config: dict[str, Any]) -> None:
    """Check the parameters of :class:`~omicllm.nn.MaskedAutoencoder`.

    Raises
    ------
    ValueError
        Naming the first parameter outside its range, and the range.
    """
    for name, choices in _CHOICES.items():
        if config[name] not in choices:
            msg = f"{name} must be one of {', '.join(choices)}; got {config[name]!r}."
            raise ValueError(msg)
    for name in _COUNTS:
        if config[name] < 1:
            msg = f"{name} must be at least 1; got {config[name]}."
            raise ValueError(msg)
    if config["dim"] % config["n_heads"]:
        msg = (
            f"dim must be a multiple of n_heads; got dim={config['dim']}, "
            f"n_heads={config['n_heads']}."
        )
        raise ValueError(msg)
    if not config["mlp_ratio"] > 0:
        msg = f"mlp_ratio must be positive; got {config['mlp_ratio']}."
        raise ValueError(msg)
    if not 0 < config["mask_ratio"] < 1:
        msg = f"mask_ratio must lie between 0 and 1, exclusive; got {config['mask_ratio']}."
        raise ValueError(msg)
