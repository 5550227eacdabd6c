"""What the heads that train across the batch share."""

from mmba2m.models.host_classes import extend_class, find_class

#: Children of these heads that only training needs; the option that
#: configures one has its name
TRAINING_ONLY = ('batch_former', 'batch_weights')


def make_head(base: str | type, mixin: type) -> type:
    """Makes the class of a host's head with a mixin before it; it pickles.

    Args:
        base: As of :func:`AttentionBackbone`.
        mixin: What is put before it.

    Raises:
        ValueError: If there is no such head.
    """
    return extend_class(find_class(base), mixin)
