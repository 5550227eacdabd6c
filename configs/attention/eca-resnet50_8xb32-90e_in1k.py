# The authors' kernels; those of the rule (no kernel_size) are 5, 5, 5 and 7.
_base_ = '../resnet/resnet50_8xb32-90e_in1k.py'

model = dict(
    backbone=dict(
        type='AttentionResNet',
        attention=[
            dict(type='ECA', kernel_size=3, stages=(1, 0, 0, 0)),
            dict(type='ECA', kernel_size=5, stages=(0, 1, 1, 0)),
            dict(type='ECA', kernel_size=7, stages=(0, 0, 0, 1)),
        ],
    )
)
