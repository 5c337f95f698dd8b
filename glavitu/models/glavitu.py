"""GlaViTU: a small vision transformer refined by a residual U-Net (Maslov et al., IGARSS 2023)."""

from glavitu.backend import layers
from glavitu.layers import fusion, pup_decoder, unet_decoder, unet_encoder, vit_encoder


def glavitu(
    sources,
    *,
    classes=2,
    fusion_filters=64,
    vit_patch=16,
    embed_dim=64,
    mlp_dim=256,
    blocks=12,
    heads=4,
    decoder_filters=64,
    steps=3,
    filters=64,
    dropout=0.1,
):
    """Fusion = F; A = F + PUP(ViT(F)); heads: softmax(A), and softmax(A + U-Net(A))."""
    fused = fusion(sources, fusion_filters, dropout=dropout)
    x = vit_encoder(
        fused,
        patch=vit_patch,
        embed_dim=embed_dim,
        mlp_dim=mlp_dim,
        blocks=blocks,
        heads=heads,
        dropout=dropout,
        name="setr_vit",
    )
    x = pup_decoder(
        x, decoder_filters, fusion_filters, scale=vit_patch, activation=None, name="setr_pup"
    )
    coarse = layers.Add(name="coarse")([fused, x])

    x, skips = unet_encoder(coarse, steps, filters, dropout=dropout, name="resunet")
    x = unet_decoder(x, skips, dropout=dropout, name="resunet")
    x = layers.Dense(fusion_filters, name="resunet_dense")(x)
    fine = layers.Add(name="fine")([coarse, x])
    return {
        head: layers.Dense(classes, activation="softmax", name=head, dtype="float32")(features)
        for head, features in (("output", fine), ("deepsupervision", coarse))
    }
