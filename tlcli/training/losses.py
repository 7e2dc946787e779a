"""What is minimised: losses on batches of TensorFlow tensors."""

from typing import Any


def nt_xent(first: Any, second: Any, temperature: float) -> tuple[Any, Any]:
    """The loss of two views of n images, and the share of views that find their partner.

    With z the 2n unit vectors and j the partner of i,
    ℓᵢ = −log( exp(zᵢ·zⱼ/τ) / Σ_{k≠i} exp(zᵢ·zₖ/τ) ), the mean over i (NT-Xent, Chen et al. 2020,
    equation 1).

    Args:
        first: (n, P) unit vectors.
        second: (n, P) unit vectors of the other views, in the same order.
        temperature: τ.
    """
    import tensorflow as tf

    views = tf.concat([first, second], axis=0)
    count = tf.shape(first)[0]
    similar = tf.matmul(views, views, transpose_b=True) / temperature
    similar -= 1e9 * tf.eye(2 * count)
    partners = tf.concat([tf.range(count, 2 * count), tf.range(count)], axis=0)
    losses = tf.nn.sparse_softmax_cross_entropy_with_logits(partners, similar)
    found = tf.equal(tf.argmax(similar, axis=1, output_type=tf.int32), partners)
    return tf.reduce_mean(losses), tf.reduce_mean(tf.cast(found, tf.float32))


def distillation(said: Any, logits: Any, temperature: float) -> Any:
    """T²·KL(softmax(said/T) ‖ softmax(logits/T)), the mean over the images.

    Source: Hinton, Vinyals & Dean 2015, "Distilling the Knowledge in a Neural Network".

    Args:
        said: (n, C) logits of the network as it was.
        logits: (n, C) its logits now.
        temperature: T.
    """
    import tensorflow as tf

    wanted = tf.nn.log_softmax(said / temperature)
    given = tf.nn.log_softmax(logits / temperature)
    divergence = tf.reduce_sum(tf.exp(wanted) * (wanted - given), axis=1)
    return temperature**2 * tf.reduce_mean(divergence)
