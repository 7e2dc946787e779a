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


def triplet(vectors: Any, columns: Any, proxies: Any, margin: float = 0.2) -> tuple[Any, Any]:
    """The mean of [d(a, p) − d(a, n) + margin]₊ over the terms that are not 0; and their number.

    d is the squared distance. Of each pair (a, p) of a class the negative n is semi-hard: the
    nearest that is further away than p, or the furthest where none is.

    Args:
        vectors: (n, M) of length 1.
        columns: (n,) their classes.
        proxies: not used.
        margin: in squared distance.

    Source: Schroff, Kalenichenko & Philbin 2015, "FaceNet".
    """
    import tensorflow as tf

    distances = 2 - 2 * tf.matmul(vectors, vectors, transpose_b=True)
    pairs, negative = _pairs(columns)
    positive, other = distances[:, :, None], distances[:, None, :]
    semi_hard = tf.logical_and(negative[:, None, :], other > positive)
    nearest = tf.reduce_min(tf.where(semi_hard, other, _FAR), axis=2)
    furthest = tf.reduce_max(tf.where(negative, distances, -_FAR), axis=1, keepdims=True)
    chosen = tf.where(tf.reduce_any(semi_hard, axis=2), nearest, furthest)
    terms = tf.where(pairs, tf.nn.relu(distances - chosen + margin), 0.0)
    count = tf.math.count_nonzero(terms, dtype=tf.float32)
    return tf.reduce_sum(terms) / tf.maximum(count, 1.0), count


def multi_similarity(
    vectors: Any,
    columns: Any,
    proxies: Any,
    alpha: float = 2.0,
    beta: float = 50.0,
    base: float = 0.5,
    slack: float = 0.1,
) -> tuple[Any, Any]:
    """The mean over images of ln(1 + Σ_P e^−α(s−λ))/α + ln(1 + Σ_N e^β(s−λ))/β; how many pairs.

    P and N are the pairs of an image that are informative: a positive less similar than its most
    similar negative and the slack, a negative more similar than its least similar positive less
    the slack.

    Args:
        vectors: (n, M) of length 1.
        columns: (n,) their classes.
        proxies: not used.
        alpha: α
        beta: β
        base: λ
        slack: ε

    Source: Wang et al. 2019, "Multi-Similarity Loss with General Pair Weighting for Deep Metric
    Learning", equations 11 to 13.
    """
    import tensorflow as tf

    similar = tf.matmul(vectors, vectors, transpose_b=True)
    positive, negative = _pairs(columns)
    least = tf.reduce_min(tf.where(positive, similar, _FAR), axis=1, keepdims=True)
    most = tf.reduce_max(tf.where(negative, similar, -_FAR), axis=1, keepdims=True)
    positive = tf.logical_and(positive, similar < most + slack)
    negative = tf.logical_and(negative, similar > least - slack)
    drawn = tf.reduce_sum(tf.where(positive, tf.exp(-alpha * (similar - base)), 0.0), axis=1)
    pushed = tf.reduce_sum(tf.where(negative, tf.exp(beta * (similar - base)), 0.0), axis=1)
    losses = tf.math.log1p(drawn) / alpha + tf.math.log1p(pushed) / beta
    count = tf.math.count_nonzero(tf.logical_or(positive, negative), dtype=tf.float32)
    return tf.reduce_mean(losses), count


def proxy_anchor(
    vectors: Any, columns: Any, proxies: Any, scale: float = 32.0, margin: float = 0.1
) -> tuple[Any, Any]:
    """Means of ln(1 + Σ e^−α(s−δ)) over own proxies, of ln(1 + Σ e^α(s+δ)) over all; n terms.

    s is the similarity of a proxy with an image. The first sum is over the images of its class, and
    the mean over the proxies that have some; the second over the images of other classes.

    Args:
        vectors: (n, M) of length 1.
        columns: (n,) their classes.
        proxies: (C, M), one a class, of any length.
        scale: α
        margin: δ

    Source: Kim et al. 2020, "Proxy Anchor Loss for Deep Metric Learning", equation 4.
    """
    import tensorflow as tf

    similar = tf.matmul(vectors, tf.math.l2_normalize(proxies, axis=1), transpose_b=True)
    own = tf.one_hot(columns, tf.shape(proxies)[0], on_value=True, off_value=False, dtype=tf.bool)
    drawn = tf.reduce_sum(tf.where(own, tf.exp(-scale * (similar - margin)), 0.0), axis=0)
    pushed = tf.reduce_sum(tf.where(own, 0.0, tf.exp(scale * (similar + margin))), axis=0)
    having = tf.reduce_sum(tf.cast(tf.reduce_any(own, axis=0), tf.float32))
    loss = tf.reduce_sum(tf.math.log1p(drawn)) / having + tf.reduce_mean(tf.math.log1p(pushed))
    return loss, tf.cast(tf.size(columns), tf.float32)


def softmax_margin(
    vectors: Any, columns: Any, proxies: Any, scale: float = 16.0, margin: float = 0.2
) -> tuple[Any, Any]:
    """The mean cross-entropy of σ(s − m) for the own class and σs for others; n terms.

    s is the similarity with the proxy of a class.

    Args:
        vectors: (n, M) of length 1.
        columns: (n,) their classes.
        proxies: (C, M), one a class, of any length.
        scale: σ
        margin: m

    Source: Wang et al. 2018, "CosFace: Large Margin Cosine Loss for Deep Face Recognition",
    equation 4.
    """
    import tensorflow as tf

    similar = tf.matmul(vectors, tf.math.l2_normalize(proxies, axis=1), transpose_b=True)
    own = tf.one_hot(columns, tf.shape(proxies)[0])
    losses = tf.nn.softmax_cross_entropy_with_logits(own, scale * (similar - margin * own))
    return tf.reduce_mean(losses), tf.cast(tf.size(columns), tf.float32)


_FAR = 1e9
"""Beyond every distance and similarity."""


def _pairs(columns: Any) -> tuple[Any, Any]:
    """(n, n) which pairs are two images of one class, and which are of different ones."""
    import tensorflow as tf

    same = columns[:, None] == columns[None, :]
    alone = tf.eye(tf.shape(columns)[0], dtype=tf.bool)
    return tf.logical_and(same, tf.logical_not(alone)), tf.logical_not(same)
