import warnings
from importlib import metadata

import pytest

from mmba2m import stack

GOOD = {
    'torch': '2.1.2+cu121',
    'mmengine': '0.10.7',
    'mmcv': '2.1.0',
    'mmdet': '3.3.0',
    'mmpretrain': '1.2.0',
}
BASE = ('torch', 'mmengine', 'mmcv')


@pytest.fixture
def install(monkeypatch):
    """Pretends that exactly these distributions are installed."""

    def pretend(versions, ops=True):
        def version(name):
            if name not in versions:
                raise metadata.PackageNotFoundError(name)
            return versions[name]

        monkeypatch.setattr(stack.metadata, 'version', version)
        monkeypatch.setattr(stack, 'has_ops', lambda: ops)

    return pretend


def without(*names, **others):
    return {k: v for k, v in {**GOOD, **others}.items() if k not in names}


@pytest.mark.parametrize(
    ('versions', 'hosts'),
    [
        (GOOD, stack.HOSTS),
        (
            {
                'torch': '2.11.0+cu130',
                'onedl-mmengine': '0.10.12',
                'onedl-mmcv': '2.3.6',
                'onedl-mmdetection': '3.5.1',
                'onedl-mmpretrain': '1.3.6',
            },
            stack.HOSTS,
        ),
        # pre-releases
        (without(torch='2.9.0.dev20250801', mmcv='2.2.0rc1'), stack.HOSTS),
        # hosts are optional
        (without('mmdet'), ('mmpretrain',)),
        (without('mmpretrain'), ('mmdet',)),
        (without('mmdet', 'mmpretrain'), ()),
    ],
)
def test_supported_stacks_pass_silently(install, versions, hosts):
    install(versions)
    with warnings.catch_warnings():
        warnings.simplefilter('error')
        assert stack.check_stack() == hosts


@pytest.mark.parametrize(
    ('name', 'version'),
    [
        *((name, None) for name in BASE),
        ('torch', '2.0.1+cu118'),
        ('mmengine', '0.10.3'),
        ('mmengine', '1.0.0'),
        ('mmcv', '2.0.1'),
        ('mmcv', '2.4.0'),
    ],
)
def test_a_missing_or_unsupported_base_is_named(install, name, version):
    found = f'{name} {version} is' if version else f'{name} is not'
    install(without(name) if version is None else without(**{name: version}))
    with pytest.raises(ImportError) as error:
        stack.check_stack()
    wanted = f'{name}{stack.SUPPORTED[name][1]} is needed'
    assert f'{found} installed, {wanted}' in str(error.value)


@pytest.mark.parametrize(
    ('name', 'version', 'other'),
    [
        ('mmdet', '3.2.0', 'mmpretrain'),
        ('mmdet', '3.6.0', 'mmpretrain'),
        ('mmpretrain', '1.1.1', 'mmdet'),
        ('mmpretrain', '1.4.0', 'mmdet'),
    ],
)
def test_one_unsupported_host(install, name, version, other):
    message = (
        f'{name} {version} is installed, '
        f'{name}{stack.SUPPORTED[name][1]} is needed'
    )
    install(without(**{name: version}))
    with pytest.warns(UserWarning) as caught:
        assert stack.check_stack() == (other,)
    assert len(caught) == 1
    assert message in str(caught[0].message)

    # both, and alone
    install(without(**{name: version, other: '0.1'}))
    with pytest.raises(ImportError, match=f'{other} 0.1 is installed') as both:
        stack.check_stack()
    assert message in str(both.value)
    install(without(other, **{name: version}))
    with pytest.raises(ImportError) as error:
        stack.check_stack()
    assert message in str(error.value)


@pytest.mark.parametrize('distribution', ['mmcv', 'mmcv-lite'])
def test_mmcv_without_ops(install, distribution):
    versions = {**without('mmcv'), distribution: '2.1.0'}
    install(versions, ops=False)
    with pytest.warns(UserWarning) as caught:
        assert stack.check_stack() == ('mmpretrain',)
    message = str(caught[0].message)
    assert f'{distribution} 2.1.0 was installed without them' in message
    assert message.endswith('--no-binary mmcv mmcv==2.1.0.')
    mmpretrain = versions.pop('mmpretrain')
    with pytest.raises(ImportError, match=rf'{distribution} 2\.1\.0'):
        stack.check_stack()
    # which needs none
    versions['mmpretrain'] = mmpretrain
    del versions['mmdet']
    with warnings.catch_warnings():
        warnings.simplefilter('error')
        assert stack.check_stack() == ('mmpretrain',)


def test_this_environment_passes():
    assert stack.has_ops()
    for name in stack.SUPPORTED:
        assert stack.find_problem(name) is None


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
