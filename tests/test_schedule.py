import math

import keras
from hypothesis import given
from hypothesis import strategies as st

from glavitu.schedule import plateau, warm_up


def test_warm_up_is_linear_from_zero_and_stays_at_the_peak():
    assert [warm_up(step, 4, 0.8) for step in (0, 1, 2, 4, 9)] == [0, 0.2, 0.4, 0.8, 0.8]


def test_nan_is_never_better():
    assert plateau([math.nan, 0.2, math.nan], reduce_patience=9, stop_patience=9).best == 1


@given(
    st.lists(st.sampled_from([0.1, 0.2, 0.3, 0.4, 0.5]), min_size=1, max_size=40),
    st.integers(1, 6),
    st.integers(1, 9),
)
def test_plateau_agrees_with_keras(scores, reduce_patience, stop_patience):
    model = keras.Sequential([keras.layers.Dense(1)])
    model.compile(keras.optimizers.SGD(1.0))
    callbacks = [
        keras.callbacks.ReduceLROnPlateau(
            "iou", factor=0.5, patience=reduce_patience, mode="max", min_delta=0
        ),
        keras.callbacks.EarlyStopping("iou", patience=stop_patience, mode="max"),
    ]
    for callback in callbacks:
        callback.set_model(model)
        callback.on_train_begin()
    model.stop_training = False
    for epoch, score in enumerate(scores):
        for callback in callbacks:
            callback.on_epoch_end(epoch, {"iou": score})
        if model.stop_training:
            break
    state = plateau(
        scores[: epoch + 1], reduce_patience=reduce_patience, stop_patience=stop_patience
    )
    assert state.stop == model.stop_training
    assert math.isclose(0.5**state.reductions, float(model.optimizer.learning_rate))
    assert state.best == callbacks[1].best_epoch
