"""SETR-B/16: a vision transformer with a progressive upsampling decoder (Zheng et al., 2021)."""

from glavitu.backend import layers
from glavitu.layers import fusion, pup_decoder, vit_encoder


def setr(
    sources,
    *,
    classes=2,
    fusion_filters=64,
    vit_patch=16,
    embed_dim=768,
    mlp_dim=3072,
    blocks=12,
    heads=12,
    decoder_filters=256,
    dropout=0.1,
):
    """Fusion -> ViT -> PUP with softmax before its last upsampling."""
    x = fusion(sources, fusion_filters, dropout=dropout)
    x = vit_encoder(
        x,
        patch=vit_patch,
        embed_dim=embed_dim,
        mlp_dim=mlp_dim,
        blocks=blocks,
        heads=heads,
        dropout=dropout,
        name="setr_vit",
    )
    x = pup_decoder(
        x, decoder_filters, classes, scale=vit_patch, activation="softmax", name="setr_pup"
    )
    return {"output": layers.Activation("linear", name="output", dtype="float32")(x)}
