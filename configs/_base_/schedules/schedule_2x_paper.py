# The paper's 24 epochs on COCO: SGD, lr 0.01, stepped at epochs 16 and 22.
#
# It names no batch size, but says that MMDetection's other settings are kept.
# Those are lr 0.02 for 16 images a step, 0.02 / 16 = 0.00125 an image, so by
# the linear rule 0.01 is for 0.01 / 0.00125 = 8 images a step. The paper's
# baselines agree: 39.4 and 40.4 box AP with ResNet-101 (Tables XIV and XV) are
# what its model zoo of 2019 listed for this schedule at 0.02 for 16 images.
# For another batch, let train.py --auto-scale-lr scale the rate.
_base_ = 'mmdet::_base_/schedules/schedule_2x.py'

optim_wrapper = dict(optimizer=dict(lr=0.01))
auto_scale_lr = dict(base_batch_size=8)
