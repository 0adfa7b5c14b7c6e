"""Published encoders of histology: their shapes, colours, licences, and how their weights load."""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import torch

from omicllm.nn.patch_encoder import IMAGENET
from omicllm.nn.vision_transformer import VisionTransformer, ViTConfig

if TYPE_CHECKING:
    from collections.abc import Sequence

_BIOPTIMUS = ((0.707223, 0.578729, 0.703617), (0.211883, 0.230117, 0.177517))
_OPENAI = ((0.48145466, 0.4578275, 0.40821073), (0.26862954, 0.26130258, 0.27577711))


@dataclass(frozen=True)
class FoundationEncoder:
    """A published encoder.

    Attributes
    ----------
    config
        Shape of the transformer.
    source
        Where its authors publish the weights.
    licence
        Their terms, as declared there in 2026; read them before use.
    colours
        Mean and standard deviation of its input.
    layout
        Naming of the tensors in the published file: ``timm``, ``vit`` or ``clip`` (transformers),
        or ``conch``.
    """

    config: ViTConfig
    source: str
    licence: str
    colours: tuple[Sequence[float], Sequence[float]] = IMAGENET
    layout: str = "timm"


def _giant(patch: int, **more: Any) -> ViTConfig:
    return ViTConfig(1536, 40, 24, 8192, patch=patch, gated=True, **more)


_REGISTERS: dict[str, Any] = {"gated": True, "places_for_prefix": False}
_HUGE: dict[str, Any] = {"gated": True, "pool": "cls+mean"}
#: Encoders that :func:`omicllm.pp.image_features` knows by name, given ``weights=``.
FOUNDATION_ENCODERS: dict[str, FoundationEncoder] = {
    "uni": FoundationEncoder(
        ViTConfig(1024, 24, 16, 4096, patch=16), "MahmoodLab/UNI", "CC-BY-NC-ND-4.0"
    ),
    "uni2_h": FoundationEncoder(
        ViTConfig(1536, 24, 24, 8192, registers=8, **_REGISTERS),
        "MahmoodLab/UNI2-h",
        "CC-BY-NC-ND-4.0",
    ),
    "hoptimus0": FoundationEncoder(
        _giant(14, registers=4, places_for_prefix=False),
        "bioptimus/H-optimus-0",
        "Apache-2.0",
        _BIOPTIMUS,
    ),
    "hoptimus1": FoundationEncoder(
        _giant(14, registers=4, places_for_prefix=False),
        "bioptimus/H-optimus-1",
        "CC-BY-NC-ND-4.0",
        _BIOPTIMUS,
    ),
    "h0_mini": FoundationEncoder(
        ViTConfig(768, 12, 12, 4096, registers=4, **_REGISTERS),
        "bioptimus/H0-mini",
        "CC-BY-NC-ND-4.0",
        _BIOPTIMUS,
    ),
    "virchow": FoundationEncoder(
        ViTConfig(1280, 32, 16, 6832, **_HUGE), "paige-ai/Virchow", "Apache-2.0"
    ),
    "virchow2": FoundationEncoder(
        ViTConfig(1280, 32, 16, 6832, registers=4, **_HUGE), "paige-ai/Virchow2", "CC-BY-NC-ND-4.0"
    ),
    "gigapath": FoundationEncoder(
        _giant(16), "prov-gigapath/prov-gigapath", "Apache-2.0, non-commercial conditions"
    ),
    "phikon": FoundationEncoder(
        ViTConfig(768, 12, 12, 3072, patch=16, scale=False, eps=1e-12),
        "owkin/phikon",
        "non-commercial (Owkin)",
        IMAGENET,
        "vit",
    ),
    "plip": FoundationEncoder(
        ViTConfig(768, 12, 12, 3072, patch=32, scale=False, eps=1e-5, clip=True),
        "vinid/plip",
        "non-commercial",
        _OPENAI,
        "clip",
    ),
    "conch": FoundationEncoder(
        ViTConfig(768, 12, 12, 3072, patch=16, image=448, scale=False, pool="attention"),
        "MahmoodLab/CONCH",
        "CC-BY-NC-ND-4.0",
        IMAGENET,
        "conch",
    ),
}


def load_encoder(
    name: str, state: dict[str, torch.Tensor], *, where: str = "the file"
) -> VisionTransformer:
    """Build an encoder from the tensors of its published file.

    Parameters
    ----------
    name
        Key of :data:`FOUNDATION_ENCODERS`.
    state
        Tensors by their published names.
    where
        Name of the file, for messages.

    Returns
    -------
    The network in evaluation mode.

    Raises
    ------
    ValueError
        Tensors are missing, left over, or of another shape: weights of another architecture.
    """
    known = FOUNDATION_ENCODERS[name]
    state = _renamed(state, known.layout)
    with torch.device("meta"):  # shapes are compared before a gigabyte is made
        model = VisionTransformer(known.config)
    expected = {k: tuple(v.shape) for k, v in model.state_dict().items()}
    wrong = {
        "missing": [k for k in expected if k not in state],
        "left over": [k for k in state if k not in expected],
        "of another shape": [
            k for k, shape in expected.items() if k in state and tuple(state[k].shape) != shape
        ],
    }
    if any(wrong.values()):
        detail = ", ".join(f"{len(v)} {what} ({v[0]} ...)" for what, v in wrong.items() if v)
        msg = (
            f"{where} does not hold the weights of {name!r} ({known.source}): of {len(expected)} "
            f"tensors, {detail}."
        )
        raise ValueError(msg)
    model.load_state_dict(state, strict=True, assign=True)
    return model.float().eval().requires_grad_(requires_grad=False)


_VIT_NAMES = (
    (r"^vit\.", ""),
    (r"^embeddings\.cls_token", "cls_token"),
    (r"^embeddings\.position_embeddings", "pos_embed"),
    (r"^embeddings\.patch_embeddings\.projection", "patch_embed.proj"),
    (r"^encoder\.layer\.(\d+)\.", r"blocks.\1."),
    (r"\.attention\.attention\.(query|key|value)", r".attn.\1"),
    (r"\.attention\.output\.dense", ".attn.proj"),
    (r"\.intermediate\.dense", ".mlp.fc1"),
    (r"\.output\.dense", ".mlp.fc2"),
    (r"\.layernorm_before", ".norm1"),
    (r"\.layernorm_after", ".norm2"),
    (r"^layernorm\.", "norm."),
)
_CLIP_NAMES = (
    (r"^vision_model\.", ""),
    (r"^embeddings\.class_embedding", "cls_token"),
    (r"^embeddings\.position_embedding\.weight", "pos_embed"),
    (r"^embeddings\.patch_embedding", "patch_embed.proj"),
    (r"^pre_layrnorm", "norm_pre"),
    (r"^post_layernorm", "norm"),
    (r"^encoder\.layers\.(\d+)\.", r"blocks.\1."),
    (r"\.self_attn\.q_proj", ".attn.query"),
    (r"\.self_attn\.k_proj", ".attn.key"),
    (r"\.self_attn\.v_proj", ".attn.value"),
    (r"\.self_attn\.out_proj", ".attn.proj"),
    (r"\.layer_norm(\d)", r".norm\1"),
)


def _renamed(state: dict[str, torch.Tensor], layout: str) -> dict[str, torch.Tensor]:
    """Tensors under timm's names; what belongs to other parts of a published model is dropped."""
    if layout == "timm":
        # Heads that some files carry along are no part of the encoder.
        return {k: v for k, v in state.items() if not k.startswith(("head.", "fc_norm."))}
    if layout == "conch":
        visual = {k.removeprefix("visual."): v for k, v in state.items() if k.startswith("visual.")}
        visual_parts = ("trunk.", "attn_pool_contrast.", "ln_contrast.")
        return {
            k.removeprefix("trunk."): v for k, v in visual.items() if k.startswith(visual_parts)
        }
    out: dict[str, torch.Tensor] = {}
    for key, value in state.items():
        if layout == "clip" and key.startswith(("text", "logit", "visual_projection")):
            continue
        if key.endswith("position_ids") or "pooler." in key:
            continue
        name = key
        for pattern, replacement in _VIT_NAMES if layout == "vit" else _CLIP_NAMES:
            name = re.sub(pattern, replacement, name)
        out[name] = value
    for name in [k for k in out if ".attn.query." in k]:
        parts = [out.pop(name.replace("query", p), None) for p in ("query", "key", "value")]
        if any(p is None for p in parts):
            continue
        out[name.replace("query", "qkv")] = torch.cat(parts)
    if layout == "clip" and {"cls_token", "pos_embed"} <= set(out):
        out["cls_token"] = out["cls_token"].reshape(1, 1, -1)
        out["pos_embed"] = out["pos_embed"][None]
    return out
