# Platelets have 15 pixels at this size. Of the anchors of 32 and more, none
# overlaps one by the 0.3 that RPN asks for; these begin with 16.
_base_ = './faster-rcnn_r50_thin_bccd.py'

model = dict(rpn_head=dict(anchor_generator=dict(scales=[4])))
val_evaluator = dict(classwise=True)
test_evaluator = val_evaluator
