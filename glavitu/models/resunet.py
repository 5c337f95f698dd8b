"""ResU-Net: a U-Net of residual blocks (Zhang et al., 2018)."""

from glavitu.backend import layers
from glavitu.layers import fusion, unet_decoder, unet_encoder


def resunet(sources, *, classes=2, fusion_filters=64, steps=4, filters=64, dropout=0.1):
    """Fusion -> residual encoder -> decoder -> softmax."""
    x = fusion(sources, fusion_filters, dropout=dropout)
    x, skips = unet_encoder(x, steps, filters, dropout=dropout, name="resunet")
    x = unet_decoder(x, skips, dropout=dropout, name="resunet")
    return {
        "output": layers.Dense(classes, activation="softmax", name="output", dtype="float32")(x)
    }
