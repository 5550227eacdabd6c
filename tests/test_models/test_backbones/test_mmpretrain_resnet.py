import pytest

pytest.importorskip('mmpretrain')

from mmba2m.models.backbones.mmpretrain_resnet import BA2MResNet


def test_layer_wise_decay_takes_the_last_block_of_the_stage():
    depth = BA2MResNet(depth=50).get_layer_depth
    for stage, last_block in ((1, 2), (2, 3), (3, 5), (4, 2)):
        name = f'backbone.layer{stage}'
        assert depth(f'{name}.ba2m.channel.1.weight', 'backbone.') == depth(
            f'{name}.{last_block}.conv1.weight', 'backbone.'
        )
