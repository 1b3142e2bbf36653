"""ironic-lib's functions, with which Ironic and its agent write images to disks."""
from ironic_lib import disk_utils
from ironic_lib import utils
from oslo_config import cfg

from steps import IMAGES, at, step

cfg.CONF([], project='ironic', default_config_files=[])
# Nobody to ask for more rights.
utils._get_root_helper = lambda: 'env'

step('info of nothing', disk_utils.qemu_img_info, at('nothing'))
for name in IMAGES:
    step(f'info {name}', disk_utils.qemu_img_info, at(name))
    step(f'size of {name}', disk_utils.get_image_mb, at(name))
    step(f'write {name}', disk_utils.populate_image, at(name), at(f'written-{name}'))
step('cache and order', disk_utils.convert_image, at('is-data.qcow2'), at('ordered.raw'), 'raw', cache='directsync', out_of_order=True, sparse_size='0')
step('holes', disk_utils.convert_image, at('is-data.qcow2'), at('holes.raw'), 'raw', cache='writeback', sparse_size='64k')
step('to nowhere', disk_utils.convert_image, at('is-data.qcow2'), at('none/x.raw'), 'raw')
