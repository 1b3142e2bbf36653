/** The known differences between ours and qemu-img 7.2, each with its reason. Whatever is not in this table must be equal. `docs/qemu-img.md` shows it. */
import type { Answer, Aspect, Outcome } from './runner.ts'

/** A difference that stays. */
export interface KnownDifference {
  /** What differs, for people. */
  what: string
  /** Why it stays. */
  reason: string
  /** In what they may differ. */
  aspects: readonly Aspect[]
  /** Whether it is this one. */
  covers(line: string, outcome: Outcome): boolean
}

const lineIs =
  (pattern: RegExp) =>
  (line: string): boolean =>
    pattern.test(line)

/** Both ended alike, and not well. */
function bothFailed({ theirs, ours }: Outcome): boolean {
  return theirs.code === ours.code && theirs.code !== 0
}

function ended(answer: Answer, code: number): boolean {
  return answer.code === code
}

/** Equal once `change` was done to what theirs said and to what ours said. */
function equalBut(stream: 'stdout' | 'stderr', change: (text: string) => string) {
  return (_line: string, { theirs, ours }: Outcome): boolean => change(theirs[stream]) === change(ours[stream])
}

function literally(text: string): string {
  return text.replaceAll(/[\\^$.*+?()[\]{}|]/g, '\\$&')
}

const percentages = /( {4}\(\d+\.\d\d\/100%\)\r)+/g

/** What differs and is not in the table. `met` is told which of the known ones were. */
export function unexplained(line: string, outcome: Outcome, met?: (what: string) => void): [Aspect, string][] {
  const differences = new Map(outcome.differences)
  for (const known of knownDifferences) {
    if (!known.aspects.some((aspect) => outcome.differences.has(aspect)) || !known.covers(line, outcome)) continue
    met?.(known.what)
    for (const aspect of known.aspects) differences.delete(aspect)
  }
  return [...differences]
}

export const knownDifferences: readonly KnownDifference[] = [
  {
    what: 'Help and version say that this is moraine',
    reason:
      'The help is written from the same tables as the man pages; its layout, and the line with the version, are those that programs look for.',
    aspects: ['stdout'],
    covers: (_line, { theirs, ours }) =>
      theirs.code === ours.code &&
      theirs.stdout.startsWith('qemu-img version 7.2') &&
      ours.stdout.startsWith('qemu-img version 7.2'),
  },
  {
    what: 'Messages name the file where QEMU says `#block` and a number',
    reason: 'QEMU draws the number anew for each run, and it says nothing to people.',
    aspects: ['stderr'],
    covers: (_line, { theirs, ours }) =>
      /#block\d+/.test(theirs.stderr) &&
      new RegExp(
        `^${theirs.stderr
          .split(/#block\d+/)
          .map(literally)
          .join('\\S+')}$`,
      ).test(ours.stderr),
  },
  {
    what: 'Nothing is left of an image that could not be made',
    reason: 'QEMU leaves an empty or half-made file behind; here it is made beside its name, and removed.',
    aspects: ['files'],
    covers: (_line, outcome) =>
      bothFailed(outcome) && /^(- (\S+): file\n\+ \2: absent\n?)+$/.test(outcome.differences.get('files') ?? ''),
  },
  {
    what: '`convert --target-is-zero` refuses a backing file with 1',
    reason: 'QEMU says why it copies nothing, and ends with 0, as if it had.',
    aspects: ['exit code'],
    covers: (line, { theirs, ours }) =>
      line.includes('--target-is-zero') &&
      theirs.stderr === ours.stderr &&
      theirs.stderr.includes('has a backing file'),
  },
  {
    what: 'Progress is told at other moments',
    reason:
      'The percentages count the same bytes, but requests are cut and overlap differently, and a job of QEMU repeats itself while it waits.',
    aspects: ['stdout'],
    covers: (line, outcome) =>
      / -p /.test(line) &&
      equalBut('stdout', (text) => text.replaceAll(percentages, '…').replaceAll(/…\n?/g, ''))(line, outcome),
  },
  {
    what: 'Bitmaps, and counts of another width, lie elsewhere in a qcow2 file',
    reason:
      'They are written anew before the old ones are given up, so that a crash loses neither; QEMU writes over them. Content, check and description are the same.',
    aspects: ['layout'],
    covers: lineIs(
      /^(bitmap|amend|resize|snapshot|rebase|commit|bench|check|convert .*--bitmaps|convert -n) .*\b(bits|kept)\d*\.qcow2|^amend .*refcount_bits=/,
    ),
  },
  {
    what: 'Images that are damaged in a way that can be lived with open, with a warning',
    reason: 'A VHD whose first footer is damaged has another one; what was recognised is said instead of nothing.',
    aspects: ['exit code', 'stdout', 'stderr', 'files'],
    covers: lineIs(/\bsum\.vpc/),
  },
  {
    what: 'A file too short for the header of a QED image is raw',
    reason: 'QEMU takes zeros for what is not there, and then says that a table lies at a wrong place.',
    aspects: ['exit code', 'stdout', 'stderr', 'files'],
    covers: lineIs(/\bstub\.qed/),
  },
  {
    what: 'A Parallels image that was cut is refused where bytes are missing',
    reason: 'QEMU reads zeros for what was lost, fills the file up when it opens it, and leaves leaks when it repairs.',
    aspects: ['exit code', 'stdout', 'stderr', 'files', 'layout'],
    covers: lineIs(/\bcut\.hds/),
  },
  {
    what: '`rebase` refuses before it copies what could not be recorded afterwards',
    reason:
      'QEMU fills the image up first, and only then finds that the format has no backing file or that -F is missing.',
    aspects: ['stdout', 'files', 'layout'],
    covers: (line, outcome) => line.startsWith('rebase ') && ended(outcome.theirs, 1) && ended(outcome.ours, 1),
  },
  {
    what: '`rebase` of an image of version 2 keeps what the guest sees',
    reason: 'QEMU 7.2 loses zeros there: where the new backing file has data and the old one had none, the data shows.',
    aspects: ['files', 'layout'],
    covers: lineIs(/^rebase .*\bv2\d*\.qcow2/),
  },
  {
    what: '`check` needs no password',
    reason: 'The metadata lie in clear; QEMU asks for the key all the same.',
    aspects: ['exit code', 'stdout', 'stderr'],
    covers: (line, { theirs }) => line.startsWith('check ') && theirs.stderr.includes('key-secret'),
  },
  {
    what: 'VHDX images of fixed size have their blocks in place',
    reason: 'QEMU marks the blocks of a fixed image as zeros and appends a second copy of all that is written.',
    aspects: ['layout'],
    covers: lineIs(/-[fO] vhdx .*subformat=fixed|subformat=fixed.* -[fO] vhdx\b/),
  },
  {
    what: '`convert -c -O qcow` ends with 0',
    reason: 'QEMU writes a good image and ends with 1, without a message.',
    aspects: ['exit code', 'layout'],
    covers: lineIs(/^convert .*-c .*-O qcow /),
  },
  {
    what: 'What is packed with zlib may be other bytes',
    reason: "Node's zlib finds other repetitions than Debian's; what comes out of them is the same.",
    aspects: ['layout'],
    covers: lineIs(/^convert .*-c .*\b(mixed|[a-z]+\d+)\.qcow2/),
  },
  {
    what: 'Tables of an image that was converted from a qcow overlay may lie elsewhere',
    reason:
      'Such overlays have clusters of 512 bytes, and QEMU asks, reads and writes each by itself; here neighbours are one request.',
    aspects: ['layout'],
    covers: lineIs(/^convert .*\bover\.qcow\b/),
  },
  {
    what: 'VMDK images of no size open',
    reason: 'QEMU makes them and then refuses them.',
    aspects: ['exit code', 'stderr', 'files'],
    covers: (_line, { theirs }) => theirs.stderr.includes("Unsupported image type 'monolithicSparse'"),
  },
  {
    what: '`dd` onto its own source is refused',
    reason: 'QEMU empties the source before it reads it.',
    aspects: ['exit code', 'stderr', 'files'],
    covers: lineIs(/^dd if=a\.raw of=a\.raw/),
  },
  {
    what: 'A bitmap in an image of no size, a snapshot where one count has no room',
    reason: 'QEMU stores a bitmap that it cannot read again, and leaks the copy of a table.',
    aspects: ['stderr', 'files', 'layout'],
    covers: lineIs(/^bitmap --add zero\.qcow2|^snapshot -c \S+ (lazy\d*|dirty)\.qcow2/),
  },
  {
    what: 'A Parallels image with a table of 4 GiB is refused',
    reason: 'No machine that is to write it would have the room; QEMU writes the table.',
    aspects: ['exit code', 'stderr', 'files'],
    covers: lineIs(/^create -f parallels new 1P/),
  },
  {
    what: '`amend -o compat=0.10` removes bitmaps',
    reason: 'Version 2 has none; QEMU leaves their clusters behind as leaks.',
    aspects: ['files'],
    covers: lineIs(/^amend .*compat=(0\.10|v2).*\b(bits|kept)\d*\.qcow2/),
  },
  {
    what: '`check -r` of an image with bitmaps keeps its snapshots',
    reason: 'QEMU forgets them: it writes the header when it opens the bitmaps, and has not read the snapshots yet.',
    aspects: ['exit code', 'stdout', 'stderr', 'files', 'layout'],
    covers: lineIs(/^check .*-r .*\bkept\d*\.qcow2/),
  },
  {
    what: '`amend -o compat=0.10` of an image with snapshots and zero clusters is refused',
    reason: 'Where clusters are shared, QEMU leaves flags that `check` calls corruptions.',
    aspects: ['exit code', 'stderr', 'files', 'layout'],
    covers: (line, { ours }) =>
      line.startsWith('amend ') && ours.stderr.includes('internal snapshots and zero clusters cannot be downgraded'),
  },
  {
    what: 'A cluster that was given up is taken again a little later',
    reason:
      'Its count drops in the file only after nothing points there any more; until then new clusters are taken at the end.',
    aspects: ['layout'],
    covers: lineIs(/^commit .*\btop\d*\.qcow2|^convert -n .*\b(q|v2)\.qcow2$/),
  },
  {
    what: '`convert -n` writes no zeros where the image reads as zeros',
    reason:
      'QEMU takes space for them and fills it with zeros where a format cannot state them (VMDK, qcow, Parallels), and states them in a QED image. The guest sees the same, and the image stays smaller.',
    aspects: ['files', 'layout'],
    covers: (line, { differences }) =>
      /^convert -n .*\.(vmdk|qcow|qed|hds)$/.test(line) &&
      /^(\S+: other answer to check\n|$)/.test(differences.get('files') ?? ''),
  },
  {
    what: '`dd -O qed` has its table behind the data',
    reason:
      'What is copied goes out in larger requests; QEMU writes block after block, and the table behind the first.',
    aspects: ['layout'],
    covers: lineIs(/^dd .*-O qed /),
  },
  {
    what: 'Requests that overlap take space in the order in which they get there',
    reason: 'With -W, in `bench` and in `commit`, nobody promises an order; two runs of one program differ, too.',
    aspects: ['layout'],
    covers: lineIs(/ -W |^bench .*-w|^commit .*\btop\d*\.qcow2/),
  },
  {
    what: 'The rest of the last cluster or grain of a file',
    reason:
      'A streamOptimized VMDK is not filled up behind its last grain, and an encrypted qcow not behind its last sector; `resize --preallocation=metadata` copies nothing from the backing file to behind the end of the disk: nobody reads it.',
    aspects: ['layout'],
    covers: lineIs(/subformat=streamOptimized|-O qcow -o encrypt|^resize --preallocation=metadata [a-z]+\d+\.qcow2/),
  },
  {
    what: 'Flags in the tables of internal snapshots',
    reason: 'They mean nothing in a table that is not active; QEMU sets some and clears others.',
    aspects: ['layout'],
    covers: lineIs(/^snapshot .*\b((snaps|kept|lazy)\d*|zero)\.qcow2/),
  },
  {
    what: 'A qcow2 image that was shrunk keeps the clusters of its counts, and the rest of its last cluster',
    reason: 'They are few, and are used again when it grows; giving them up would need one more change of the header.',
    aspects: ['layout'],
    covers: lineIs(/^resize .*--shrink|^amend .*-o size=/),
  },
  {
    what: 'A warning is not said twice',
    reason: 'QEMU opens a raw image again after it could not apply a snapshot, and warns again.',
    aspects: ['stderr'],
    covers: (line, { theirs, ours }) =>
      line.startsWith('snapshot -a ') &&
      new Set(theirs.stderr.split('\n')).size === new Set(ours.stderr.split('\n')).size,
  },
  {
    what: 'Options of later releases are taken, and `--object` by all verbs',
    reason: 'QEMU 10 has them, and scripts may be written for it.',
    aspects: ['exit code', 'stdout', 'stderr', 'files', 'layout'],
    covers: (line, { theirs }) =>
      /^(snapshot -f|bench --object|rebase (-c|--compress))/.test(line) &&
      theirs.stderr.includes('unrecognized option'),
  },
  {
    what: '`vhd` is taken as a name of the format `vpc`',
    reason: 'People know it by that name. Images that are made name it `vpc`, as QEMU wants it.',
    aspects: ['exit code', 'stdout', 'stderr', 'files', 'layout'],
    covers: (line, { theirs }) => /( -[fFO] |driver=)vhd\b/.test(line) && theirs.code !== 0,
  },
  {
    what: 'Of two mistakes in one line the other one may be told',
    reason: 'The order in which QEMU comes upon them has no meaning.',
    aspects: ['stderr'],
    covers: (line, outcome) =>
      bothFailed(outcome) &&
      /^bitmap --merge nope -b|^convert .*-F nope|^snapshot -U .*--image-opts|-[tT] none .*\bdir\b|^commit (dir|stub\.luks)$|^rebase .* -b v\.vmdk over\.vmdk/.test(
        line,
      ),
  },
]
