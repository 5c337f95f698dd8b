"""What the ground is, in codes of a layer of tiles, by which scores are split."""

SURFACE = "surface"  # the layer; its codes are `SURFACES` + 10 * `SKY`
SURFACES = {
    "rock": 0,
    "clean ice": 1,
    "debris-covered ice": 2,
    "seasonal snow": 3,
    "water": 4,
    "vegetation": 5,
}
SKY = {"clear": 0, "shadow": 1, "cloud": 2}  # what optical sensors meet
UNKNOWN = 255  # in that layer
