import keras
import numpy as np
import pytest

from glavitu.metrics import ImageIoU, focal_loss, training_metrics


def one_hot(classes):
    return np.eye(2, dtype=np.float32)[np.asarray(classes)]


def probabilities(glacier):
    glacier = np.asarray(glacier, np.float32)
    return np.stack([1 - glacier, glacier], -1)


def test_focal_loss_is_summed_over_classes_and_averaged_over_pixels():
    truth, found = one_hot([[[1, 0]]]), probabilities([[[0.8, 0.3]]])
    # -(1 - 0.8)^2 ln 0.8 = 0.0089257; -(1 - 0.7)^2 ln 0.7 = 0.0321007; their mean 0.0205132
    assert float(focal_loss()(truth, found)) == pytest.approx(0.0205132, abs=1e-6)


def test_unlabelled_pixels_do_not_count_in_the_loss():
    truth, found = one_hot([[[1, 0]]]), probabilities([[[0.8, 0.3]]])
    truth[0, 0, 1] = 0
    weights = np.array([[[1.0, 0.0]]], np.float32)
    assert float(focal_loss()(truth, found, weights)) == pytest.approx(0.0089257, abs=1e-6)
    assert float(focal_loss()(truth, found, weights * 0)) == 0


def test_iou_is_the_mean_over_images_with_epsilon():
    truth = one_hot([[[1, 1, 0, 0]], [[0, 0, 0, 0]]])
    found = probabilities([[[0.9, 0.2, 0.7, 0.1]], [[0.1, 0.1, 0.1, 0.1]]])
    metric = ImageIoU(1)
    metric.update_state(truth, found)
    # image 1: tp 1, fn 1, fp 1 -> 1/3; image 2: nothing there and nothing found -> eps/eps = 1
    assert float(metric.result()) == pytest.approx((1 / 3 + 1) / 2, abs=1e-6)


def test_iou_leaves_out_unlabelled_pixels_and_images():
    truth = one_hot([[[1, 1, 0, 0]], [[0, 0, 0, 0]]])
    found = probabilities([[[0.9, 0.2, 0.7, 0.1]], [[0.9, 0.9, 0.9, 0.9]]])
    metric = ImageIoU(1)
    metric.update_state(truth, found, np.array([[[1, 1, 0, 1]], [[0, 0, 0, 0]]], np.float32))
    assert float(metric.result()) == pytest.approx(1 / 2, abs=1e-6)


@pytest.mark.parametrize("dtype", ["bool", "int32", "float32"])
def test_iou_takes_weights_of_any_type(dtype):
    truth, found = one_hot([[[1, 1, 0, 0]]]), probabilities([[[0.9, 0.2, 0.7, 0.1]]])
    metric = ImageIoU(1)
    metric.update_state(truth, found, np.array([[[1, 1, 0, 1]]], dtype))
    assert float(metric.result()) == pytest.approx(1 / 2, abs=1e-6)


def test_metrics_over_batches_are_those_of_all_images():
    rng = np.random.default_rng(0)
    truth, found = one_hot(rng.integers(0, 2, (6, 8, 8))), probabilities(rng.random((6, 8, 8)))
    whole, parts = ImageIoU(1), ImageIoU(1)
    whole.update_state(truth, found)
    for i in (0, 3):
        parts.update_state(truth[i : i + 3], found[i : i + 3])
    assert float(whole.result()) == pytest.approx(float(parts.result()), abs=1e-6)


def test_log_names_are_the_published_ones():
    names = [metric.name for metric in training_metrics(2, "output_")]
    assert names == [f"output_{m}" for m in ["accuracy"]] + [
        f"output_{m}_{c}" for c in (0, 1) for m in ("precision", "recall", "iou")
    ]


def test_the_metric_can_be_saved_with_a_model():
    config = keras.saving.serialize_keras_object(ImageIoU(1, name="iou_1"))
    assert keras.saving.deserialize_keras_object(config).class_id == 1
