"""AdamW with one operation for each variable and step; Keras' takes a dozen."""

from typing import Any

from tlcli import backbones


def adamw(rate: float, weight_decay: float) -> Any:
    """Keras' optimizer AdamW, whose steps are the same but for rounding."""
    import tensorflow as tf

    class AdamW(backbones.keras_module().optimizers.AdamW):  # type: ignore[misc]
        def _apply_weight_decay(self, variables: Any) -> None:
            """Each variable's own step does it, in two passes over its memory rather than three."""

        def update_step(self, gradient: Any, variable: Any, learning_rate: Any) -> None:
            place = self._get_variable_index(variable)
            step = tf.cast(self.iterations.value + 1, variable.dtype)
            rate = tf.cast(learning_rate, variable.dtype)
            if self._use_weight_decay(variable):
                variable.assign_sub(variable * (rate * self.weight_decay))
            tf.raw_ops.ResourceApplyAdam(
                var=variable.handle,
                m=self._momentums[place].value.handle,
                v=self._velocities[place].value.handle,
                beta1_power=tf.pow(tf.cast(self.beta_1, variable.dtype), step),
                beta2_power=tf.pow(tf.cast(self.beta_2, variable.dtype), step),
                lr=rate,
                beta1=self.beta_1,
                beta2=self.beta_2,
                epsilon=self.epsilon,
                grad=gradient,
            )

    return AdamW(rate, weight_decay=weight_decay)
