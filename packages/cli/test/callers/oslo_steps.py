"""oslo.utils reads what `qemu-img info` prints, for people and as JSON; oslo.concurrency runs it under limits, as all of OpenStack does."""
from oslo_concurrency import processutils
from oslo_utils import imageutils

from steps import IMAGES, LIMIT, at, step

LIMITS = processutils.ProcessLimits(cpu_time=30, address_space=LIMIT)


def info(path, form, *more):
    out, err = processutils.execute(
        'env', 'LC_ALL=C', 'LANG=C', 'qemu-img', 'info', path, f'--output={form}', *more, prlimit=LIMITS)
    return {'parsed': imageutils.QemuImgInfo(out, format=form), 'err': err}


for name in IMAGES:
    step(f'json {name}', info, at(name), 'json')
    step(f'human {name}', info, at(name), 'human')
step('shared', info, at('is-snapshots.qcow2'), 'json', '--force-share')
