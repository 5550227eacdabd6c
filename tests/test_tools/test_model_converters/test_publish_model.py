import hashlib
import re

import pytest
import torch

pytestmark = pytest.mark.filterwarnings('ignore:BA2M')


def test_published_is_what_describes_the_network(
    checkpoint, convert, tmp_path
):
    # a name like the input's leaves the input alone
    before = checkpoint.read_bytes()
    report = convert('publish_model', checkpoint, checkpoint)
    assert checkpoint.read_bytes() == before
    (path,) = tmp_path.glob('annealed-*.pth')
    digest = hashlib.sha256(path.read_bytes()).hexdigest()
    # torch.hub checks a download against this part of the name
    assert path.name == f'annealed-{digest[:8]}.pth'
    assert f'wrote {path} ' in report
    dropped = re.search('^dropped: (.*)$', report, re.M)[1].split(', ')
    kept_for_resume = {'ema_state_dict', 'message_hub', 'optimizer'}
    assert {*dropped} == kept_for_resume | {'param_schedulers'}

    source = torch.load(checkpoint, weights_only=False)
    published = torch.load(path, weights_only=True)
    assert set(published) == {'meta', 'state_dict'}
    assert published['meta'] == source['meta']
    assert published['meta']['dataset_meta']['classes'][0] == 'circle'
    assert published['state_dict'].keys() == source['state_dict'].keys()
    for key, value in published['state_dict'].items():
        assert torch.equal(value, source['state_dict'][key])
    # with EMA, the averaged weights are the checkpoint's own
    average = published['state_dict']['backbone.conv1.weight']
    other = source['ema_state_dict']['module.backbone.conv1.weight']
    assert not torch.equal(average, other)
    assert path.stat().st_size < checkpoint.stat().st_size / 2

    # the same network has the same name, which is not overwritten
    message = convert('publish_model', checkpoint, checkpoint, fails=True)
    assert message.endswith(
        f'publish_model: {path} exists already, choose another name'
    )


def test_weights_of_16_bits(checkpoint, convert, tmp_path):
    convert('publish_model', checkpoint, tmp_path / 'half.pth', '--half')
    (path,) = tmp_path.glob('half-*.pth')
    source = torch.load(checkpoint, weights_only=False)['state_dict']
    published = torch.load(path, weights_only=True)['state_dict']
    assert published.keys() == source.keys()
    for key, value in source.items():
        kept = value.half() if value.is_floating_point() else value
        assert published[key].dtype == kept.dtype
        assert torch.equal(published[key], kept)

    torch.save(dict(meta={}, state_dict=dict(a=1e5 * ONE)), path)
    message = convert(
        'publish_model', path, tmp_path / 'b.pth', '--half', fails=True
    )
    assert message.endswith(
        'in 16 bits has 1 weights that are NaN or infinite: a'
    )


ONE, NAN = torch.ones(2), torch.tensor([1, float('nan')])


@pytest.mark.parametrize(
    'content, named',
    [
        (dict(a=ONE), 'has no meta and no state_dict'),
        (
            dict(meta={}, state_dict=dict(a=ONE, b=NAN, c=ONE / 0)),
            '2 weights that are NaN or infinite: b, c',
        ),
        (None, 'in.pth not found'),
    ],
)
def test_what_is_no_trained_network_is_refused(
    content, named, convert, tmp_path
):
    path = tmp_path / 'in.pth'
    if content:
        torch.save(content, path)
    out = tmp_path / 'out.pth'
    message = convert('publish_model', path, out, fails=True)
    assert 'in.pth' in message and named in message
    assert {*tmp_path.iterdir()} <= {path}
