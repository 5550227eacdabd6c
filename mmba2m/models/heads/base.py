"""What the heads that train across the batch share."""

#: Children of these heads that only training needs; the option that
#: configures one has its name
TRAINING_ONLY = ('batch_former', 'batch_weights')
