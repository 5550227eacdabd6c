import hashlib
import re

import pytest
import torch

pytestmark = pytest.mark.filterwarnings('ignore:BA2M')


def test_published_is_what_describes_the_network(
    trained, checkpoint, convert, tmp_path
):
    report = convert('publish_model', checkpoint, tmp_path / 'net.pth')
    report = report[report.index('dropped: ') :]
    path = next(tmp_path.glob('net-*.pth'))
    digest = hashlib.sha256(path.read_bytes()).hexdigest()
    # torch.hub checks a download against this part of the name
    assert re.fullmatch(r'net-([0-9a-f]{8})\.pth', path.name)[1] == digest[:8]
    assert f'wrote {path} ' in report
    dropped = ('ema_state_dict', 'message_hub', 'optimizer', 'param_sched')
    for key in dropped:
        assert key in report.splitlines()[0]

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


def test_the_same_network_has_the_same_name_and_is_not_overwritten(
    trained, checkpoint, convert, tmp_path
):
    # a name like the input's leaves the input alone
    before = checkpoint.read_bytes()
    convert('publish_model', checkpoint, checkpoint)
    assert checkpoint.read_bytes() == before
    (path,) = tmp_path.glob('annealed-*.pth')
    message = convert('publish_model', checkpoint, checkpoint, fails=True)
    assert message.endswith(
        f'publish_model: {path} exists already, choose another name'
    )


@pytest.mark.parametrize(
    ('content', 'named'),
    [
        (dict(a=torch.ones(2)), 'has no meta and no state_dict'),
        (dict(meta={}, model={}), 'has no state_dict'),
        (dict(meta={}, state_dict={}), 'no weights, but nothing'),
        (
            dict(
                meta={},
                state_dict=dict(
                    a=torch.ones(2),
                    b=torch.tensor([1, float('nan')]),
                    c=torch.tensor([float('inf')]),
                ),
            ),
            '2 weights are NaN or infinite: b, c',
        ),
    ],
)
def test_what_is_no_trained_network_is_refused(
    content, named, convert, tmp_path
):
    torch.save(content, tmp_path / 'in.pth')
    message = convert(
        *('publish_model', tmp_path / 'in.pth', tmp_path / 'o.pth'), fails=True
    )
    assert 'in.pth' in message and named in message
    assert [path.name for path in tmp_path.iterdir()] == ['in.pth']


def test_a_damaged_or_missing_file_is_named(convert, tmp_path):
    (tmp_path / 'half.pth').write_bytes(b'PK')
    message = convert(
        'publish_model', tmp_path / 'half.pth', 'out.pth', fails=True
    )
    assert 'half.pth is damaged' in message
    message = convert(
        'publish_model', tmp_path / 'none.pth', 'out.pth', fails=True
    )
    assert 'none.pth not found' in message
