"""Loss and metrics of the published recipe."""

from glavitu.backend import keras, ops


def focal_loss():
    """Return the focal loss with gamma 2: summed over classes, mean over labelled pixels."""
    return keras.losses.CategoricalFocalCrossentropy(
        alpha=1.0, gamma=2.0, reduction="mean_with_sample_weight"
    )


@keras.saving.register_keras_serializable("glavitu")
class ImageIoU(keras.metrics.Mean):
    """Mean over images of (tp + eps) / (tp + fp + fn + eps) of one class.

    Takes one-hot labels and probabilities (batch, y, x, class) and weights (batch, y, x); images
    without any labelled pixel do not count.
    """

    def __init__(self, class_id, name=None, dtype=None):
        super().__init__(name=name, dtype=dtype)
        self.class_id = class_id

    def update_state(self, y_true, y_pred, sample_weight=None):
        """Add a batch."""
        truth = ops.cast(ops.argmax(y_true, -1) == self.class_id, "float32")
        found = ops.cast(ops.argmax(y_pred, -1) == self.class_id, "float32")
        weight = ops.ones_like(truth)
        if sample_weight is not None:
            weight = ops.cast(sample_weight, "float32")
        intersection = ops.sum(weight * truth * found, (1, 2))
        union = ops.sum(weight * ops.maximum(truth, found), (1, 2))
        eps = keras.config.epsilon()
        labelled = ops.cast(ops.any(weight > 0, (1, 2)), "float32")
        return super().update_state((intersection + eps) / (union + eps), sample_weight=labelled)

    def get_config(self):
        """Return the arguments to make the metric again."""
        return super().get_config() | {"class_id": self.class_id}


def training_metrics(classes, prefix=""):
    """Return accuracy, and precision, recall and IoU per class, named as in the published logs.

    Of patches that were zoomed, labels are between 0 and 1 along the edges of glaciers. Keras'
    precision and recall take such a pixel for one of either class, so that in training they are
    not quite those of the validation.
    """
    metrics = [keras.metrics.CategoricalAccuracy(name=f"{prefix}accuracy")]
    for c in range(classes):
        metrics += [
            keras.metrics.Precision(class_id=c, name=f"{prefix}precision_{c}"),
            keras.metrics.Recall(class_id=c, name=f"{prefix}recall_{c}"),
            ImageIoU(c, name=f"{prefix}iou_{c}"),
        ]
    return metrics
