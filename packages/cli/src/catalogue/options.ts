/** Options that all verbs about catalogues take. */
import type { OptionSpec } from '../verb.ts'
import { outputFormat, progressMode, quiet, rehearsal, showProgress } from '../verbs/common.ts'

/** How a catalogue is reached, and who may vouch for it. */
export const catalogueOptions = {
  stream: {
    long: 'stream',
    argument: 'NAME',
    help: 'Which of the streams of the catalogue: release (the default), and for Ubuntu daily, minimal or minimal-daily.',
    shared: true,
  },
  mirror: {
    long: 'mirror',
    argument: 'URL|FOLDER',
    help: "Read from here in place of the publisher's server: a mirror, or a copy in a folder.",
    shared: true,
  },
  keyring: {
    long: 'keyring',
    argument: 'FILE',
    help: 'Believe the OpenPGP keys in this file in place of those that moraine brings (armoured, or as gpg --export writes them).',
    shared: true,
  },
  unsigned: {
    long: 'unsigned',
    help: 'Verify no signature: only digests are compared, which the same server tells.',
    shared: true,
  },
  allowOlder: {
    long: 'allow-older',
    help: 'Take a catalogue that is older than one that was seen before.',
    shared: true,
  },
  cacert: { long: 'cacert', argument: 'FILE', help: 'Certificates (PEM) that may vouch for the server.', shared: true },
} as const satisfies Record<string, OptionSpec>

/** Which images are meant. */
export const choiceOptions = {
  architecture: {
    long: 'arch',
    argument: 'ARCH',
    help: "For which processor, as in amd64 or aarch64 (default: this machine's); all for every one.",
  },
  kind: {
    long: 'kind',
    argument: 'KIND',
    help: 'Which kind of image, as in disk1.img, disk-kvm.img, squashfs, root.tar.xz or genericcloud.qcow2 (default: the usual disk).',
  },
  date: {
    long: 'date',
    argument: 'DATE',
    help: 'Which build, by its serial or the beginning of it, as in 20240423 (default: the newest).',
  },
} as const satisfies Record<string, OptionSpec>

/** Options of `list` alone. */
export const listOptions = {
  ...choiceOptions,
  all: { long: 'all', help: 'Every build, and releases that are not supported any more.' },
  output: outputFormat,
} as const satisfies Record<string, OptionSpec>

/** Options of `pull` alone. */
export const pullOptions = {
  ...choiceOptions,
  to: {
    long: 'to',
    argument: 'FILE',
    help: 'The image to make; its format is that of its name, as in disk.vmdk. Without it the file of the publisher is put into the current folder as it is.',
  },
  size: { long: 'size', argument: 'SIZE', help: 'Size of the disk, as in 20G: no less than the image has.' },
  seed: {
    long: 'seed',
    argument: 'FILE',
    help: 'User data for cloud-init: a seed disk with it is made beside the image, as in disk-seed.iso.',
  },
  targetFormat: { short: 'O', argument: 'FMT', help: 'Format of the image to make, where its name does not say.' },
  options: { short: 'o', argument: 'OPTIONS', help: 'Options of that format.', collect: true },
  compress: { short: 'c', help: 'Compress the image to make.' },
  noCache: { long: 'no-cache', help: 'Keep no copy of the original in the cache.' },
  percent: showProgress,
  progress: progressMode,
  quiet: { ...quiet, long: 'quiet' },
  ...rehearsal,
} as const satisfies Record<string, OptionSpec>
