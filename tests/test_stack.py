import re
import warnings
from importlib import metadata

import pytest

from mmba2m import stack

GOOD = dict(torch='2.1.2+cu121', mmengine='0.10.7', mmcv='2.1.0')
GOOD.update(mmdet='3.3.0', mmpretrain='1.2.0')
ONEDL = {
    'torch': '2.11.0+cu130',
    'onedl-mmengine': '0.10.12',
    'onedl-mmcv': '2.3.6',
    'onedl-mmdetection': '3.5.1',
    'onedl-mmpretrain': '1.3.6',
}


@pytest.fixture
def check(monkeypatch):
    """The check where exactly these distributions are installed."""

    def check(versions, ops=True):
        def version(name):
            if name not in versions:
                raise metadata.PackageNotFoundError(name)
            return versions[name]

        monkeypatch.setattr(stack.metadata, 'version', version)
        monkeypatch.setattr(stack, 'has_ops', lambda: ops)
        with warnings.catch_warnings(record=True) as caught:
            warnings.simplefilter('always')
            hosts = stack.check_stack()
        return hosts, [str(one.message) for one in caught]

    return check


def without(*names, **others):
    return {k: v for k, v in {**GOOD, **others}.items() if k not in names}


@pytest.mark.parametrize(
    ('versions', 'hosts'),
    [
        (GOOD, stack.HOSTS),
        (ONEDL, stack.HOSTS),
        # pre-releases
        (without(torch='2.9.0.dev20250801', mmcv='2.2.0rc1'), stack.HOSTS),
        # hosts are optional
        (without('mmdet'), ('mmpretrain',)),
        (without('mmpretrain'), ('mmdet',)),
        (without('mmdet', 'mmpretrain'), ()),
    ],
)
def test_supported_stacks_pass_silently(check, versions, hosts):
    assert check(versions) == (hosts, [])


@pytest.mark.parametrize(
    ('name', 'version'),
    [
        *((name, None) for name in ('torch', 'mmengine', 'mmcv')),
        *(('torch', '2.0.1+cu118'), ('mmengine', '0.10.3')),
        *(('mmengine', '1.0.0'), ('mmcv', '2.0.1'), ('mmcv', '2.4.0')),
    ],
)
def test_a_missing_or_unsupported_base_is_named(check, name, version):
    found = f'{name} {version} is' if version else f'{name} is not'
    wanted = f'{name}{stack.SUPPORTED[name][1]} is needed'
    versions = without(**{name: version}) if version else without(name)
    message = re.escape(f'{found} installed, {wanted}')
    with pytest.raises(ImportError, match=message):
        check(versions)


@pytest.mark.parametrize(
    ('name', 'version', 'other'),
    [
        ('mmdet', '3.2.0', 'mmpretrain'),
        ('mmdet', '3.6.0', 'mmpretrain'),
        ('mmpretrain', '1.1.1', 'mmdet'),
        ('mmpretrain', '1.4.0', 'mmdet'),
    ],
)
def test_one_unsupported_host(check, name, version, other):
    wanted = f'{name}{stack.SUPPORTED[name][1]} is needed'
    message = f'{name} {version} is installed, {wanted}'
    hosts, (warning,) = check(without(**{name: version}))
    assert hosts == (other,) and message in warning
    # both, and alone
    with pytest.raises(ImportError, match=re.escape(message)) as both:
        check(without(**{name: version, other: '0.1'}))
    assert f'{other} 0.1 is installed' in str(both.value)
    with pytest.raises(ImportError, match=re.escape(message)):
        check(without(other, **{name: version}))


@pytest.mark.parametrize('distribution', ['mmcv', 'mmcv-lite'])
def test_mmcv_without_ops(check, distribution):
    versions = {**without('mmcv'), distribution: '2.1.0'}
    hosts, (message,) = check(versions, ops=False)
    assert hosts == ('mmpretrain',)
    assert f'{distribution} 2.1.0 was installed without them' in message
    assert message.endswith('--no-binary mmcv mmcv==2.1.0.')
    mmpretrain = versions.pop('mmpretrain')
    with pytest.raises(ImportError, match=rf'{distribution} 2\.1\.0'):
        check(versions, ops=False)
    # which needs none
    del versions['mmdet']
    versions['mmpretrain'] = mmpretrain
    assert check(versions, ops=False) == (('mmpretrain',), [])


def test_ops_are_looked_for_without_importing_mmcv(tmp_path, monkeypatch):
    folder = tmp_path / 'mmcv'
    folder.mkdir()
    (folder / '__init__.py').write_text('raise OSError')
    spec = stack.find_spec('mmcv')
    monkeypatch.setattr(spec, 'submodule_search_locations', [str(folder)])
    monkeypatch.setattr(stack, 'find_spec', lambda name: spec)
    assert not stack.has_ops()
    (folder / '_ext.py').touch()
    assert stack.has_ops()
    monkeypatch.setattr(stack, 'find_spec', lambda name: None)
    assert not stack.has_ops()
