"""TransU-Net: a U-Net with a transformer at its bottom (Chen et al., 2021)."""

from glavitu.backend import layers
from glavitu.layers import fusion, unet_decoder, unet_encoder, vit_encoder


def transunet(
    sources,
    *,
    classes=2,
    fusion_filters=64,
    steps=3,
    filters=64,
    embed_dim=64,
    mlp_dim=256,
    blocks=12,
    heads=4,
    dropout=0.1,
):
    """Fusion = F; encoder -> pool -> ViT -> up -> decoder with the skips; + F -> softmax."""
    fused = fusion(sources, fusion_filters, dropout=dropout)
    x, skips = unet_encoder(fused, steps, filters, dropout=dropout, name="encoder")
    bottom_filters = x.shape[-1]
    x = layers.MaxPooling2D(2, name="vit_pool")(x)
    x = vit_encoder(
        x,
        patch=1,
        embed_dim=embed_dim,
        mlp_dim=mlp_dim,
        blocks=blocks,
        heads=heads,
        dropout=dropout,
        name="vit",
    )
    x = layers.Dense(bottom_filters, name="bottom_dense")(x)
    x = layers.UpSampling2D(2, name="bottom_up")(x)
    x = unet_decoder(x, skips, dropout=dropout, name="decoder")
    x = layers.Dense(fusion_filters, name="decoder_dense")(x)
    x = layers.Add(name="sum")([fused, x])
    return {
        "output": layers.Dense(classes, activation="softmax", name="output", dtype="float32")(x)
    }
