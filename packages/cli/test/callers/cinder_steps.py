"""Cinder's own functions: what its volume service does to images, and to volumes that are files."""
import json
import os
import shutil
from unittest import mock

from cinder import context, objects, utils
from cinder.image import image_utils as images
from oslo_config import cfg

from steps import IMAGES, PASSWORD, at, some, step

CONF = cfg.CONF
CONF([], project='cinder', default_config_files=[])
CONF.set_override('image_conversion_dir', at('conversion'))
CONF.set_override('lock_path', at('locks'), 'oslo_concurrency')
CONF.set_override('image_compress_on_upload', True)
os.makedirs(at('conversion'))
objects.register_all()
from cinder.volume.drivers import remotefs  # noqa: E402 (it wants the objects)
# Nobody to ask for more rights.
utils.get_root_helper = lambda: 'env'
with open(at('password'), 'w') as file:
    file.write(PASSWORD)

# It calls VHD images `vhd`, which QEMU does not know, and ours does: nothing to compare.
KNOWN = [name for name in IMAGES if not name.endswith('.vpc')]

step('version', images.get_qemu_img_version)
step('new enough', images.check_qemu_img_version, '2.10')
for name in KNOWN:
    step(f'info {name}', images.qemu_img_info, at(name), run_as_root=False)
    step(f'shared info {name}', images.qemu_img_info, at(name), force_share=True, allow_qcow2_backing_file=True)

for source, form in some((('is-data.qcow2', 'qcow2'), ('is-data.raw', 'raw'), ('is-stream.vmdk', 'vmdk'))):
    for target in some(('raw', 'qcow2', 'vmdk', 'vpc', 'vhdx')):
        step(f'{form} to {target}', images.convert_image, at(source), at(f'{form}-to.{target}'), target, src_format=form, compress=True)
step('fixed', images.convert_image, at('is-data.raw'), at('fixed.vpc'), 'vpc', out_subformat='fixed', src_format='raw')
step('ami', images.convert_image, at('is-data.raw'), at('from.ami'), 'qcow2', src_format='ami')
step('not what it says', images.convert_image, at('is-data.raw'), at('no.raw'), 'raw', src_format='qcow2')
cipher = {'cipher_alg': 'aes-256', 'cipher_mode': 'xts', 'ivgen_alg': 'plain64'}
step('to luks', images.convert_image, at('is-small.qcow2'), at('to.luks'), 'luks', src_format='qcow2', cipher_spec=cipher, passphrase_file=at('password'))
step('from luks to luks', images.convert_image, at('is-encrypted.qcow2'), at('again.luks'), 'luks', src_format='qcow2',
     passphrase_file=at('password'), src_passphrase_file=at('password'), data=images.qemu_img_info(at('is-encrypted.qcow2')))
step('from luks to clear', images.convert_image, at('is-encrypted.qcow2'), at('no.raw'), 'raw', src_format='qcow2', src_passphrase_file=at('password'))

for name in ('is-data.qcow2', 'is-data.raw'):
    shutil.copy(at(name), at(f'grown-{name}'))
    step(f'resize {name}', images.resize_image, at(f'grown-{name}'), 1, file_format=name.split('.')[1])
    step(f'resize {name} again', images.resize_image, at(f'grown-{name}'), 2)


class Glance:
    temp_images = mock.MagicMock()

    def __init__(self, name):
        self.name = name
        self.temp_images.get.return_value = None

    def show(self, _context, _image):
        last = self.name.split('.')[-1]
        return {'id': '1', 'disk_format': last, 'container_format': 'bare', 'size': os.path.getsize(at(self.name)), 'properties': {}}

    def download(self, _context, _image, file):
        with open(at(self.name), 'rb') as source:
            shutil.copyfileobj(source, file)

    def update(self, _context, _image, _meta, data, **_):
        with open(at(f'uploaded-{self.name}'), 'wb') as target:
            shutil.copyfileobj(data, target)


admin = context.RequestContext('u', 'p', is_admin=True)
for name in KNOWN:
    # Cinder asks whether the volume can hold the disk, in whole GiB.
    step(f'fetch {name}', images.fetch_to_volume_format, admin, Glance(name), '1', at(f'volume-{name}'), 'raw', '1M', size=1, run_as_root=False)
    step(f'verify {name}', images.fetch_verify_image, admin, Glance(name), '1', at(f'verified-{name}'))


def upload(name, form):
    meta = {'id': '1', 'disk_format': form, 'container_format': 'bare'}
    images.upload_volume(admin, Glance(name), meta, at(name), volume_format='raw', run_as_root=False, compress=True)
    shutil.move(at(f'uploaded-{name}'), at(f'uploaded-{form}'))


for form in ('raw', 'qcow2', 'vmdk', 'vhdx'):
    step(f'upload as {form}', upload, 'is-data.raw', form)

# Volumes that are files, as the NFS driver and its kin have them; only what they find in a database is made up.
driver = object.__new__(remotefs.RemoteFSSnapDriverDistributed)
driver._execute = utils.execute
driver._execute_as_root = False
driver._remotefsclient = mock.Mock()
driver.configuration = mock.Mock(nas_secure_file_operations='true')
driver._set_rw_permissions = lambda path: None
driver._local_volume_dir = lambda volume: os.getcwd()
driver._delete = os.unlink
driver._qemu_img_info = lambda path, name: images.qemu_img_info(path, force_share=True, run_as_root=False, allow_qcow2_backing_file=True)
key = mock.Mock()
key.get_encoded.return_value = b'0123456789abcdef'
encryption = {'encryption_key_id': 'k', 'cipher': 'aes-xts-plain64', 'key_size': 256, 'provider': 'luks'}


def snapshot(volume, backing, name, encrypted):
    wanted = mock.Mock()
    wanted.volume.name = volume
    wanted.volume.size = 1
    wanted.volume.encryption_key_id = 'k' if encrypted else None
    driver._do_create_snapshot(wanted, backing, at(name))


with mock.patch('cinder.volume.drivers.remotefs.key_manager.API') as manager, \
        mock.patch('cinder.volume.volume_utils.check_encryption_provider', return_value=encryption):
    manager.return_value.get.return_value = key
    step('qcow2 volume', driver._create_qcow2_file, at('volume'), 1)
    step('first snapshot', snapshot, 'volume', 'volume', 'volume.1', False)
    step('second snapshot', snapshot, 'volume', 'volume.1', 'volume.2', False)
    step('third snapshot', snapshot, 'volume', 'volume.2', 'volume.3', False)
    step('what backs it', lambda: [driver._qemu_img_info(at(f'volume.{n}'), 'v').backing_file for n in (1, 2, 3)])
    step('commit', driver._img_commit, at('volume.2'))
    step('rebase', driver._rebase_img, at('volume.3'), 'volume.1', 'qcow2')
    step('commit of the last', driver._img_commit, at('volume.3'))
    step('encrypted volume', driver._create_encrypted_volume_file, at('noise'), 1, encryption, admin)
    step('encrypted snapshot', snapshot, 'noise', 'noise', 'noise.1', True)
    with open(at('key'), 'w') as file:
        file.write(key.get_encoded().hex())
    # Since QEMU 6.1 that needs the format of the backing file; later releases of Cinder say it.
    step('encrypted snapshot of later releases', utils.execute, 'qemu-img', 'create', '-f' 'qcow2', '-o',
         'encrypt.format=luks,encrypt.key-secret=s1,encrypt.cipher-alg=aes-256,encrypt.cipher-mode=xts,encrypt.ivgen-alg=plain64',
         '-b', 'json:' + json.dumps({'driver': 'qcow2', 'encrypt.key-secret': 's0', 'backing.encrypt.key-secret': 's0',
                                     'backing.file.filename': at('noise'), 'file': {'driver': 'file', 'filename': at('noise')}}),
         '-F', 'qcow2', '--object', f'secret,id=s0,file={at("key")}', '--object', f'secret,id=s1,file={at("key")}', at('noise.1'))
    step('encrypted rebase', driver._rebase_img, at('noise.1'), 'noise', 'qcow2', at('key'))
    step('encrypted commit', driver._img_commit, at('noise.1'), at('key'), at('noise'))
