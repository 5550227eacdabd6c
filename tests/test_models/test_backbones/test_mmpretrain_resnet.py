import pytest

pytest.importorskip('mmpretrain')

from mmpretrain.registry import MODELS


@pytest.mark.parametrize('name', ['ResNet', 'ResNeXt', 'ResNet_CIFAR'])
def test_layer_wise_decay_takes_the_last_block_of_the_stage(name):
    options = dict(depth=50, base_channels=32)
    plain = MODELS.build(dict(type=name, **options))
    entry = dict(type='BAM', reduction=4)
    attention = [entry, dict(entry, position='residual', postfix='_2')]
    network = MODELS.build(
        dict(type=f'BA2M{name}', attention=attention, **options)
    )
    expected = plain.get_layer_depth
    depth = network.get_layer_depth
    prefix = 'backbone.'
    names = {key for key, _ in network.named_parameters(prefix[:-1])}
    for stage, last_block in ((1, 2), (2, 3), (3, 5), (4, 2)):
        stage = f'backbone.layer{stage}'
        last = expected(f'{stage}.{last_block}.conv1.weight', prefix)
        for child in ('ba2m', 'bam'):
            ours = f'{stage}.{child}.channel.1.weight'
            assert ours in names
            assert depth(ours, prefix) == last
        first = expected(f'{stage}.0.conv1.weight', prefix)
        assert depth(f'{stage}.0.bam_2.channel.1.weight', prefix) == first
    for key, _ in plain.named_parameters(prefix[:-1]):
        assert depth(key, prefix) == expected(key, prefix)
    assert depth('head.fc.weight', prefix) == expected(
        'head.fc.weight', prefix
    )
