#!/bin/bash
# under-systemd.sh PROGRAM PACKAGING FOLDER: starts a systemd of its own, over a copy of this machine's files that is gone afterwards (an overlay in memory),
# installs the service as the guide says, and runs FOLDER/probe.sh there, which finds FOLDER as /probe and ends with `systemctl exit`. For `unshare`:
# the caller gives it mounts, processes, control groups and a network of its own, so that nothing here is seen from outside, and all of it ends with it.
set -eu
program=$1 packaging=$2 folder=$3
mount --make-rprivate /
memory=$folder/memory
mkdir -p "$memory" && mount -t tmpfs tmpfs "$memory"
mkdir "$memory"/{changes,work,root}
root=$memory/root
mount -t overlay overlay -o "lowerdir=/,upperdir=$memory/changes,workdir=$memory/work" "$root"

install -m 755 "$program" "$root/usr/bin/moraine"
install -m 644 "$packaging/moraine.service" "$root/etc/systemd/system/"
mkdir -p "$root/usr/lib/sysusers.d" "$root/etc/moraine"
install -m 644 "$packaging/moraine.sysusers" "$root/usr/lib/sysusers.d/moraine.conf"
cat > "$root/etc/systemd/system/probe.service" <<'UNIT'
[Unit]
DefaultDependencies=no
[Service]
Type=oneshot
ExecStart=/bin/bash /probe/probe.sh
StandardOutput=file:/probe/output
StandardError=inherit
UNIT

mkdir -p "$root/probe" && mount --bind "$folder" "$root/probe"
mount -t proc proc "$root/proc"
mount -t sysfs sysfs "$root/sys"
mount -t tmpfs tmpfs "$root/run"
mount -t tmpfs tmpfs "$root/tmp"
mount --rbind /dev "$root/dev"
groups=$root/sys/fs/cgroup
if [ "$(stat -f -c %T /sys/fs/cgroup)" = cgroup2fs ]; then
  mount -t cgroup2 cgroup2 "$groups"
else
  mount -t tmpfs tmpfs "$groups"
  mkdir "$groups/systemd" "$groups/unified"
  mount -t cgroup -o none,name=systemd cgroup "$groups/systemd"
  mount -t cgroup2 cgroup2 "$groups/unified"
fi
exec chroot "$root" env -i PATH=/usr/sbin:/usr/bin:/sbin:/bin container=other /lib/systemd/systemd --log-target=console --unit=probe.service
