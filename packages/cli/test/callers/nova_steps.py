"""Nova's own functions: what its compute service does to images and disks."""
import os
import shutil

from nova import conf
from nova.virt import images
from nova.virt.disk import api as disk
from nova.virt.image import model
from nova.virt.libvirt import driver, imagebackend
from nova.virt.libvirt import utils as libvirt
import nova.privsep

from steps import IMAGES, PASSWORD, at, some, step

CONF = conf.CONF
CONF([], default_config_files=[])
CONF.set_override('instances_path', at('instances'))
CONF.set_override('lock_path', at('locks'), 'oslo_concurrency')
CONF.set_override('force_raw_images', True)
os.makedirs(at('instances'), exist_ok=True)
# Nobody to ask for more rights.
nova.privsep.sys_admin_pctxt.set_client_mode(False)

for name in IMAGES:
    step(f'info {name}', images.qemu_img_info, at(name))
    step(f'privileged info {name}', images.privileged_qemu_img_info, at(name))
    step(f'size {name}', libvirt.get_disk_size, at(name))
    step(f'backing {name}', libvirt.get_disk_backing_file, at(name), basename=False)
for form in ('raw', 'qcow2', 'vmdk', 'vpc', 'nope'):
    step(f'info as {form}', images.qemu_img_info, at('is-data.qcow2'), format=form)
step('info of nothing', images.qemu_img_info, at('nothing'))
step('info of a folder', images.qemu_img_info, at('instances'))
step('size of a disk', disk.get_disk_size, at('is-data.qcow2'))

step('create raw', libvirt.create_image, at('new.raw'), 'raw', '10M')
step('create qcow2', libvirt.create_image, at('new.qcow2'), 'qcow2', 10 << 20)
step('create on a base', libvirt.create_image, at('overlay.qcow2'), 'qcow2', 64 << 20, backing_file=at('is-data.qcow2'))
step('create of the size of the base', libvirt.create_image, at('same.qcow2'), 'qcow2', None, backing_file=at('is-small.qcow2'))
step('create on raw', libvirt.create_image, at('on-raw.qcow2'), 'qcow2', '64M', backing_file=at('is-data.raw'))
step('create on vmdk', libvirt.create_image, at('on-vmdk.qcow2'), 'qcow2', '64M', backing_file=at('is-stream.vmdk'))
step('create on an overlay', libvirt.create_image, at('no.qcow2'), 'qcow2', '64M', backing_file=at('is-overlay.qcow2'))
secret = {'secret': PASSWORD, 'format': 'luks'}
step('create encrypted', libvirt.create_image, at('noise.qcow2'), 'qcow2', '4M', encryption=secret)
step('create of no format', libvirt.create_image, at('no'), 'nope', '1M')
step('create of no size', libvirt.create_image, at('no'), 'qcow2', 'large')

for source, form in some((('is-data.qcow2', 'qcow2'), ('is-data.raw', 'raw'), ('is-stream.vmdk', 'vmdk'), ('is-dynamic.vpc', 'vpc'))):
    for target in some(('raw', 'qcow2', 'vmdk', 'vpc', 'vdi')):
        step(f'{form} to {target}', images.convert_image, at(source), at(f'{form}-to.{target}'), form, target)
step('compressed', images.convert_image, at('is-data.raw'), at('packed.qcow2'), 'raw', 'qcow2', compress=True)
step('as root', images.convert_image, at('is-data.raw'), at('root.qcow2'), 'raw', 'qcow2', run_as_root=True)
step('unsafe', images.convert_image_unsafe, at('is-data.qcow2'), at('unsafe.raw'), 'raw')
step('of another format', images.convert_image, at('is-data.raw'), at('no.raw'), 'qcow2', 'raw')
step('of damage', images.convert_image, at('is-damaged.qcow2'), at('no.raw'), 'qcow2', 'raw')
for form in ('raw', 'qcow2', 'iso', 'ploop', 'vmdk'):
    step(f'snapshot as {form}', libvirt.extract_snapshot, at('overlay.qcow2'), 'qcow2', at(f'snapshot.{form}'), form)


def extend(name, form, size):
    shutil.copy(at(f'is-{name}'), at(f'grown-{name}'))
    disk.extend(model.LocalFileImage(at(f'grown-{name}'), form), size)


step('extend qcow2', extend, 'data.qcow2', model.FORMAT_QCOW2, 32 << 20)
step('extend raw', extend, 'data.raw', model.FORMAT_RAW, 32 << 20)
step('extend to less', extend, 'small.qcow2', model.FORMAT_QCOW2, 1 << 20)
step('extend vmdk', extend, 'stream.vmdk', 'vmdk', 32 << 20)
step('extend what it is not', extend, 'dynamic.vhd', model.FORMAT_QCOW2, 32 << 20)

rebase = driver.LibvirtDriver._rebase_with_qemu_img
step('onto nothing', rebase, at('overlay.qcow2'), None)
step('onto another', rebase, at('same.qcow2'), at('new.qcow2'))
step('onto a neighbour', rebase, at('on-raw.qcow2'), 'is-small.qcow2')
step('onto what is not there', rebase, at('on-raw.qcow2'), at('nothing'))


def fetched(name):
    """A download of which Glance says no more than its name; the safety checks are Nova's."""
    images.IMAGE_API = type('Glance', (), {
        'download': lambda self, context, image, dest_path, **_: shutil.copy(at(name), dest_path),
        'get': lambda self, context, image: {'disk_format': {'vhd': 'vhd'}.get(name.split('.')[-1], name.split('.')[-1])},
    })()
    images.fetch_to_raw(None, name, at(f'fetched-{name}'))
    return sorted(one for one in os.listdir('.') if one.startswith('fetched-'))


for name in IMAGES:
    step(f'fetch {name}', fetched, name)


def backend(kind, name, base, size):
    kind(path=at(f'instances/{name}')).create_image(
        lambda target, **_: shutil.copy(at(base), target), at(f'instances/base-{name}'), size, image_id='1')


step('a disk on a base', backend, imagebackend.Qcow2, 'disk', 'is-data.qcow2', 48 << 20)
step('a flat disk', backend, imagebackend.Flat, 'flat', 'is-data.raw', 48 << 20)
step('a disk that is too small', backend, imagebackend.Qcow2, 'tight', 'is-data.qcow2', 1 << 20)
